"""Inspect a trained WaveMix: the wavelet bands inside its blocks, and the Grad-CAM map of a class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from .checks import check_positive
from .keras_internals import flatten_layers
from .layers.wavemix_blocks import WaveMixBlock

BANDS = ("LL", "LH", "HL", "HH")


@dataclass(frozen=True)
class BlockBands:
    """The transform of one level of one block, for one image.

    Args:
        block: Name of the block.
        level: 1 for the finest.
        energy: Share of LL, LH, HL and HH in the sum of squares of all coefficients of this level. The Haar transform
            is orthonormal: this sum equals that of its input.
        bands: float32 (4, H / 2**level, W / 2**level, width / 4), the coefficients.
    """

    block: str
    level: int
    energy: tuple[float, float, float, float]
    bands: np.ndarray = field(repr=False)

    def strongest(self, count: int = 1) -> list[int]:
        """Return the channels with the most energy in the details (LH, HL and HH together), in descending order."""
        energy = np.square(self.bands[1:], dtype=np.float64).sum(axis=(0, 1, 2))
        return [int(channel) for channel in np.argsort(-energy, kind="stable")[: check_positive("count", count)]]


@dataclass(frozen=True)
class Saliency:
    """Grad-CAM map of a classifier for one class.

    Args:
        class_index: The class.
        logits: float32 (classes,), the model's output.
        map: float32 (H, W) of the last block's output, in [0, 1].
    """

    class_index: int
    logits: np.ndarray = field(repr=False)
    map: np.ndarray = field(repr=False)


def wavemix_blocks(model: Any) -> list[Any]:
    """Return the ``WaveMixBlock`` layers of a model, including nested ones, in the model's order.

    Raises:
        ValueError: There is none. A quantized model has none: its blocks were replaced by single layers.
    """
    blocks = [layer for layer in flatten_layers(model, include_self=False) if isinstance(layer, WaveMixBlock)]
    if not blocks:
        raise ValueError(
            "A model must have WaveMixBlock layers to be inspected; a run's model.keras has, qat.keras has not. "
            f"Received: model {model.name!r} with {len(model.layers)} layers, none of them a WaveMixBlock"
        )
    return blocks


def block_bands(model: Any, image: np.ndarray) -> list[BlockBands]:
    """Return the wavelet bands in each block of a model, for one image.

    A block transforms the output of its 1x1 convolution ``reduce``, and the LL band of that at each further level.

    Args:
        model: A Keras model with ``WaveMixBlock`` layers.
        image: float (H, W, C) in [0, 1], of the model's size.

    Returns:
        One ``BlockBands`` per block and level, in the order of blocks, the finest level first.

    Raises:
        ValueError: The model has no ``WaveMixBlock``.
    """
    blocks = wavemix_blocks(model)
    with _recording_block_inputs(blocks) as inputs:
        model(ops.convert_to_tensor(np.asarray(image, np.float32)[None]), training=False)
    found = []
    for block in blocks:
        if block.name not in inputs:
            continue  # not called, such as a part used only in training
        x = inputs[block.name]
        # As at the entry of the block: zero padding, for which `reduce` returns its bias.
        extra = [-side % 2**block.levels for side in x.shape[1:3]]
        x = block.reduce(ops.pad(x, [[0, 0], [0, extra[0]], [0, extra[1]], [0, 0]]))
        for level, transform in enumerate(block.dwts, 1):
            bands = transform(x)
            x = bands[..., : x.shape[-1]]
            array = np.asarray(ops.convert_to_numpy(ops.cast(bands, "float32")))[0]
            stacked = np.stack(np.split(array, 4, axis=-1))
            energy = np.square(stacked, dtype=np.float64).sum(axis=(1, 2, 3))
            ll, lh, hl, hh = (float(part) for part in energy / max(energy.sum(), 1e-30))
            found.append(BlockBands(block.name, level, (ll, lh, hl, hh), stacked))
    return found


def saliency(model: Any, image: np.ndarray, class_index: int | None = None) -> Saliency:
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391, eq. 1 and 2) on the output A of the last block.

    ``relu(sum_k a_k A_k)``, scaled to a maximum of one. ``a_k`` is the mean over all positions of the gradient of the
    class logit with respect to channel k of A.

    Args:
        model: A classifier with ``WaveMixBlock`` layers: (1, H, W, C) -> (1, classes) logits.
        image: float (H, W, C) in [0, 1], of the model's size.
        class_index: The class; None: the class with the largest logit.

    Returns:
        A ``Saliency``, whose map has the size of the last block.

    Raises:
        ValueError: No classifier, no ``WaveMixBlock``, no such class, or a Keras backend without gradients.
    """
    blocks = wavemix_blocks(model)
    x = ops.convert_to_tensor(np.asarray(image, np.float32)[None])
    with _recording_block_inputs(blocks) as inputs:
        logits = np.asarray(ops.convert_to_numpy(model(x, training=False)), np.float32)
    if logits.ndim != 2:
        raise ValueError(f"model must be a classifier, (B, classes). Received: output of shape {logits.shape}")
    chosen = int(logits[0].argmax()) if class_index is None else class_index
    if not 0 <= chosen < logits.shape[1]:
        raise ValueError(f"class_index must be 0 to {logits.shape[1] - 1}. Received: class_index={class_index}")
    # The last block in the order of calls, which in a branched model differs from the order of layers.
    last = next(block for block in reversed(blocks) if block.name == list(inputs)[-1])
    caught: dict[str, Any] = {}

    def class_logit(shift: Any) -> Any:
        """The logit as a function of a shift of A; its gradient at zero is the gradient with respect to A."""
        with _shifting(last, shift, caught):
            return ops.cast(model(x, training=False)[0, chosen], "float32")

    shape = inputs[last.name].shape  # a block keeps the shape of its input
    gradient = _gradient(class_logit, np.zeros(tuple(shape), np.float32))[0]
    with _shifting(last, None, caught):  # once more, since a traced function yields no values
        model(x, training=False)
    activation = np.asarray(ops.convert_to_numpy(ops.cast(caught["output"], "float32")))[0]
    weights = gradient.mean(axis=(0, 1))
    shown = np.maximum((activation * weights).sum(-1), 0)
    return Saliency(
        class_index=chosen,
        logits=logits[0],
        map=(shown / max(float(shown.max()), 1e-30)).astype(np.float32),
    )


@contextmanager
def _recording_block_inputs(blocks: list[Any]) -> Iterator[dict[str, Any]]:
    """Record name of each block -> input of its last call, in the order of calls."""
    inputs: dict[str, Any] = {}

    def record_input(block: Any) -> Any:
        original = block.call

        def call(x: Any, *args: Any, **options: Any) -> Any:
            inputs.pop(block.name, None)
            inputs[block.name] = x
            return original(x, *args, **options)

        return call

    for block in blocks:
        object.__setattr__(block, "call", record_input(block))
    try:
        yield inputs
    finally:
        for block in blocks:
            object.__delattr__(block, "call")


@contextmanager
def _shifting(block: Any, shift: Any, caught: dict[str, Any]) -> Iterator[None]:
    """Add ``shift`` to a block's output; ``caught["output"]`` is the output without it."""
    original = block.call

    def call(x: Any, *args: Any, **options: Any) -> Any:
        caught["output"] = original(x, *args, **options)
        return caught["output"] if shift is None else caught["output"] + ops.cast(shift, caught["output"].dtype)

    object.__setattr__(block, "call", call)
    try:
        yield
    finally:
        object.__delattr__(block, "call")


def _gradient(function: Any, at: np.ndarray) -> np.ndarray:
    """Return the gradient of a scalar Keras function of one tensor; ``keras.ops`` has no function for it."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        point = tf.constant(at)
        with tf.GradientTape() as tape:
            tape.watch(point)
            value = function(point)
        return np.asarray(tape.gradient(value, point))
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(at))
    if backend == "torch":
        import torch

        point = ops.convert_to_tensor(at).clone().requires_grad_(True)
        return np.asarray(torch.autograd.grad(function(point), point)[0].cpu())  # without gradients of the weights
    raise ValueError(f"Gradients need the tensorflow, jax or torch backend of Keras. Received: backend={backend!r}")
