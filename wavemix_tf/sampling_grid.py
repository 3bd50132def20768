"""The sampling grid of a network: the product of its strides and wavelet levels, in pixels of the input.

An image shifted by multiples of the grid gives the same outputs, shifted; any other shift changes them.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import keras

from .keras_internals import without_new_calls
from .layers.wavelets import DWT2D
from .tracing import Tracer, is_opened

STAND_IN_SIDE = 960  # pixels, for a side of any length: many grids divide it
Scale = tuple[Fraction, Fraction] | None  # a tensor's sides over the input's; None: the tensor is no image


def sampling_grid(model: Any) -> tuple[int, int] | None:
    """Return the period (rows, columns) in pixels of a network's coarsest sampling; None if it cannot be determined.

    A network with three wavelet levels per block after a stem of stride 2 has a grid of 16 x 16; a network that first
    enlarges its input has a finer grid.

    Args:
        model: ``keras.Model`` of one image input (B, H, W, C), "channels_last".
    """
    inputs = getattr(model, "inputs", None) if isinstance(model, keras.Model) else None
    if not inputs or len(inputs) != 1 or len(inputs[0].shape) != 4:
        return None
    tracer = _Grid()
    sides = [side or STAND_IN_SIDE for side in inputs[0].shape[1:3]]
    with without_new_calls(model):
        stand_in = keras.Input(batch_shape=(1, *sides, inputs[0].shape[3]), dtype=inputs[0].dtype)
        tracer.start(stand_in)
        try:
            results = model.call(stand_in)
        except Exception:  # a custom model may raise anything on a symbolic tensor
            return None
        tracer.walk(keras.tree.flatten(results), owner=model)
    return tracer.grid[0], tracer.grid[1]


class _Grid(Tracer):
    """Trace a model as the profiler does, and track each tensor's scale instead of its memory."""

    def start(self, tensor: Any) -> None:
        self._alive.append(tensor)
        self._sides = tuple(tensor.shape[1:3])
        self._buffers: dict[int, Any] = {id(tensor): (Fraction(1), Fraction(1))}
        self.grid = [1, 1]

    def _visit(self, operation: Any, call: Any, owner: Any) -> None:
        self._alive += [operation, *call.outputs]
        if isinstance(operation, keras.Layer) and is_opened(operation) and self._open(operation, call):
            return
        images = [tensor for tensor in call.arguments.keras_tensors if self._buffers[id(tensor)] is not None]
        source = max(images, key=lambda tensor: tensor.shape[1] * tensor.shape[2], default=None)
        for output in call.outputs:
            scale = self._scale(operation, source, output)
            self._buffers[id(output)] = scale
            for axis, along in enumerate(scale or ()):
                self.grid[axis] = math.lcm(self.grid[axis], along.denominator)

    def _scale(self, operation: Any, source: Any, output: Any) -> Scale:
        if len(output.shape) != 4 or None in output.shape[1:3]:
            return None
        strides = getattr(operation, "strides", None)
        if isinstance(operation, DWT2D):
            strides = None  # several levels: use the shape of each output
        rises = "Transpose" in type(operation).__name__
        before = None if source is None else (tuple(source.shape[1:3]), self._buffers[id(source)])
        return scale_behind(before, tuple(output.shape[1:3]), self._sides, strides, rises)


def scale_behind(
    source: tuple[tuple[int, int], Scale] | None,
    sides: tuple[int, int],
    whole: tuple[int, int],
    strides: Any = None,
    rises: bool = False,
) -> Scale:
    """Return the scale of an operation's output: its rows and columns per row and column of the network's input.

    Args:
        source: ((rows, columns), scale) of its input image, the largest of several; None: it has none.
        sides: (rows, columns) of the output.
        whole: (rows, columns) of the network's input.
        strides: Strides of the operation, one number or two; None: derive the scale from the sides.
        rises: Whether strides enlarge, as in a transposed convolution.
    """
    if sides == (1, 1):
        return None  # a mean has no position
    if source is None or source[1] is None:  # tokens or a mean have no grid
        share = Fraction(whole[0], sides[0])
        patches = share.denominator == 1 and share == Fraction(whole[1], sides[1])
        return (1 / share, 1 / share) if patches else None  # attention matrices have four axes too
    if strides is None:
        along = [_ratio(*pair) for pair in zip(source[0], sides, strict=True)]
    else:
        given = (strides, strides) if isinstance(strides, int) else strides
        along = [Fraction(step) if rises else Fraction(1, step) for step in given]
    return source[1][0] * along[0], source[1][1] * along[1]


def _ratio(before: int, after: int) -> Fraction:
    """Return the factor by which an axis was enlarged or reduced, rounded so that borders do not count."""
    return Fraction(round(after / before)) if after > before else Fraction(1, round(before / after))
