"""Vision transformer (ViT, DeiT), with adaptive token sampling in any of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ..checks import check_option, check_positive, check_rate
from ..layers.activations import ACTIVATIONS
from ..layers.residual_block import sublayer
from .base import Network, check_image_shape, exact_policy, rising_rates, standardised_input
from .token_sampling import (
    EPSILON,
    MIN_TOKENS,
    REMOVED,
    SAMPLING_MODES,
    AdaptiveTokenSampling,
    GatherTokens,
    check_tokens,
)

LAYER_NORM = {"epsilon": 1e-6}  # as in DeiT; Keras's default is 1e-3


@keras.saving.register_keras_serializable(package="wavemix_tf")
class ViT(Network):
    """Vision transformer: patches as tokens, a class token, learned positions, pre-norm blocks.

    ViT (Dosovitskiy et al., arXiv 2010.11929, eq. 1-4), DeiT-Ti by default (Touvron et al., arXiv 2012.12877, table 1);
    the logits come from the class token. Any block can sample tokens (``AdaptiveTokenSampling``), which changes no
    weight: see ``with_token_sampling``. With a checkpoint in timm's key names the logits equal timm's.

    Args:
        num_classes: Number of classes.
        image_shape: (height, width, channels) of the input in pixels, sides multiples of ``patch_size``.
        patch_size: Side in pixels of a patch.
        width: Channels of a token, a multiple of ``heads``.
        depth: Number of blocks.
        heads: Heads of the attention.
        mlp_ratio: Hidden channels of the feed-forward as a multiple of ``width``.
        dropout: Rate in [0, 1) after the positions, the attention and each layer of the feed-forward.
        stochastic_depth: Rate in [0, 1) at which the last block's branches are skipped in training; it rises from 0 at
            the first block.
        sampling_blocks: Blocks that sample tokens, counted from 0.
        sampling_tokens: Budget of each of them, including the class token, at least 8: one number, or one per block;
            None: the image's number of tokens.
        sampling_mode: "adaptive" or "static", see ``AdaptiveTokenSampling``.
        normalize: None, or (mean, std), each one value per channel in the input's [0, 1] units: the network then
            standardizes its input.
        dtype: dtype policy of the layers, for example "mixed_bfloat16"; None: Keras's global policy. Under a mixed
            policy the head computes in float32.

    Input shape:
        (B, H, W, channels) floating point in [0, 1] (pixel / 255), RGB.

    Output shape:
        (B, num_classes) logits.

    Raises:
        ValueError: An option out of its range.

    Example:
    >>> model = wm.ViT(num_classes=10, image_shape=(32, 32, 3), patch_size=4, width=96, depth=6, heads=3)
    """

    def __init__(
        self,
        num_classes: int = 1000,
        image_shape: Sequence[int | None] = (224, 224, 3),
        patch_size: int = 16,
        width: int = 192,
        depth: int = 12,
        heads: int = 3,
        mlp_ratio: float = 4,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        sampling_blocks: Sequence[int] = (),
        sampling_tokens: int | Sequence[int | None] | None = None,
        sampling_mode: str = "adaptive",
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        sampling_blocks = tuple(sampling_blocks)
        arguments = dict(locals())
        policy = self._policy(arguments)
        check_positive("num_classes", num_classes)
        check_positive("depth", depth)
        check_image_shape(image_shape, check_positive("patch_size", patch_size))
        check_option("sampling_mode", sampling_mode, SAMPLING_MODES)
        height, breadth = image_shape[:2]
        if height is None or breadth is None or height % patch_size or breadth % patch_size:
            raise ValueError(
                "image_shape must have known sides that are multiples of patch_size. "
                f"Received: image_shape={tuple(image_shape)}, patch_size={patch_size}"
            )
        patches = (height // patch_size) * (breadth // patch_size)
        budgets = _budgets(sampling_blocks, sampling_tokens, depth, patches + 1)

        inputs, x = standardised_input(image_shape, normalize, policy)
        last = {"data_format": "channels_last", "name": "patch_embed", "dtype": policy}
        x = layers.Conv2D(width, patch_size, strides=patch_size, **last)(x)
        x = layers.Reshape((patches, width), name="patches", dtype=policy)(x)
        x = ClassTokenAndPositions(name="embed", dtype=policy)(x)  # (B, patches + 1, C)
        x = layers.Dropout(dropout, name="embed_dropout", dtype=policy)(x)
        live = None
        rates = rising_rates(stochastic_depth, depth)
        for index in range(depth):
            rate = rates[index]
            sampled = index in budgets
            block = TransformerBlock(
                width,
                heads,
                mlp_ratio,
                dropout,
                rate,
                budgets.get(index),
                sampling_mode if sampled else None,
                name=f"block{index + 1}",
                dtype=policy,
            )
            found = block(x) if live is None else block(x, live)
            x, live = found[:2] if sampled else (found, live)
        x = x[:, 0]  # the class token; the norm is per token
        x = layers.LayerNormalization(**LAYER_NORM, name="norm", dtype=policy)(x)
        logits = layers.Dense(num_classes, **_initial(), name="head", dtype=exact_policy(policy))(x)
        self._init_functional(inputs, logits, arguments, policy)


def _budgets(blocks: Sequence[int], tokens: Any, depth: int, most: int) -> dict[int, int]:
    """Return block -> budget of tokens."""
    if any(isinstance(block, bool) or not isinstance(block, (int, np.integer)) for block in blocks) or (
        list(blocks) != sorted(set(blocks)) or any(not 0 <= block < depth for block in blocks)
    ):
        raise ValueError(
            f"sampling_blocks must be blocks from 0 to {depth - 1}, ascending. Received: sampling_blocks={blocks}"
        )
    each = [tokens] * len(blocks) if tokens is None or isinstance(tokens, (int, np.integer)) else list(tokens)
    if len(each) != len(blocks):
        raise ValueError(
            "sampling_tokens must be one number, or one for each of sampling_blocks. "
            f"Received: sampling_tokens={tokens}, sampling_blocks={blocks}"
        )
    return {
        int(block): check_tokens("sampling_tokens", budget) or max(most, MIN_TOKENS)
        for block, budget in zip(blocks, each, strict=True)
    }


@keras.saving.register_keras_serializable(package="wavemix_tf")
class ClassTokenAndPositions(layers.Layer):
    """A learned token before all others, and a learned vector added to each token.

    ViT (arXiv 2010.11929, eq. 1).

    Input shape:
        (B, N, C).

    Output shape:
        (B, N + 1, C).
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 3 or None in input_shape[1:]:
            raise ValueError(f"{self.name} takes (B, N, C), N and C known. Received: input_shape={tuple(input_shape)}")
        length, width = input_shape[1:]
        tokens: int = length + 1  # type: ignore[operator]
        initial = [keras.initializers.TruncatedNormal(stddev=0.02) for _ in range(2)]
        self.class_token = self.add_weight(shape=(1, 1, width), initializer=initial[0], name="class_token")
        self.positions = self.add_weight(shape=(1, tokens, width), initializer=initial[1], name="positions")

    def call(self, x: Any) -> Any:
        # One table for both, and a pad instead of a concatenation, so that no op needs the batch size.
        length = self.positions.shape[1]
        first = ops.pad(ops.convert_to_tensor(self.class_token), [[0, 0], [0, length - 1], [0, 0]])
        table = ops.cast(first + ops.convert_to_tensor(self.positions), self.compute_dtype)
        return ops.pad(x, [[0, 0], [1, 0], [0, 0]]) + table

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], input_shape[1] + 1, input_shape[2])  # type: ignore[operator]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config()}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class SelfAttention(layers.Layer):
    """Multi-head self-attention, softmax(q k^T / sqrt(d)) v, with a mask of tokens and optional token sampling.

    Attention Is All You Need (Vaswani et al., arXiv 1706.03762, eq. 1) with one projection for query, key and value, as
    in timm's ViT. In a padded batch from which tokens were removed, existing tokens give removed ones no weight, and a
    removed token attends only to itself; 1e-6 of each token's attention is spread evenly over the existing tokens.

    With ``sampling_mode`` the rows of the attention matrix are gathered by ``AdaptiveTokenSampling`` (arXiv 2111.15667,
    section 3.3); keys and values stay complete. A softmax works row by row, so only the class token's row is computed
    before the choice, and then the kept rows.

    Args:
        width: C, channels of a token, a multiple of ``heads``.
        heads: Number of heads.
        dropout: Rate in [0, 1) after the last projection.
        sampling_tokens: See ``AdaptiveTokenSampling``.
        sampling_mode: None: all tokens are kept; or "adaptive" or "static".

    Call arguments:
        x: (B, N, C).
        live: None (all tokens exist), or (B, N), 1 for a token and 0 for a removed one.

    Returns:
        (B, N, C); with sampling a tuple of (B, n, C), which of these are tokens (B, n), and their positions among the N
        (B, n).

    Raises:
        ValueError: An option out of its range, or input whose channels are not ``width``.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        sampling_tokens: int | None = None,
        sampling_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if check_positive("width", width) % check_positive("heads", heads):
            raise ValueError(f"width must be a multiple of heads. Received: width={width}, heads={heads}")
        self.width = width
        self.heads = heads
        self.dropout = check_rate("dropout", dropout)
        self.sampling_tokens = check_tokens("sampling_tokens", sampling_tokens)
        self.sampling_mode = check_option("sampling_mode", sampling_mode, (None, *SAMPLING_MODES))

        self.qkv = sublayer(self, layers.Dense, "qkv", 3 * width, **_initial())
        self.proj = sublayer(self, layers.Dense, "proj", width, **_initial())
        self.drop = sublayer(self, layers.Dropout, "dropout", dropout)
        self.sampler: Any = None
        if sampling_mode is not None:
            self.sampler = sublayer(self, AdaptiveTokenSampling, "sampling", sampling_tokens, sampling_mode)
            self.gather = sublayer(self, GatherTokens, "gather")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 3 or input_shape[-1] != self.width:
            raise ValueError(f"{self.name} takes (B, N, {self.width}). Received: input_shape={tuple(input_shape)}")
        self.qkv.build(input_shape)
        self.proj.build(input_shape)

    def call(self, x: Any, live: Any = None, training: bool | None = None) -> Any:
        qkv = self.qkv(x)  # (B, N, 3C)
        q, k, v = (qkv[:, :, start : start + self.width] for start in range(0, 3 * self.width, self.width))
        k = ops.transpose(self._split(k), (0, 2, 3, 1))  # (B, heads, d, N)
        v = ops.transpose(self._split(v), (0, 2, 1, 3))  # (B, heads, N, d)
        if self.sampler is None:
            return self._attend(q, k, v, live, None if live is None else _self_attention_bias(live), training)
        # Rows of removed tokens are not gathered, so only their columns need the mask.
        keys = None if live is None else ((1.0 - live) * REMOVED)[:, None, None, :]
        first = self._weights(q[:, :1], k, keys)
        if live is not None:
            share = EPSILON * live / ops.sum(live, axis=-1, keepdims=True)
            first = (first + share[:, None, None, :]) / (1.0 + EPSILON)
        indices, left = self.sampler(first, v) if live is None else self.sampler(first, v, live)
        y = self._attend(self.gather(q, indices), k, v, live, keys, training)
        return y, left, indices

    inline = call

    def _split(self, x: Any) -> Any:
        """(B, n, C) -> (B, n, heads, d)."""
        return ops.reshape(x, (-1, ops.shape(x)[1], self.heads, self.width // self.heads))

    def _weights(self, q: Any, k: Any, keys: Any) -> Any:
        """Attention (B, heads, n, N) of the queries (B, n, C)."""
        q = ops.transpose(self._split(q * (self.width // self.heads) ** -0.5), (0, 2, 1, 3))
        scores = ops.matmul(q, k)
        return ops.softmax(scores if keys is None else scores + keys, axis=-1)

    def _attend(self, q: Any, k: Any, v: Any, live: Any, keys: Any, training: bool | None) -> Any:
        y = ops.matmul(self._weights(q, k, keys), v)  # (B, heads, n, d)
        if live is not None:
            # Equivalent to adding a share to every weight, without another pass over all weights. The released code
            # adds it before the normalization; the weights differ by less than EPSILON.
            mean = ops.sum(v * live[:, None, :, None], axis=2, keepdims=True)
            mean = mean / ops.sum(live, axis=-1)[:, None, None, None]
            y = (y + EPSILON * mean) / (1.0 + EPSILON)
        y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, ops.shape(q)[1], self.width))
        return self.drop(self.proj(y), training=training)

    def compute_output_shape(self, input_shape: Any, *_: Any) -> Any:
        batch, length, width = input_shape
        if self.sampler is None:
            return tuple(input_shape)
        budget = self.sampling_tokens or length
        kept = (batch, budget if length is None else min(budget, length))
        return (*kept, width), kept, kept

    def compute_output_spec(self, x: Any, live: Any = None, training: bool | None = None) -> Any:
        return _spec(self, x)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "heads": self.heads,
            "dropout": self.dropout,
            "sampling_tokens": self.sampling_tokens,
            "sampling_mode": self.sampling_mode,
        }


def _self_attention_bias(live: Any) -> Any:
    """Return the bias of scores (B, heads, N, N) that restricts attention from and to a removed token to itself."""
    length = ops.shape(live)[1]
    own = ops.cast(ops.eye(length), live.dtype)[None]
    return ((1.0 - ops.maximum(live[:, None, :], own)) * REMOVED)[:, None]


@keras.saving.register_keras_serializable(package="wavemix_tf")
class TransformerBlock(layers.Layer):
    """Pre-norm transformer block: x + attention(norm(x)), then x + feed-forward(norm(x)).

    ViT (arXiv 2010.11929, eq. 2 and 3): the feed-forward is a dense layer to ``mlp_ratio`` times the channels, an exact
    GELU, and a dense layer back. With ``sampling_mode`` tokens are removed between the two steps, also from the
    residual (arXiv 2111.15667, figure 2).

    Args:
        width: C, channels of a token, a multiple of ``heads``.
        heads: Heads of the attention.
        mlp_ratio: Hidden channels as a multiple of ``width``.
        dropout: Rate in [0, 1) after the attention and each layer of the feed-forward.
        stochastic_depth: Rate in [0, 1) at which each branch is skipped for an image in training.
        sampling_tokens: See ``AdaptiveTokenSampling``.
        sampling_mode: None: all tokens are kept; or "adaptive" or "static".

    Call arguments:
        x: (B, N, C).
        live: None (all tokens exist), or (B, N), 1 for a token and 0 for a removed one.

    Returns:
        (B, N, C); with sampling a tuple of (B, n, C), which of these are tokens (B, n) (padding rows are zero), and
        their positions among the N (B, n). The symbolic n is the largest possible.

    Raises:
        ValueError: An option out of its range, or input whose channels are not ``width``.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        sampling_tokens: int | None = None,
        sampling_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        hidden = int(check_positive("width", width) * mlp_ratio)
        if hidden < 1:
            raise ValueError(f"mlp_ratio times width must be at least 1. Received: mlp_ratio={mlp_ratio}")
        self.width = width
        self.heads = heads
        self.mlp_ratio = mlp_ratio
        self.dropout = check_rate("dropout", dropout)
        self.stochastic_depth = check_rate("stochastic_depth", stochastic_depth)
        self.sampling_tokens = sampling_tokens
        self.sampling_mode = sampling_mode

        path = {"noise_shape": (None, 1, 1)}
        self.norm1 = sublayer(self, layers.LayerNormalization, "norm1", **LAYER_NORM)
        attention = (width, heads, dropout, sampling_tokens, sampling_mode)
        self.attention = sublayer(self, SelfAttention, "attention", *attention)
        self.path1 = sublayer(self, layers.Dropout, "path1", stochastic_depth, **path)
        self.norm2 = sublayer(self, layers.LayerNormalization, "norm2", **LAYER_NORM)
        self.fc1 = sublayer(self, layers.Dense, "fc1", hidden, **_initial())
        self.activation = sublayer(self, layers.Activation, "activation", ACTIVATIONS["gelu"])
        self.drop1 = sublayer(self, layers.Dropout, "dropout1", dropout)
        self.fc2 = sublayer(self, layers.Dense, "fc2", width, **_initial())
        self.drop2 = sublayer(self, layers.Dropout, "dropout2", dropout)
        self.path2 = sublayer(self, layers.Dropout, "path2", stochastic_depth, **path)
        self.gather = sublayer(self, GatherTokens, "gather") if sampling_mode is not None else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 3 or input_shape[-1] != self.width:
            raise ValueError(f"{self.name} takes (B, N, {self.width}). Received: input_shape={tuple(input_shape)}")
        for part in (self.norm1, self.attention, self.norm2, self.fc1):
            part.build(input_shape)
        self.fc2.build((*input_shape[:2], self.fc1.units))

    def call(self, x: Any, live: Any = None, training: bool | None = None) -> Any:
        y = self.norm1(x)
        found = self.attention(y, training=training) if live is None else self.attention(y, live, training=training)
        if self.gather is None:
            return self._feed_forward(x + self.path1(found, training=training), training)
        y, left, indices = found
        x = self.gather(x, indices) + self.path1(y, training=training)
        x = self._feed_forward(x, training)
        return x * left[:, :, None], left, indices

    inline = call

    def _feed_forward(self, x: Any, training: bool | None) -> Any:
        y = self.drop1(self.activation(self.fc1(self.norm2(x))), training=training)
        return x + self.path2(self.drop2(self.fc2(y), training=training), training=training)

    def compute_output_shape(self, input_shape: Any, *_: Any) -> Any:
        return self.attention.compute_output_shape(input_shape)

    def compute_output_spec(self, x: Any, live: Any = None, training: bool | None = None) -> Any:
        return _spec(self, x)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
            "dropout": self.dropout,
            "stochastic_depth": self.stochastic_depth,
            "sampling_tokens": self.sampling_tokens,
            "sampling_mode": self.sampling_mode,
        }


def _initial() -> dict[str, Any]:
    """Return new initializers of a dense layer, as in DeiT; a shared one would give equal shapes equal values."""
    return {"kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.02)}


def _spec(layer: Any, x: Any) -> Any:
    """Return the symbolic outputs of an attention or a block; positions are integers."""
    shapes = layer.compute_output_shape(x.shape)
    if layer.sampling_mode is None:
        return keras.KerasTensor(shapes, layer.compute_dtype)
    dtypes = (layer.compute_dtype, layer.compute_dtype, "int32")
    return tuple(keras.KerasTensor(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True))
