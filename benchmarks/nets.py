"""The networks that the benchmarks compare, and functions for the official PyTorch package."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from official import import_official


@dataclass(frozen=True)
class Net:
    """A published classifier: arguments of our WaveMixClassifier, and the batch size of its training step."""

    title: str
    config: dict[str, Any]
    training_batch: int


NETS = {
    "lite_32_7": Net(
        "Lite 32/7, 32x32",
        {"width": 32, "depth": 7, "stem": "strided", "stride": 1, "image_shape": (32, 32, 3), "num_classes": 10},
        32,
    ),
    "lite_64_6": Net(
        "Lite 64/6, 32x32",
        {"width": 64, "depth": 6, "stem": "strided", "stride": 1, "image_shape": (32, 32, 3), "num_classes": 10},
        32,
    ),
    "lite_144_7": Net(
        "Lite 144/7, 32x32",
        {"width": 144, "depth": 7, "stem": "strided", "stride": 1, "image_shape": (32, 32, 3), "num_classes": 10},
        32,
    ),
    "192_16_l3": Net(
        "192/16 level 3, patchify 4, 64x64",
        {
            "width": 192,
            "depth": 16,
            "levels": 3,
            "stem": "patchify",
            "patch_size": 4,
            "image_shape": (64, 64, 3),
            "num_classes": 200,
        },
        8,
    ),
}

# The network of `growth.py`: four levels, like the published networks for large images.
NETS_BY_SIZE = {
    "64_4_l4": Net(
        "64/4 level 4, strided 2",
        {
            "width": 64,
            "depth": 4,
            "levels": 4,
            "stem": "strided",
            "stride": 2,
            "image_shape": (128, 128, 3),
            "num_classes": 10,
        },
        2,
    )
}


# The networks of `targets.py`: arguments of `wm.build_model`, or, without a variant, of WaveMixClassifier.
TARGET_NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "lite_8_5": ("Lite 8/5, 28x28x1", {"variant": "wavemix_lite_8_5"}),
    "lite_32_7": ("Lite 32/7, 32x32x3", {"variant": "wavemix_lite_32_7"}),
    "32_4_l3": (
        "32/4 level 3, 32x32x3",
        {"width": 32, "depth": 4, "levels": 3, "image_shape": (32, 32, 3), "num_classes": 10},
    ),
    "192_16_l3_p4": (
        "192/16 level 3, patchify 4, 64x64x3",
        {"variant": "wavemix_192_16_l3_p4", "image_shape": (64, 64, 3), "num_classes": 200},
    ),
}


# The 1x1 convolution that measures the peak of a LiteRT interpreter: (1, side, side, channels) -> the same.
PEAK_SIDE, PEAK_CHANNELS = 32, 512
PEAK_MACS = PEAK_SIDE**2 * PEAK_CHANNELS**2


def forward_macs(config: dict[str, Any]) -> int:
    """Multiply-accumulates of one image's forward pass: convolutions and head; the wavelet transform is not counted."""
    height, width, channels = config["image_shape"]
    dim, levels = config["width"], config.get("levels", 1)
    hidden, out = config.get("expansion", 2) * dim, config.get("ff_dim") or dim
    pixels = height * width
    if config["stem"] == "strided":
        first = pixels // config["stride"] ** 2
        pixels = first // config["stride"] ** 2
        macs = 9 * (first * channels * dim // 2 + pixels * dim // 2 * dim)
    else:
        macs = 9 * pixels * (channels * dim // 4 + dim // 4 * dim // 2)
        pixels //= config["patch_size"] ** 2
        macs += pixels * config["patch_size"] ** 2 * dim // 2 * dim
    block = pixels * dim * dim // 4
    for level in range(1, levels + 1):
        area = pixels // 4**level
        joined = dim + (dim // 2 if level < levels else 0)
        upsampled = dim if level == 1 else dim // 2
        block += area * (joined * hidden + hidden * out + 16 * out * upsampled)
    return macs + config["depth"] * block + dim * config["num_classes"]


def spread_weights(model: Any, images: np.ndarray, seed: int = 0, deep: bool = False) -> None:
    """Set random weights and batch norm statistics, in place, so that the logits differ from image to image.

    A network with initial weights returns nearly a constant, and the error against a constant is meaningless.

    Args:
        deep: Keep the statistics of ``images``, with the variance of a channel at least a hundredth of the mean of its
            layer. In a network of 32 blocks other statistics overflow: their errors multiply from block to block.
    """
    import keras

    from wavemix_tf.keras_internals import flatten_layers

    rng = np.random.default_rng(seed)
    layers = flatten_layers(model)
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        if not hasattr(layer, "kernel") or hasattr(layer, "inline"):  # a composite's kernel is its sublayer's
            continue
        shape = layer.kernel.shape
        fan_in = np.prod(shape) / shape[-1]
        if isinstance(layer, keras.layers.Conv2DTranspose):
            fan_in = 4 * shape[-1]
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            fan_in = shape[0] * shape[1]
        layer.kernel.assign(rng.normal(0, 1.4 / np.sqrt(fan_in), shape))
        if layer.use_bias:
            layer.bias.assign(rng.normal(0, 0.2, layer.bias.shape))
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0  # the statistics of this one batch
        # A bias well above the scale prevents the network from amplifying rounding errors, as a random one would.
        gamma, beta = rng.uniform(0.2, 0.6, layer.moving_mean.shape), rng.normal(0.5, 0.3, layer.moving_mean.shape)
        if layer.scale:
            layer.gamma.assign(gamma)
        if layer.center:
            layer.beta.assign(beta)
    model(images, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        variance = np.asarray(layer.moving_variance)
        if deep:
            layer.moving_variance.assign(np.maximum(variance, variance.mean() / 100))
            continue
        deviation = np.sqrt(variance)
        layer.moving_mean.assign(np.asarray(layer.moving_mean) + rng.normal(0, 0.2, deviation.shape) * deviation)
        layer.moving_variance.assign(np.square(deviation) * rng.uniform(0.6, 1.6, deviation.shape))


def official_classifier(config: dict[str, Any]) -> Any:
    """The official package's network (a torch.nn.Module) for the arguments of our WaveMixClassifier.

    The package supports only RGB and transposed convolutions: for other images the first convolution is replaced, and
    for upsample="bilinear" the transposed ones, as in the authors' smallest networks.
    """
    WaveMix = import_official().WaveMix

    network = WaveMix(
        num_classes=config["num_classes"],
        depth=config["depth"],
        mult=config.get("expansion", 2),
        ff_channel=config.get("ff_dim") or config["width"],
        final_dim=config["width"],
        dropout=config.get("dropout", 0.5),
        level=config.get("levels", 1),
        initial_conv={"strided": "strided", "patchify": "pachify"}[config.get("stem", "strided")],
        patch_size=config.get("patch_size", 4),
        stride=config.get("stride", 1),
    )
    first, channels = network.conv[0], config["image_shape"][2]
    if channels != first.in_channels:
        network.conv[0] = type(first)(channels, first.out_channels, 3, first.stride, 1)
    if config.get("upsample", "deconv") == "bilinear":
        from torch import nn

        for block in network.layers:
            block.feedforward[4] = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return network


def checkpoint_official_blocks(network: Any) -> None:
    """Compute every block of an official network again in the backward pass, with `torch.utils.checkpoint`."""
    from torch.utils.checkpoint import checkpoint

    for layer in network.layers:
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def random_images(count: int, shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """(count, H, W, C) float32 in [0, 1]: noise under random patches and brightness.

    Global pooling would map all images of plain noise to the same average.
    """
    generator = np.random.default_rng(seed)
    height, width, channels = shape
    patches = (
        generator.random((count, 4, 4, channels))
        .repeat(-(-height // 4), axis=1)
        .repeat(-(-width // 4), axis=2)[:, :height, :width]
    )
    brightness = generator.uniform(0.1, 1, (count, 1, 1, channels))
    return (patches * brightness * generator.random((count, *shape))).astype("float16").astype("float32")


def official_network(config: dict[str, Any]) -> Any:
    """The PyTorch network for the arguments of any of our networks.

    Args:
        config: arguments, and under "model" the class if it is not WaveMixClassifier, as in `wm.VARIANTS`.

    Returns:
        A torch.nn.Module: from the official package, or from `torch_references` if the package lacks it.
    """
    kind = config.get("model", "WaveMixClassifier")
    if kind == "WaveMixClassifier":
        if not in_package(config):
            import torch_references

            return torch_references.classifier(config)
        return official_classifier(config)
    import_official()
    blocks = {
        "depth": config["depth"],
        "mult": config.get("expansion", 2),
        "ff_channel": config.get("ff_dim") or config["width"],
        "final_dim": config["width"],
        "dropout": config.get("dropout", 0.0),
    }
    if kind == "WaveMixSegmenter":
        if config.get("stem", "strided") == "strided":
            import wavemix.SemSegment

            return wavemix.SemSegment.WaveMix(
                num_classes=config.get("num_classes", 20),
                level=config.get("levels", 4),
                stride=config.get("stride", 2),
                **blocks,
            )
        from torch import nn

        # As in the official script: the classifier with another head.
        network = official_classifier({"num_classes": 2, **config})
        first, second = config.get("head_dims") or (config["width"] // 2, config["width"] // 4)
        network.pool = nn.Sequential(
            nn.ConvTranspose2d(config["width"], first, 4, stride=2, padding=1),
            nn.ConvTranspose2d(first, second, 4, stride=2, padding=1),
            nn.Conv2d(second, config.get("num_classes", 20), 1),
        )
        return network
    if config.get("variant", "sisr") == "sisr":
        import wavemix.sisr

        return wavemix.sisr.WaveMix(level=config.get("levels", 1), **blocks)
    import torch_references

    return torch_references.super_resolver(config)


def in_package(config: dict[str, Any]) -> bool:
    """Whether the official package has the network of these arguments."""
    of_a_script = config.get("upsample") == "pixel_shuffle_conv" or config.get("block") == "v1"
    return config.get("variant", "sisr") == "sisr" and not of_a_script


def official_outputs(network: Any, config: dict[str, Any], images: np.ndarray) -> np.ndarray:
    """Output of an `official_network` for RGB images (N, H, W, C) float32: logits, or images (N, H, W, C).

    WaveMixSR takes and returns YCbCr: its input is converted here, its output is not.
    """
    import torch

    if config.get("variant", "sisr") != "sisr":
        images = rgb_to_ycbcr(images)
    with torch.no_grad():
        outputs = network.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    return outputs.transpose(0, 2, 3, 1) if outputs.ndim == 4 else outputs


def rgb_to_ycbcr(images: np.ndarray) -> np.ndarray:
    """As `kornia.color.rgb_to_ycbcr`, channels last."""
    red, green, blue = np.moveaxis(images.astype("float64"), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([luma, (blue - luma) * 0.564 + 0.5, (red - luma) * 0.713 + 0.5], axis=-1).astype("float32")


def our_network(config: dict[str, Any]) -> Any:
    """Our network for these arguments, see `official_network`."""
    import wavemix_tf as wm

    arguments = {**config, "image_shape": tuple(config["image_shape"])}
    return getattr(wm, arguments.pop("model", "WaveMixClassifier"))(**arguments)


def our_outputs(model: Any, images: np.ndarray) -> np.ndarray:
    """Our outputs to compare with `official_outputs`: those of WaveMixSR before the conversion to RGB."""
    import keras

    if getattr(model, "variant", "sisr") != "sisr":
        model = keras.Model(model.input, model.get_layer("ycbcr").output)
    return keras.ops.convert_to_numpy(model(images, training=False))


def reference(net: str) -> Any:
    """The official network with the weights of every contender, and its output.

    Returns:
        (its PyTorch module in inference mode, image (1, H, W, C) float32, logits (1, classes) float32). The weights are
        PyTorch's initial weights for seed 0; batch norm has the statistics of some random batches.
    """
    import torch

    config = NETS[net].config
    torch.manual_seed(0)
    model = official_classifier(config)
    images = torch.rand(16, config["image_shape"][2], *config["image_shape"][:2])
    with torch.no_grad():
        model.train()
        for _ in range(20):
            model(images)
        logits = model.eval()(images[:1])
    return model, images[:1].permute(0, 2, 3, 1).numpy().copy(), logits.numpy()


def keep_official_dwt_in_float32() -> None:
    """Exclude the official package's wavelet transform from autocast: its float32 filters fail on bfloat16 input."""
    import torch
    import wavemix

    class Float32DWT(torch.nn.Module):
        def __init__(self, transform: torch.nn.Module) -> None:
            super().__init__()
            self.transform = transform

        def forward(self, x: torch.Tensor) -> Any:
            with torch.autocast(x.device.type, enabled=False):
                return self.transform(x.float())

    for name in ("xf1", "xf2", "xf3", "xf4"):
        setattr(wavemix, name, Float32DWT(getattr(wavemix, name)))
