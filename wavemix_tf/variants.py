"""The published networks by name: a literal table with the source of each row, and ``build_model``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# name -> constructor arguments. The dataset each row was published with gives image_shape and num_classes.
# Sources: README and training scripts of the official repository; WaveMix, arXiv 2205.14375, tables 1-6.
VARIANTS: dict[str, dict[str, Any]] = {
    # WaveMix-Lite: one level. "_up" upsamples bilinearly in place of the transposed convolution.
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
}  # fmt: skip


def build_model(
    name: str,
    num_classes: int | None = None,
    image_shape: Sequence[int | None] | None = None,
    **overrides: Any,
) -> keras.Model:
    """Build a published network, freshly initialised.

    Args:
        name: A key of ``VARIANTS``.
        num_classes: Number of classes; None: that of the dataset the row was published with.
        image_shape: (height, width, channels) in pixels; None: that of the published dataset.
        **overrides: Any other argument of the model's class, for example ``dropout=0.0`` or ``activation="relu6"``.

    Returns:
        A ``WaveMixClassifier`` that returns logits.

    Raises:
        ValueError: unknown name, an override out of its range, or one the class does not have.

    Example:
    >>> model = wm.build_model("wavemix_lite_144_7", num_classes=10, image_shape=(32, 32, 3))
    """
    from .models import WaveMixClassifier  # here, so that listing the table does not load Keras

    if name not in VARIANTS:
        raise ValueError(f"name must be one of {', '.join(VARIANTS)}. Received: name={name!r}")
    arguments = {**VARIANTS[name], **overrides}
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    if image_shape is not None:
        arguments["image_shape"] = tuple(image_shape)
    arguments.setdefault("name", name)
    return WaveMixClassifier(**arguments)
