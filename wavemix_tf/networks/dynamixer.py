"""DynaMixer: an MLP whose token-mixing matrices are computed from the tokens that they mix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from ..checks import check_option, check_positive, check_rate
from ..layers.activations import ACTIVATIONS
from ..layers.elementwise import ByteDropout, gelu_dropout
from ..layers.residual_block import sublayer
from .base import Network, check_image_shape, exact_policy, rising_rates, standardised_input

# PyTorch's default; Keras's is 1e-3.
LAYER_NORM_EPSILON = 1e-5


def _dense(units: int, name: str, policy: Any, use_bias: bool = True) -> Any:
    # The official truncated normal is cut at -2 and 2, a hundred standard deviations: effectively a normal.
    initializer = keras.initializers.RandomNormal(stddev=0.02)
    return layers.Dense(units, use_bias=use_bias, kernel_initializer=initializer, name=name, dtype=policy)


def _patches(filters: int, size: int, name: str, policy: Any) -> Any:
    """A convolution with stride equal to its kernel, initialized as in PyTorch: uniform up to 1 / sqrt(fan in)."""
    initializer = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    last = {"kernel_initializer": initializer, "data_format": "channels_last", "name": name, "dtype": policy}
    return layers.Conv2D(filters, size, strides=size, **last)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class DynaMixerOp(layers.Layer):
    """Mix the tokens of one axis with matrices computed from these tokens, one matrix for each segment of channels.

    The operation of DynaMixer (Wang et al., arXiv 2201.12083, section 3) with its dimensionality reduction and
    multi-segment fusion. For L tokens of C channels in S segments, d the reduced dimension::

        z_s = the L x d outputs of a dense layer C -> S*d of the tokens for segment s, as one row
        P_s = softmax over the tokens of (z_s G + g), L x L;  G (L*d, L*L) is shared by the segments
        y   = [P_1 x_1 | ... | P_S x_S] O + o, x_s the segment's (L, C/S)

    A row of ``P`` has the weights of the L input tokens in one output token. ``generate`` computes ``P`` row by row.
    The official network multiplies from the right and computes it column by column, so that its softmax is over the
    second-to-last axis.

    Args:
        segments: S, groups of channels with a mixing matrix each; a divisor of the channels.
        reduced_dim: d, size of the code of a token and segment from which the matrix is computed.
        axis: The axis of the mixed tokens: -2, within each row of an image, or -3, within each column.

    Input shape:
        (B, H, W, C), or with ``axis=-2`` (B, L, C), floating point, all axes except B known. The weights depend only on
        the number of tokens (W, H or L) and C.

    Output shape:
        As the input.

    Raises:
        ValueError: An option out of its range; an unknown input axis, or channels that ``segments`` does not divide.

    Example:
    >>> y = wm.DynaMixerOp(segments=8)(x)             # (B, 32, 32, 64): each of 32 rows mixes its 32 tokens
    """

    def __init__(self, segments: int = 8, reduced_dim: int = 2, axis: int = -2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.segments = check_positive("segments", segments)
        self.reduced_dim = check_positive("reduced_dim", reduced_dim)
        self.axis = check_option("axis", axis, (-2, -3))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) not in (1 - self.axis, 4) or None in input_shape[1:]:
            shapes = "(B, H, W, C)" if self.axis == -3 else "(B, H, W, C) or (B, L, C)"
            raise ValueError(
                f"{self.name} takes {shapes} with all axes except B known: the number of tokens fixes the size of its "
                f"weights. Received: input_shape={tuple(input_shape)}, axis={self.axis}"
            )
        *sides, width = (int(side) for side in input_shape[1:])  # type: ignore[arg-type]
        if width % self.segments:
            raise ValueError(
                f"The channels must be a multiple of segments. Received: channels={width}, segments={self.segments}"
            )
        tokens = sides[self.axis + 1]
        self._sides, self._width, self._tokens = tuple(sides), width, tokens
        # Rows are (B, H, W, S, C/S), columns (B, H, W * S, C/S): one axis follows the token axis in both.
        self._leading = tuple(sides[: self.axis + 1])
        self._parts = self.segments * math.prod(sides[len(self._leading) + 1 :])
        policy = self.dtype_policy
        self.compress = _dense(self.segments * self.reduced_dim, f"{self.name}_compress", policy)
        self.generate = _dense(tokens * tokens, f"{self.name}_generate", policy)
        self.out = _dense(width, f"{self.name}_out", policy)
        self.compress.build(input_shape)
        self.generate.build((None, tokens * self.reduced_dim))
        self.out.build(input_shape)

    def call(self, x: Any) -> Any:
        y = ops.matmul(self.matrices(x), self._split(x, self._width // self.segments))  # (..., N, L, C/S)
        return self.out(ops.reshape(self._swap(y), (-1, *self._sides, self._width)))

    def inline(self, x: Any) -> Any:
        """Same as ``call``, which uses the sublayers."""
        return self.call(x)

    def matrices(self, x: Any) -> Any:
        """Return the mixing matrices P of the tokens ``x``.

        Args:
            x: As the input of ``call``.

        Returns:
            (B, H, S, W, W) of rows, (B, W * S, H, H) of columns, (B, S, L, L) of (B, L, C); in W * S, segments vary
            fastest. ``[..., i, j]`` is the weight of token j in output token i.
        """
        tokens, leading = self._tokens, (-1, *self._leading, self._parts)
        codes = self._split(self.compress(x), self.reduced_dim)  # (..., N, L, d)
        logits = self.generate(ops.reshape(codes, (*leading, tokens * self.reduced_dim)))
        return ops.softmax(ops.reshape(logits, (*leading, tokens, tokens)), axis=-1)

    def _split(self, x: Any, width: int) -> Any:
        """(B, ..., L, ..., S * width) -> (B, ..., N, L, width)."""
        return self._swap(ops.reshape(x, (-1, *self._leading, self._tokens, self._parts, width)))

    def _swap(self, x: Any) -> Any:
        first = len(self._leading) + 1
        return ops.transpose(x, (*range(first), first + 1, first, first + 2))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "segments": self.segments,
            "reduced_dim": self.reduced_dim,
            "axis": self.axis,
        }


@keras.saving.register_keras_serializable(package="wavemix_tf")
class DynaMixerBlock(layers.Layer):
    """DynaMixer layer: tokens mixed along rows, along columns and not at all, then a channel MLP; both are residual.

    The mixer layer of DynaMixer (Wang et al., arXiv 2201.12083, section 3 and algorithm 1). The algorithm adds the
    three branches; the official network, whose parameters the paper counts, takes a weighted sum::

        z = LayerNorm(x);  h, w, c = DynaMixerOp over columns, DynaMixerOp over rows, dense C -> C without bias, of z
        a = softmax over the branches of MLP(C -> C/4 -> 3C)(mean over the positions of h + w + c), one per channel
        x = x + dense(a_h h + a_w w + a_c c)
        y = x + MLP(C -> mlp_ratio * C -> C)(LayerNorm(x))

    Args:
        width: C, channels of input and output; a multiple of ``segments``, at least 4.
        segments: S, groups of channels with a mixing matrix each.
        reduced_dim: d, see ``DynaMixerOp``.
        mlp_ratio: Hidden channels of the channel MLP as a multiple of ``width``.
        dropout: Rate after both residual branches and after the activation of the channel MLP. The official network has
            dropout there with a rate of 0.
        stochastic_depth: Rate at which a whole residual branch is skipped for an image in training (Huang et al.,
            arXiv 1603.09382); drawn independently for the two branches.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu".

    Input shape:
        (B, H, W, C) floating point, H and W known: the mixing matrices are H x H and W x W.

    Output shape:
        As the input.

    Raises:
        ValueError: An option out of its range, input whose channels are not ``width``, or unknown sides.

    Example:
    >>> y = wm.DynaMixerBlock(192, segments=8)(x)     # (B, 32, 32, 192) -> (B, 32, 32, 192)
    """

    def __init__(
        self,
        width: int,
        segments: int = 8,
        reduced_dim: int = 2,
        mlp_ratio: float = 3,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        activation: str = "gelu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if check_positive("width", width) % check_positive("segments", segments) or width < 4:
            raise ValueError(
                f"width must be a multiple of segments and at least 4. Received: width={width}, segments={segments}"
            )
        if isinstance(mlp_ratio, bool) or not isinstance(mlp_ratio, (int, float)) or int(width * mlp_ratio) < 1:
            raise ValueError(f"mlp_ratio must be a positive number. Received: mlp_ratio={mlp_ratio!r}")
        self.width = width
        self.segments = segments
        self.reduced_dim = reduced_dim
        self.mlp_ratio = mlp_ratio
        self.dropout = check_rate("dropout", dropout)
        self.stochastic_depth = check_rate("stochastic_depth", stochastic_depth)
        self.activation = check_option("activation", activation, tuple(ACTIVATIONS))

        policy = self.dtype_policy
        self.norm1, self.norm2 = (
            sublayer(self, layers.LayerNormalization, f"norm{k}", epsilon=LAYER_NORM_EPSILON) for k in (1, 2)
        )
        self.columns = sublayer(self, DynaMixerOp, "columns", segments, reduced_dim, axis=-3)
        self.rows = sublayer(self, DynaMixerOp, "rows", segments, reduced_dim, axis=-2)
        self.channels = _dense(width, f"{self.name}_channels", policy, use_bias=False)
        self.pool = sublayer(self, layers.GlobalAveragePooling2D, "pool")
        self.weigh1 = _dense(width // 4, f"{self.name}_weigh1", policy)
        self.weigh_activation = sublayer(self, layers.Activation, "weigh_activation", ACTIVATIONS[activation])
        self.weigh2 = _dense(3 * width, f"{self.name}_weigh2", policy)
        self.project = _dense(width, f"{self.name}_project", policy)
        self.mlp1 = _dense(int(width * mlp_ratio), f"{self.name}_mlp1", policy)
        self.mlp_activation = sublayer(self, layers.Activation, "mlp_activation", ACTIVATIONS[activation])
        self.mlp2 = _dense(width, f"{self.name}_mlp2", policy)
        self.dropouts = [sublayer(self, ByteDropout, f"dropout{k}", dropout) for k in (1, 2, 3)]
        self.drop_paths = [
            sublayer(self, layers.Dropout, f"drop_path{k}", stochastic_depth, noise_shape=(None, 1, 1, 1))
            for k in (1, 2)
        ]
        self.residuals = [sublayer(self, layers.Add, f"residual{k}") for k in (1, 2)]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4 or input_shape[-1] != self.width or None in input_shape[1:]:
            raise ValueError(
                f"{self.name} takes (B, H, W, {self.width}) with known H and W, which fix the size of its weights. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        pooled = (input_shape[0], self.width)
        hidden = (*input_shape[:3], self.mlp1.units)
        for layer in (self.norm1, self.columns, self.rows, self.channels, self.project, self.norm2, self.mlp1):
            layer.build(input_shape)
        self.weigh1.build(pooled)
        self.weigh2.build((input_shape[0], self.weigh1.units))
        self.mlp2.build(hidden)

    def call(self, x: Any, training: bool | None = None) -> Any:
        return self._run(x, training, contract=True)

    def inline(self, x: Any, training: bool | None = None) -> Any:
        """``call`` as a graph of the sublayers, including the activations.

        Args:
            x: (B, H, W, C) tensor or KerasTensor.
            training: As in ``call``.

        Returns:
            The same values as ``call`` (up to rounding), same shape and dtype.
        """
        return self._run(x, training, contract=False)

    def _run(self, x: Any, training: bool | None, contract: bool) -> Any:
        """Run the block; ``contract``: fold operations to save memory; otherwise call the sublayers one by one."""

        def end(y: Any, branch: int) -> Any:
            y = self.dropouts[2 * branch](y, training=training)
            y = self.drop_paths[branch](y, training=training)
            return self.residuals[branch]([x, y])

        x = end(self.project(self._mix(self.norm1(x), contract)), 0)
        y = self._activate(self.mlp1(self.norm2(x)), self.mlp_activation, contract)
        return end(self.mlp2(self.dropouts[1](y, training=training)), 1)

    def _mix(self, x: Any, contract: bool) -> Any:
        """Return the weighted sum of the three branches."""
        branches = (self.columns(x), self.rows(x), self.channels(x))
        pooled = self.pool(branches[0] + branches[1] + branches[2])
        weights = self.weigh2(self._activate(self.weigh1(pooled), self.weigh_activation, contract))
        weights = ops.softmax(ops.reshape(weights, (-1, self.width, 3)), axis=-1)
        weighted = [
            # The slice keeps its axis: runtimes support only the plain one.
            branch * ops.reshape(weights[:, :, index : index + 1], (-1, 1, 1, self.width))
            for index, branch in enumerate(branches)
        ]
        return weighted[0] + weighted[1] + weighted[2]

    def _activate(self, x: Any, activation: Any, contract: bool) -> Any:
        return gelu_dropout(x) if contract and self.activation == "gelu" else activation(x)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        names = ("width", "segments", "reduced_dim", "mlp_ratio", "dropout", "stochastic_depth", "activation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class DynaMixer(Network):
    """DynaMixer image classifier: patches, stages of ``DynaMixerBlock``, layer norm, global mean, linear head.

    DynaMixer (Wang et al., arXiv 2201.12083, section 3). Weights load and save under the official names; the logits
    equal those of a PyTorch implementation of the official formulas. ``build_model`` has the published sizes.

    Args:
        num_classes: Number of classes.
        image_shape: (height, width, channels) of the input in pixels, all known: the sizes of the mixing matrices and
            of the weights depend on the number of patches. Height and width may differ.
        patch_size: Side in pixels of a patch, which becomes a token.
        depths: Blocks in each stage.
        widths: Channels of each stage, each a multiple of the stage's segments.
        segments: Groups of channels with a mixing matrix each, for each stage.
        strides: For each stage except the first, stride and kernel of the convolution before it (none for stride 1 and
            equal widths).
        reduced_dim: Size of the code of a token and segment from which a mixing matrix is computed.
        mlp_ratio: Hidden channels of the channel MLPs as a multiple of their width.
        dropout: Rate in each block, see ``DynaMixerBlock``.
        stochastic_depth: Rate at which a residual branch of the last block is skipped for an image in training; it
            rises linearly from 0 at the first block.
        activation: "gelu", "relu", "relu6", "hard_swish" or "quick_gelu".
        normalize: None, or (mean, std), each one value per channel in the input's [0, 1] units: the network then
            standardizes its input.
        dtype: dtype policy of the layers, for example "mixed_bfloat16"; None: Keras's global policy. Under a mixed
            policy the head computes in float32.

    Input shape:
        (B, H, W, channels) floating point in [0, 1] (pixel / 255), RGB; H and W as in ``image_shape``.

    Output shape:
        (B, num_classes) logits.

    Raises:
        ValueError: An option out of its range; a side unknown, or not a multiple of ``patch_size`` and ``strides``.

    Example:
    >>> model = wm.build_model("dynamixer_s", stochastic_depth=0.1)
    >>> model = wm.DynaMixer(10, (32, 32, 3), 4, depths=(2, 2), widths=(32, 64), segments=(4, 8), strides=(2,))
    """

    def __init__(
        self,
        num_classes: int = 1000,
        image_shape: Sequence[int] = (224, 224, 3),
        patch_size: int = 7,
        depths: Sequence[int] = (4, 3, 8, 3),
        widths: Sequence[int] = (192, 384, 384, 384),
        segments: Sequence[int] = (8, 16, 16, 16),
        strides: Sequence[int] = (2, 1, 1),
        reduced_dim: int = 2,
        mlp_ratio: float = 3,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        activation: str = "gelu",
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        policy = self._policy(arguments)
        check_positive("num_classes", num_classes)
        stages = _check_stages(depths, widths, segments, strides)
        _check_sides(image_shape, check_positive("patch_size", patch_size), strides)
        options: Any = {
            "reduced_dim": reduced_dim,
            "mlp_ratio": mlp_ratio,
            "dropout": dropout,
            "activation": activation,
        }
        rates = iter(rising_rates(stochastic_depth, sum(depths)))

        inputs, x = standardised_input(image_shape, normalize, policy)
        x = _patches(widths[0], patch_size, "stem_conv", policy)(x)
        for number, (depth, width, parts, stride) in enumerate(stages, 1):
            if stride > 1 or x.shape[-1] != width:
                x = _patches(width, stride, f"stage{number}_conv", policy)(x)
            for index in range(1, depth + 1):
                name = f"stage{number}_block{index}"
                block = DynaMixerBlock(width, parts, stochastic_depth=next(rates), **options, name=name, dtype=policy)
                x = block(x)
        x = layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name="norm", dtype=policy)(x)
        x = layers.GlobalAveragePooling2D(data_format="channels_last", name="pool", dtype=policy)(x)
        logits = _dense(num_classes, "head", exact_policy(policy))(x)
        self._init_functional(inputs, logits, arguments, policy)


def _check_stages(
    depths: Sequence[int], widths: Sequence[int], segments: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int, int, int]]:
    """Return (depth, width, segments, stride before it) of each stage."""
    count = len(depths)
    if count < 1 or {len(widths), len(segments), len(strides) + 1} != {count}:
        raise ValueError(
            "depths, widths and segments must have one value per stage, strides one for each except the first. "
            f"Received: depths={depths}, widths={widths}, segments={segments}, strides={strides}"
        )
    for name, values in (("depths", depths), ("widths", widths), ("segments", segments), ("strides", strides)):
        for value in values:
            check_positive(name, value)
    for width, parts in zip(widths, segments, strict=True):
        if width % parts:
            raise ValueError(
                "widths must be multiples of their stage's segments. "
                f"Received: width={width}, segments={parts} in widths={tuple(widths)}, segments={tuple(segments)}"
            )
    return list(zip(depths, widths, segments, (1, *strides), strict=True))


def _check_sides(image_shape: Sequence[int | None], patch_size: int, strides: Sequence[int]) -> None:
    reduction = patch_size * math.prod(strides)
    check_image_shape(image_shape, reduction)
    for side in image_shape[:2]:
        if side is None:
            raise ValueError(
                "The sides of image_shape must be known: the weights of a mixing matrix fix the number of tokens. "
                f"Received: image_shape={tuple(image_shape)}"
            )
        if side % reduction:
            raise ValueError(
                f"The sides of image_shape must be multiples of patch_size and strides, {reduction} pixels. "
                f"Received: image_shape={tuple(image_shape)}, patch_size={patch_size}, strides={tuple(strides)}"
            )
