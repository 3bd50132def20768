"""The published networks by name: a table with the source of each row, and ``build_model``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .checks import check_option

if TYPE_CHECKING:
    import keras

# name -> constructor arguments, and "model", the class if it is not WaveMixClassifier. image_shape and num_classes are
# those of the dataset of the publication; with other values a row fits other datasets too (wavemix_192_16_l3_p4:
# TinyImageNet 27.70M, Galaxy10 27.7M parameters).
# Sources: README and training scripts of the official repository; WaveMix, arXiv 2205.14375, tables 1-6.
VARIANTS: dict[str, dict[str, Any]] = {
    # WaveMix-Lite: one level. "_up" upsamples bilinearly instead of by a transposed convolution.
    "wavemix_lite_8_10_up": dict(width=8, depth=10, upsample="bilinear", image_shape=(28, 28, 1)),  # MNIST, 3,566
    "wavemix_lite_8_5": dict(width=8, depth=5, image_shape=(28, 28, 1)),  # Fashion-MNIST, 7,156 parameters
    "wavemix_lite_32_7": dict(width=32, depth=7),
    "wavemix_lite_32_7_up": dict(width=32, depth=7, upsample="bilinear"),  # CIFAR-10, 37,058
    "wavemix_lite_64_6": dict(width=64, depth=6),  # CIFAR-10, 520,106
    "wavemix_lite_112_16": dict(width=112, depth=16, num_classes=26, image_shape=(28, 28, 1)),  # EMNIST letters
    "wavemix_lite_128_7": dict(width=128, depth=7, num_classes=47, image_shape=(28, 28, 1)),  # EMNIST balanced
    "wavemix_lite_144_7": dict(width=144, depth=7),  # CIFAR-10, 3,042,550
    "wavemix_lite_256_8": dict(width=256, depth=8, num_classes=100),  # CIFAR-100, 10.95M
    "wavemix_lite_256_10": dict(width=256, depth=10, num_classes=100),  # CIFAR-100, 13.61M
    "wavemix_lite_256_12": dict(width=256, depth=12, num_classes=200, image_shape=(64, 64, 3)),  # TinyImageNet, 16.29M
    "wavemix_lite_320_8": dict(width=320, depth=8),  # CIFAR-10, 17.07M
    # WaveMix: l = levels, p = patchify stem and its patch size, s = strided stem and its stride.
    "wavemix_192_16_l1_p4": dict(width=192, depth=16, levels=1, stem="patchify", patch_size=4, num_classes=1000,
                                 image_shape=(224, 224, 3)),  # ImageNet-1k, 12.49M
    "wavemix_192_16_l3_p4": dict(width=192, depth=16, levels=3, stem="patchify", patch_size=4, num_classes=1000,
                                 image_shape=(224, 224, 3)),  # ImageNet-1k, 27.86M
    "wavemix_256_16_l3_p4": dict(width=256, depth=16, levels=3, stem="patchify", patch_size=4, num_classes=1000,
                                 image_shape=(224, 224, 3)),  # ImageNet-1k, 49.42M
    "wavemix_256_16_l4_s2": dict(width=256, depth=16, levels=4, stem="strided", stride=2, num_classes=1000,
                                 image_shape=(224, 224, 3)),  # ImageNet-1k, 62.76M
    "wavemix_256_12_l2_p8": dict(width=256, depth=12, levels=2, stem="patchify", patch_size=8, num_classes=365,
                                 image_shape=(256, 256, 3)),  # Places365, 28.45M
    # The first paper's block (arXiv 2203.03689), four levels; 256/7: Image_Classification/WaveMix_Version1.py.
    "wavemix_v1_128_7": dict(block="v1", width=128, depth=7, levels=4),
    "wavemix_v1_256_7": dict(block="v1", width=256, depth=7, levels=4, num_classes=1000, image_shape=(64, 64, 3)),
    # The third version's block: Image_Classification/WaveMixV3.py.
    "wavemix_v3_144_16": dict(width=144, depth=16, expansion=4, upsample="pixel_shuffle_conv", stem="patchify",
                              patch_size=4, num_classes=1000, image_shape=(224, 224, 3)),
    # Cityscapes, 19 classes and one for the rest: arXiv 2205.14375, table 3; Semantic_Segmentation/Cityscapes.py.
    "wavemix_seg_256_16_l4": dict(model="WaveMixSegmenter", width=256, depth=16, levels=4, stem="strided", stride=2,
                                  image_shape=(1024, 2048, 3)),  # 63.16M
    "wavemix_seg_192_16_l3": dict(model="WaveMixSegmenter", width=192, depth=16, levels=3, stem="patchify",
                                  patch_size=4, head_dims=(128, 64), dropout=0.5,
                                  image_shape=(1024, 2048, 3)),  # 28,190,388
    # Super-resolution x2: arXiv 2307.00430, and arXiv 2409.10582 as its repository's WaveMixSRV2.py.
    "wavemix_sisr_144_4": dict(model="WaveMixSuperResolver", variant="sisr", width=144, depth=4),
    "wavemixsr_144_4": dict(model="WaveMixSuperResolver", variant="wavemixsr", width=144, depth=4),  # 1.7M
    "wavemixsr_v2": dict(model="WaveMixSuperResolver", variant="wavemixsr_v2", width=144, depth=2),
    # Networks for comparison. ConvMixer: arXiv 2201.09792, tables 1 and 3; MLP-Mixer: arXiv 2105.01601, table 1;
    # PoolFormer: arXiv 2111.11418, table 1.
    "convmixer_256_8": dict(model="ConvMixer", width=256, depth=8, kernel_size=9, patch_size=1, num_classes=10,
                            image_shape=(32, 32, 3)),  # CIFAR-10, 0.7M
    "convmixer_768_32": dict(model="ConvMixer", width=768, depth=32, kernel_size=7, patch_size=7,
                             activation="relu"),  # 21.1M
    "mlp_mixer_s16": dict(model="MLPMixer", patch_size=16, width=512, depth=8),  # 18.5M
    "mlp_mixer_b16": dict(model="MLPMixer", patch_size=16, width=768, depth=12),  # 59.9M
    "poolformer_s12": dict(model="PoolFormer", depths=(2, 2, 6, 2)),  # 11.9M
    "poolformer_s24": dict(model="PoolFormer", depths=(4, 4, 12, 4)),  # 21.4M
    # Vision transformers: DeiT, arXiv 2012.12877, table 1, without the distillation token; the base one is ViT-B/16.
    "deit_tiny": dict(model="ViT", width=192, depth=12, heads=3),  # ImageNet-1k, 5,717,416
    "deit_small": dict(model="ViT", width=384, depth=12, heads=6),  # ImageNet-1k, 22,050,664
    "deit_base": dict(model="ViT", width=768, depth=12, heads=12),  # ImageNet-1k, 86,567,656
    # DynaMixer on ImageNet-1k: arXiv 2201.12083 and models/configs/conf_dynamixer.py of its repository.
    "dynamixer_s": dict(model="DynaMixer", depths=(4, 3, 8, 3), widths=(192, 384, 384, 384), segments=(8, 16, 16, 16),
                        strides=(2, 1, 1), reduced_dim=2),  # 26.27M
    "dynamixer_m": dict(model="DynaMixer", depths=(4, 3, 14, 3), widths=(256, 256, 512, 512), segments=(8, 8, 16, 16),
                        strides=(1, 2, 1), reduced_dim=2),  # 57.13M
    "dynamixer_l": dict(model="DynaMixer", depths=(8, 8, 16, 4), widths=(256, 512, 512, 512), segments=(8, 16, 16, 16),
                        strides=(2, 1, 1), reduced_dim=8),  # 97.82M
}  # fmt: skip

# The networks that ``build_model`` also builds by the name of their class, with all arguments given.
NETWORKS = (
    "WaveMixClassifier",
    "WaveMixSegmenter",
    "WaveMixSuperResolver",
    "TokenMixerClassifier",
    "StagedClassifier",
    "ConvMixer",
    "MLPMixer",
    "PoolFormer",
    "ViT",
    "DynaMixer",
)

# dataset -> (mean, std) per channel, in units of [0, 1], with which the official scripts standardize training images;
# their checkpoints need it in the network, ``build_model(name, normalize=dataset)``. The scripts standardize the test
# images of CIFAR-10 and TinyImageNet with slightly different values. Galaxy10 and super-resolution have none.
CHECKPOINT_NORMALIZATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),  # Image_Classification/example_cifar10.py
    "tinyimagenet": ((0.4803, 0.4481, 0.3975), (0.2764, 0.2689, 0.2816)),  # Image_Classification/tinyimagenet.py
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # Image_Classification/timm.py
    "cityscapes": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # Semantic_Segmentation/Cityscapes.py
}


def build_model(
    name: str,
    num_classes: int | None = None,
    image_shape: Sequence[int | None] | None = None,
    weights: str | None = None,
    **overrides: Any,
) -> keras.Model:
    """Build a published network with new random weights, or with trained ones.

    Args:
        name: A key of ``VARIANTS``, or a class name in ``NETWORKS`` for a custom network.
        num_classes: Number of classes; None: that of the published dataset.
        image_shape: (height, width, channels) in pixels; None: that of the published dataset.
        weights: Data that it was trained on, for example "imagenet" or "cifar10": the preset ``<name>_<weights>`` of
            ``list_presets()``, loaded as by ``from_preset``. None: random weights.
        **overrides: Any other argument of the model's class, for example ``dropout=0.0`` or ``activation="relu6"``.
            ``normalize`` may also name a dataset of ``CHECKPOINT_NORMALIZATION``, for its official checkpoint.

    Returns:
        A network of the row's class, by default ``WaveMixClassifier``.

    Raises:
        ValueError: Unknown name or weights, an override out of its range, or one that the class does not have.

    Example:
    >>> model = wm.build_model("wavemix_lite_144_7", num_classes=10, image_shape=(32, 32, 3))
    >>> model = wm.build_model("wavemix_lite_144_7", weights="cifar10")
    """
    import wavemix_tf  # here, so that listing the table does not load Keras

    check_option("name", name, (*VARIANTS, *NETWORKS))
    if weights is not None:
        shape = {} if image_shape is None else {"image_shape": tuple(image_shape)}
        return _trained(name, weights, num_classes, {**shape, **overrides})
    arguments = {**VARIANTS.get(name, {"model": name}), **overrides}
    if isinstance(arguments.get("normalize"), str):
        dataset = check_option("normalize", arguments["normalize"], tuple(CHECKPOINT_NORMALIZATION))
        arguments["normalize"] = CHECKPOINT_NORMALIZATION[dataset]
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    if image_shape is not None:
        arguments["image_shape"] = tuple(image_shape)
    kind = arguments.pop("model", "WaveMixClassifier")
    # Keras would number the name by the networks built so far, so that written files would differ between runs.
    arguments.setdefault("name", name if name in VARIANTS else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower())
    return getattr(wavemix_tf, kind)(**arguments)


def _trained(name: str, weights: str, classes: int | None, arguments: dict[str, Any]) -> keras.Model:
    """Return the preset of a network and its training data; the rest as given to ``build_model``."""
    import wavemix_tf

    known = [key.removeprefix(f"{name}_") for key in wavemix_tf.list_presets() if key.startswith(f"{name}_")]
    if weights not in known:
        has = f"for {name!r} they are {', '.join(map(repr, known))}" if known else f"{name!r} has none"
        raise ValueError(f"weights must be those of a preset {name}_<weights>; {has}. Received: weights={weights!r}")
    model = wavemix_tf.from_preset(f"{name}_{weights}", **arguments)
    if classes not in (None, model.num_classes):
        raise ValueError(
            f"num_classes must be that of the weights, {model.num_classes}: leave it out, or build the network without "
            f"weights and load them with load_torch_weights(new_head=True). Received: num_classes={classes}"
        )
    return model
