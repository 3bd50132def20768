"""One row per kind of layer, with its properties for the passes, the quantizer and the cost bounds.

A kind is ``Node.kind``, the class name of a layer of Keras or of this package. A kind without a row has no rule:
``quantize`` refuses it by name or keeps it float, and the passes do not change it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Kind:
    """Properties of a kind of layer.

    Args:
        op: Op of a ``.tflite`` file that a layer of this kind becomes in a lowered graph; None: a pass writes it as
            other layers before, or its op depends on its configuration.
        weights: Whether it multiplies by weights: its outputs can be rescaled channel by channel for free.
        rounding: Grid of its output in int8, by TensorFlow Lite's specification: "own" range; "input": rounded again to
            the range of its input, because it averages; "kept": on the input's grid, because it moves or omits values;
            None: it has no dedicated int8 form.
        noop: Whether it does nothing at inference.
        affine: "norm", "fixed" or "trained" for an affine map of the channels, ``scale * x + shift``.
        commutes: "affine": with an affine map of the channels, because it moves values or averages them with weights of
            sum one; "scale": with a factor that is common to all channels.
        fuses_clamp: Whether its op can fuse a relu or relu6 after it.
        combines: Whether it adds, multiplies, averages or joins values without weights: the result of probabilities is
            treated as probabilities.
        keeps_channels: Whether an error in one channel of its input stays in that channel.
    """

    op: str | None = None
    weights: bool = False
    rounding: Literal["own", "input", "kept"] | None = None
    noop: bool = False
    affine: Literal["norm", "fixed", "trained"] | None = None
    commutes: Literal["affine", "scale"] | None = None
    fuses_clamp: bool = False
    combines: bool = False
    keeps_channels: bool = False


def _noop() -> Kind:
    return Kind(rounding="kept", noop=True, commutes="affine", combines=True, keeps_channels=True)


def _moves(op: str | None, commutes: Literal["affine", "scale"] | None = None, keeps_channels: bool = False) -> Kind:
    return Kind(op, rounding="kept", commutes=commutes, combines=True, keeps_channels=keeps_channels)


KINDS: dict[str, Kind] = {
    # Layers with weights.
    "Conv2D": Kind("CONV_2D", weights=True, rounding="own", fuses_clamp=True),
    "DepthwiseConv2D": Kind("DEPTHWISE_CONV_2D", weights=True, rounding="own", fuses_clamp=True),
    "Conv2DTranspose": Kind("TRANSPOSE_CONV", weights=True, rounding="own"),
    "Dense": Kind("FULLY_CONNECTED", weights=True, rounding="own", fuses_clamp=True),
    # Affine maps of the channels: merged into the weights before them, or a 1x1 depthwise convolution.
    "BatchNormalization": Kind(rounding="own", affine="norm", keeps_channels=True),
    "Rescaling": Kind(rounding="own", affine="fixed", keeps_channels=True),
    "Normalization": Kind(rounding="own", affine="fixed"),
    "ChannelAffine": Kind(affine="trained", keeps_channels=True),  # a layer norm's scale and offset
    "LayerScale": Kind(affine="trained"),  # scales a residual branch
    # Wavelets: merged into the convolution after them, or depthwise convolutions.
    "DWT2D": Kind(rounding="own"),
    "LowPass2D": Kind(rounding="own"),
    "IDWT2D": Kind(rounding="own"),
    # Sums and products.
    "Add": Kind("ADD", rounding="own", fuses_clamp=True, combines=True, keeps_channels=True),
    "Subtract": Kind("SUB", rounding="own", fuses_clamp=True, combines=True, keeps_channels=True),
    "Multiply": Kind("MUL", rounding="own", fuses_clamp=True, combines=True, keeps_channels=True),
    "AddConstant": Kind("ADD", rounding="own", keeps_channels=True),
    "MatMul": Kind("BATCH_MATMUL", rounding="own"),
    "Rsqrt": Kind("RSQRT", rounding="own"),
    "PReLU": Kind("PRELU", rounding="own"),
    "Concatenate": Kind("CONCATENATION", rounding="own", combines=True),
    # Averages.
    "Mean": Kind("MEAN", rounding="own", combines=True),
    "GlobalAveragePooling1D": Kind("MEAN", rounding="own", combines=True),
    "GlobalAveragePooling2D": Kind("MEAN", rounding="own", commutes="scale", combines=True, keeps_channels=True),
    "AveragePooling2D": Kind("AVERAGE_POOL_2D", rounding="input", commutes="scale", combines=True, keeps_channels=True),
    # Resizes; "nearest" ones keep the grid (``placement.is_nearest``).
    "UpSampling2D": Kind(rounding="input", commutes="affine", combines=True, keeps_channels=True),
    "Resizing": Kind(rounding="input", commutes="affine", combines=True, keeps_channels=True),
    "Resize2D": Kind(commutes="affine"),
    # Layers that move or omit values.
    "MaxPooling2D": _moves("MAX_POOL_2D", "scale", keeps_channels=True),
    "PixelShuffle": _moves("DEPTH_TO_SPACE", "affine"),
    "Reshape": _moves("RESHAPE", "scale"),
    "Flatten": _moves("RESHAPE", "scale"),
    "Permute": _moves("TRANSPOSE"),
    "Cut": _moves("STRIDED_SLICE"),
    "Cropping1D": _moves("STRIDED_SLICE"),
    "Cropping2D": _moves("STRIDED_SLICE", "affine", keeps_channels=True),
    "RandomThenCentreCrop": _moves(None),
    "ZeroPadding1D": _moves("PAD"),
    "ZeroPadding2D": _moves("PAD", "scale", keeps_channels=True),
    "ReplicatePadding2D": _moves("MIRROR_PAD", keeps_channels=True),
    "GatherTokens": _moves("GATHER_ND"),
    # Quantizers, and markers of layers that stay float.
    "FakeQuant": Kind(commutes="scale", combines=True, keeps_channels=True),
    "KeepFloat": Kind(keeps_channels=True),
    # Layers that do nothing at inference: layers without weights where a test shows it ("TrainingOnly"), and these.
    "TrainingOnly": _noop(),
    "Identity": _noop(),
    "Dropout": _noop(),
    "SpatialDropout1D": _noop(),
    "SpatialDropout2D": _noop(),
    "SpatialDropout3D": _noop(),
    "GaussianDropout": _noop(),
    "GaussianNoise": _noop(),
    "AlphaDropout": _noop(),
    "ActivityRegularization": _noop(),
    # Layers that canonical form replaces by the ones above.
    "SeparableConv2D": Kind(),
    "Average": Kind(),
    "GlobalMaxPooling2D": Kind(keeps_channels=True),
    "LayerNormalization": Kind(),
    "GroupNormalization": Kind(),
}


def kinds_where(test: Callable[[Kind], bool]) -> tuple[str, ...]:
    """Names of the kinds for whose row ``test`` returns True, in the order of the table."""
    return tuple(name for name, kind in KINDS.items() if test(kind))


WEIGHTED = kinds_where(lambda kind: kind.weights)
NOOPS = kinds_where(lambda kind: kind.noop)
MOVES_VALUES = kinds_where(lambda kind: kind.rounding == "kept")
AVERAGES_ON_INPUT_GRID = kinds_where(lambda kind: kind.rounding == "input")
ROUNDED = kinds_where(lambda kind: kind.rounding is not None)
FIXED_AFFINES = kinds_where(lambda kind: kind.affine == "fixed")
TRAINED_AFFINES = kinds_where(lambda kind: kind.affine == "trained")
AFFINES = kinds_where(lambda kind: kind.affine is not None)
AFFINE_COMMUTING = kinds_where(lambda kind: kind.commutes == "affine")
SCALE_COMMUTING = kinds_where(lambda kind: kind.commutes is not None)
FUSES_CLAMPS = kinds_where(lambda kind: kind.fuses_clamp)
COMBINES = kinds_where(lambda kind: kind.combines)
KEEPS_CHANNELS = kinds_where(lambda kind: kind.keeps_channels)
# Groups whose members are equal in the table.
RESIZES = ("UpSampling2D", "Resizing")
WAVELETS = ("DWT2D", "LowPass2D")
INDICES = ("ops.Argmax", "ops.Argmin")  # their outputs are indices: integers without a scale
CLAMPS = ("relu", "relu6")  # activations that are fused into the op before them
