"""Adaptive token sampling: the layer, its use in a trained ViT, and its savings per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ..checks import check_option, check_positive

SAMPLING_MODES = ("adaptive", "static")
MIN_TOKENS = 8
# Weight that attention over a padded batch spreads evenly, as in the released code, but here only over existing tokens:
# the released code spreads it over padding too, so that an image's result depends on the others in its batch.
EPSILON = 1e-6
# Added to the score of a removed token: compared with any score of a trained network its exponential is zero.
REMOVED = -1e4


@keras.saving.register_keras_serializable(package="wavemix_tf")
class AdaptiveTokenSampling(layers.Layer):
    """Choose the tokens that a ViT block keeps: no parameters, and a number of tokens that depends on the image.

    Adaptive Token Sampling (Fayyaz et al., arXiv 2111.15667, sections 3.1 and 3.2). Token j other than the class token
    has the significance (eq. 3)::

        S_j = sum over heads of A[class, j] * |v_j| / sum over j      |v_j|: L2 norm over the concatenated heads

    The cumulative sum of the sorted significances, min-max normalized, is a distribution function with a step at each
    token. Each of ``tokens - 1`` evenly spaced points from its smallest non-zero value to 1 chooses the token with the
    nearest value; a token chosen several times is kept once. If few tokens have most of the significance, few are kept.
    The class token is always kept. The choice has no gradient; rows gathered by it have.

    Since the points are evenly spaced, a token is chosen exactly if a point lies between the midpoints to its two
    neighbors in the distribution. Counting the points below each midpoint needs no table of points and tokens.

    Args:
        tokens: Budget of tokens, including the class token, at least 8; None: as many as the first attention has keys.
        mode: "adaptive": the length of the outputs is that of the image with the most tokens in the batch, the others
            are padded. Under JAX, where shapes are fixed, and in a graph of symbolic tensors the length is that of
            "static". "static": always ``min(tokens, N)``, for runtimes with fixed shapes; computed with comparisons and
            sums instead of a sort, which many of them do not support. Both choose the same tokens, except where float32
            rounding decides which of two is nearer.

    Call arguments:
        attention: Weights (B, heads, rows, N) after the softmax; only the first row, the class token's, is read.
        values: (B, heads, N, d) of the same attention.
        live: None (all tokens exist), or (B, N), 1 for a token and 0 for one removed earlier.

    Returns:
        Indices (B, n) int32 of the kept tokens, first the class token's 0, the others in their order; and (B, n), 1 for
        a token and 0 for padding, which repeats index 0.

    Raises:
        ValueError: An option out of its range.

    Example:
    >>> indices, live = wm.AdaptiveTokenSampling(tokens=100)(attention, values)
    """

    def __init__(self, tokens: int | None = None, mode: str = "adaptive", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tokens = check_tokens("tokens", tokens)
        self.budget: Any = self.tokens
        self.mode = check_option("mode", mode, SAMPLING_MODES)
        if mode == "adaptive" and keras.backend.backend() != "jax":
            self.supports_jit = False  # XLA does not support data-dependent lengths

    def build(self, attention_shape: tuple[int | None, ...], *_: Any) -> None:
        if self.tokens is None and attention_shape[-1] is None:
            raise ValueError(f"tokens must be given if N is unknown. Received: attention {tuple(attention_shape)}")
        self.budget = self._budget(attention_shape[-1])

    def _budget(self, size: Any) -> int:
        return self.budget or max(MIN_TOKENS, size)

    def call(self, attention: Any, values: Any, live: Any = None) -> tuple[Any, Any]:
        attention, values = (ops.cast(ops.stop_gradient(part), "float32") for part in (attention, values))
        norms = ops.sqrt(ops.sum(values * values, axis=(1, 3)))[:, 1:]  # (B, N - 1)
        scores = ops.sum(attention[:, :, :1, 1:], axis=(1, 2)) * norms
        there = ops.ones_like(scores) if live is None else ops.cast(live, "float32")[:, 1:]
        scores = scores * there
        scores = scores / ops.maximum(ops.sum(scores, axis=-1, keepdims=True), 1e-30)
        count = min(self.budget, attention.shape[-1] or self.budget) - 1
        chosen, kept = (self._by_comparison if self.mode == "static" else self._by_sorting)(scores, there, count)
        # The class token comes first.
        return ops.pad(chosen, [[0, 0], [1, 0]]), 1.0 - ops.pad(1.0 - kept, [[0, 0], [1, 0]])

    def _by_sorting(self, scores: Any, there: Any, count: int) -> tuple[Any, Any]:
        size = ops.shape(scores)[-1]
        order = ops.argsort(ops.where(there > 0.0, scores, -1.0), axis=-1)  # removed tokens first
        cdf = ops.cumsum(ops.take_along_axis(scores, order, axis=-1), axis=-1)
        cdf, first, step = self._normalised(cdf, scores, there)
        middles = (cdf[:, :-1] + cdf[:, 1:]) / 2.0
        below = self._points_below(middles, first, step)
        below = ops.pad(below, [[0, 0], [1, 0]])
        last = (self.budget - 1.0) * ops.max(there, axis=-1, keepdims=True)  # all points, if any token exists
        taken = ops.concatenate([below[:, 1:], last], axis=-1) > below
        order = ops.cast(order, "int32")
        order = ops.sort(ops.where(taken, order, order + size), axis=-1)  # chosen tokens, then the others
        longest = _longest(taken, count)
        order = order[:, :longest]
        kept = order < size
        return ops.where(kept, order + 1, 0), ops.cast(kept, self.compute_dtype)

    def _by_comparison(self, scores: Any, there: Any, count: int) -> tuple[Any, Any]:
        size = scores.shape[-1]
        key = ops.where(there > 0.0, scores, -1.0)  # removed tokens first
        earlier = np.triu(np.ones((size, size), "float32"), 1)[None]  # equal scores keep their order
        one, other = key[:, :, None], key[:, None, :]
        # (B, N - 1, N - 1): whether token i comes before token j.
        before = ops.cast(one < other, "float32") + ops.cast(ops.equal(one, other), "float32") * earlier
        until = before + np.eye(size, dtype="float32")[None]
        cdf = ops.sum(until * scores[:, :, None], axis=1)
        cdf, first, step = self._normalised(cdf, scores, there)
        # The values before and after each token's value; for the first and the last, values outside all points.
        previous = ops.max(ops.where(before > 0.0, cdf[:, :, None], -9.0), axis=1)
        following = _least(ops.where(until < 1.0, cdf[:, :, None], 9.0), axis=1)
        below = self._points_below((cdf + previous) / 2.0, first, step)
        taken = ops.cast(below < self._points_below((cdf + following) / 2.0, first, step), "float32") * there
        place = ops.sum(taken[:, :, None] * earlier, axis=1)
        # (B, n - 1, N - 1): whether the token takes the output position.
        places = np.arange(count, dtype="float32")[None, :, None]
        at = ops.cast(ops.equal(place[:, None, :], places), "float32") * taken[:, None, :]
        indices = ops.sum(at * np.arange(1, size + 1, dtype="float32"), axis=-1)
        return ops.cast(indices, "int32"), ops.cast(ops.sum(at, axis=-1), self.compute_dtype)

    def _normalised(self, cdf: Any, scores: Any, there: Any) -> tuple[Any, Any, Any]:
        """Return the distribution from 0, at the least significant token, to 1; the first point; the point distance."""
        high = ops.max(cdf, axis=-1, keepdims=True)
        low = ops.minimum(_least(scores + (1.0 - there) * 9.0, axis=-1, keepdims=True), high)
        cdf = ops.maximum((cdf - low) / ops.maximum(high - low, 1e-30), -1.0)  # below 0: removed tokens
        first = _least(ops.where(cdf > 0.0, cdf, 1.0), axis=-1, keepdims=True)  # 1 if there is a single token, at 0
        return cdf, first, ops.maximum((1.0 - first) / (self.budget - 2), 1e-30)

    def _points_below(self, bounds: Any, first: Any, step: Any) -> Any:
        """Count the points ``first + i * step`` not above each bound."""
        count = ops.minimum(ops.maximum((bounds - first) / step + 1.0, 0.0), self.budget - 1.0)
        return ops.cast(ops.cast(count, "int32"), "float32")  # rounded down

    def compute_output_shape(self, attention_shape: Any, *_: Any) -> Any:
        batch, size = attention_shape[0], attention_shape[-1]
        length = min(self._budget(size), size or self._budget(size))
        return (batch, length), (batch, length)

    def compute_output_spec(self, attention: Any, values: Any, live: Any = None) -> Any:
        indices, kept = self.compute_output_shape(attention.shape)
        return keras.KerasTensor(indices, "int32"), keras.KerasTensor(kept, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "tokens": self.tokens, "mode": self.mode}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class GatherTokens(layers.Layer):
    """Gather rows of a sequence by index, for each image.

    Call arguments:
        x: (B, N, C).
        indices: (B, n), from 0 to N - 1.

    Returns:
        (B, n, C).
    """

    def call(self, x: Any, indices: Any) -> Any:
        batch, length = ops.shape(x)[:2]
        starts = ops.arange(batch, dtype="int32")[:, None] * length
        # Whole rows of one table: gathering along an axis would repeat each index for every channel.
        return ops.take(ops.reshape(x, (-1, x.shape[-1])), ops.cast(indices, "int32") + starts, axis=0)

    def compute_output_shape(self, x_shape: Any, indices_shape: Any) -> Any:
        return (*indices_shape[:2], x_shape[-1])

    def compute_output_spec(self, x: Any, indices: Any) -> Any:
        return keras.KerasTensor(self.compute_output_shape(x.shape, indices.shape), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config()}


def check_tokens(name: str, tokens: Any) -> int | None:
    """Return a budget if it is None or at least ``MIN_TOKENS``."""
    if tokens is not None and check_positive(name, tokens) < MIN_TOKENS:
        raise ValueError(f"{name} must be None or at least {MIN_TOKENS}. Received: {name}={tokens}")
    return tokens


def _least(x: Any, **options: Any) -> Any:
    """``ops.min`` by the maximum: TensorFlow Lite Micro has no minimum kernel."""
    return -ops.max(-x, **options)


def _longest(taken: Any, count: int) -> Any:
    """Return the largest number of tokens that an image of the batch keeps; ``count`` if shapes must be fixed."""
    if isinstance(taken, keras.KerasTensor) or keras.backend.backend() == "jax":
        return count
    longest = ops.max(ops.sum(ops.cast(taken, "int32"), axis=-1))
    return int(longest) if keras.backend.backend() == "torch" else longest


# --- a trained ViT ----------------------------------------------------------------------------------------------------


def with_token_sampling(
    vit: Any,
    blocks: Iterable[int],
    tokens: int | Sequence[int | None] | None = None,
    mode: str = "adaptive",
) -> Any:
    """Return the same network with adaptive token sampling in some of its blocks, without retraining.

    Args:
        vit: A ``ViT``, usually trained; it stays unchanged.
        blocks: Blocks that sample, counted from 0 as in the paper: DeiT-S has ``range(3, 12)``.
        tokens: Budget of each of them, including the class token: one number, or one per block; None: the image's
            number of tokens, so that only the image decides.
        mode: "adaptive" or "static", see ``AdaptiveTokenSampling``.

    Returns:
        A new ``ViT`` with copies of the weights.

    Raises:
        ValueError: Not a ``ViT``, or an option out of its range.

    Example:
    >>> faster = wm.with_token_sampling(wm.build_model("deit_small"), blocks=range(3, 12), tokens=108)
    """
    _check_vit(vit)
    if not isinstance(blocks, Iterable):
        raise ValueError(f"blocks must be several numbers, e.g. range(3, 12). Received: blocks={blocks!r}")
    sampling = {"sampling_blocks": tuple(blocks), "sampling_tokens": tokens, "sampling_mode": mode}
    sampled = type(vit).from_config(vit.get_config() | sampling)
    sampled.set_weights(vit.get_weights())
    return sampled


@dataclass(frozen=True)
class TokenCounts:
    """Tokens and cost of each image of a dataset.

    Args:
        kept: (images, depth) tokens after each block, including the class token.
        macs: (images,) multiply-accumulates.
    """

    kept: np.ndarray
    macs: np.ndarray

    @property
    def gmacs(self) -> float:
        """Billions of multiply-accumulates, averaged over the images; ViT papers call them GFLOPs."""
        return float(np.mean(self.macs)) / 1e9

    @property
    def kept_per_block(self) -> np.ndarray:
        """(depth,) tokens after each block, averaged over the images."""
        return self.kept.mean(axis=0)


def count_tokens(vit: Any, images: Any, batch_size: int = 64) -> TokenCounts:
    """Count the tokens that every block keeps for every image, and the multiply-accumulates.

    Multiply-accumulates are those of convolutions, dense layers and both products of attention, with the image's own
    numbers of tokens: padding of a batch does not count. A sampling block computes the class token's row of attention
    first, and then the rows of the kept tokens. "GFLOPs" in ViT papers are the same: billions of multiply-accumulates.

    Args:
        vit: A ``ViT``.
        images: (images, H, W, channels) in [0, 1]; or an iterable of batches of them, with or without labels.
        batch_size: Batch size for an array.

    Returns:
        ``TokenCounts``.

    Raises:
        ValueError: Not a ``ViT``.

    Example:
    >>> counts = wm.count_tokens(sampled, test_images)
    >>> counts.gmacs, counts.kept_per_block
    """
    _check_vit(vit)
    layers_ = _sampling_layers(vit)
    tokens = _patch_count(vit) + 1
    found = []
    probe = keras.Model(vit.input, [layer.output[1] for layer in layers_]) if layers_ else None
    for batch in _batches(images, batch_size):
        kept = np.full((len(batch), vit.depth), tokens)
        if probe is not None:
            for block, live in zip(vit.sampling_blocks, _run(probe, batch), strict=True):
                kept[:, block:] = live.astype("float32").sum(axis=-1).round().astype(int)[:, None]
        found.append(kept)
    kept = np.concatenate(found)
    return TokenCounts(kept, token_macs(vit, kept))


def token_macs(vit: Any, kept: np.ndarray) -> np.ndarray:
    """Return the multiply-accumulates of each image from the tokens after each block.

    Args:
        vit: A ``ViT``.
        kept: (images, depth).

    Returns:
        (images,) int64.
    """
    kept, width = np.asarray(kept, "int64"), vit.width
    patches = _patch_count(vit)
    hidden = int(width * vit.mlp_ratio)
    macs = np.full(len(kept), patches * vit.patch_size**2 * vit.image_shape[2] * width + width * vit.num_classes)
    entering = np.full(len(kept), patches + 1)
    for block in range(vit.depth):
        leaving = kept[:, block]
        macs = macs + entering * 3 * width**2  # query, key and value
        macs = macs + 2 * leaving * entering * width  # scores, and the sum of the values
        if block in vit.sampling_blocks:
            macs = macs + entering * width  # the class token's scores, before the others
        macs = macs + leaving * (width**2 + 2 * width * hidden)
        entering = leaving
    return macs


def surviving_patches(vit: Any, images: Any, batch_size: int = 64) -> np.ndarray:
    """Return which patches of each image remain after each sampling block.

    Args:
        vit: A ``ViT`` with ``sampling_blocks``.
        images: As for ``count_tokens``.
        batch_size: Batch size for an array.

    Returns:
        bool (images, sampling blocks, rows, columns) of patches.

    Raises:
        ValueError: Not a ``ViT``, or one without token sampling.

    Example:
    >>> left = wm.surviving_patches(sampled, images)[0, -1]     # (14, 14) patches of 16 x 16 pixels in DeiT
    """
    _check_vit(vit)
    layers_ = _sampling_layers(vit)
    if not layers_:
        raise ValueError("vit must sample tokens in at least one block. Received: sampling_blocks=()")
    rows, columns = (side // vit.patch_size for side in vit.image_shape[:2])
    probe = keras.Model(vit.input, [layer.output[2] for layer in layers_])
    found = []
    for batch in _batches(images, batch_size):
        parts = _run(probe, batch)
        left = np.zeros((len(batch), len(layers_), rows * columns + 1), bool)
        origin = np.tile(np.arange(rows * columns + 1), (len(batch), 1))
        for index in range(len(layers_)):
            # (images, n), positions in the image; padding repeats the class token.
            origin = np.take_along_axis(origin, parts[index], axis=1)
            np.put_along_axis(left[:, index], origin, True, axis=1)
        found.append(left[:, :, 1:].reshape(len(batch), len(layers_), rows, columns))
    return np.concatenate(found)


def _sampling_layers(vit: Any) -> list[Any]:
    return [vit.get_layer(f"block{block + 1}") for block in vit.sampling_blocks]


def _patch_count(vit: Any) -> int:
    return (vit.image_shape[0] // vit.patch_size) * (vit.image_shape[1] // vit.patch_size)


def _check_vit(vit: Any) -> None:
    if not isinstance(vit, keras.Model) or not hasattr(vit, "sampling_blocks"):
        raise ValueError(f"vit must be a ViT. Received: vit of type {type(vit).__name__}")


def _run(probe: Any, batch: np.ndarray) -> list[np.ndarray]:
    """Return the probe's outputs, not compiled: shapes depend on the images, and each would be compiled again."""
    return [ops.convert_to_numpy(part) for part in keras.tree.flatten(probe(batch, training=False))]


def _batches(images: Any, batch_size: int) -> Iterable[np.ndarray]:
    if hasattr(images, "shape"):
        check_positive("batch_size", batch_size)
        for start in range(0, len(images), batch_size):
            yield np.asarray(images[start : start + batch_size], "float32")
        return
    for batch in images:
        yield np.asarray(batch[0] if isinstance(batch, (list, tuple)) else batch, "float32")
