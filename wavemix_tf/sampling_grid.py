"""The grid that a network samples its input on: what its strides and wavelet levels come to, in pixels of the input.

An image moved by whole multiples of the grid gives the same outputs, moved; by anything else, others.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import keras

from .keras_internals import without_new_calls
from .layers.wavelets import DWT2D
from .tracing import Tracer, is_opened

STAND_IN_SIDE = 960  # pixels, for a side that may have any length: many grids divide it
Scale = tuple[Fraction, Fraction] | None  # of a tensor's sides to the input's; None: not laid out as an image


def sampling_grid(model: Any) -> tuple[int, int] | None:
    """(rows, columns) in pixels that a network's coarsest sampling repeats after, or None where that cannot be told.

    A network whose blocks have three wavelet levels behind a stem of stride 2 has a grid of 16 x 16; one that enlarges
    its input first, a finer one.

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
        except Exception:  # whatever a model of someone's does with a tensor that has no values
            return None
        tracer.walk(keras.tree.flatten(results), owner=model)
    return tracer.grid[0], tracer.grid[1]


class _Grid(Tracer):
    """Follows the profiler's way through a model, with each tensor's scale in the place of its memory."""

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
            strides = None  # of several levels: each output tells its own
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
    """Scale of what an operation gives: how many of its rows and columns lie on one of the network's input.

    Args:
        source: ((rows, columns), scale) of the image it reads, the largest of several; None: it reads none.
        sides: (rows, columns) of what it gives.
        whole: (rows, columns) of the network's input.
        strides: Of the operation, one number or two, where it has some; otherwise the sides tell.
        rises: Whether strides spread samples, as in a transposed convolution.
    """
    if sides == (1, 1):
        return None  # a mean has no place
    if source is None or source[1] is None:  # from tokens, or from a mean
        share = Fraction(whole[0], sides[0])
        patches = share.denominator == 1 and share == Fraction(whole[1], sides[1])
        return (1 / share, 1 / share) if patches else None  # matrices of attention have four axes too
    if strides is None:
        along = [_ratio(*pair) for pair in zip(source[0], sides, strict=True)]
    else:
        given = (strides, strides) if isinstance(strides, int) else strides
        along = [Fraction(step) if rises else Fraction(1, step) for step in given]
    return source[1][0] * along[0], source[1][1] * along[1]


def _ratio(before: int, after: int) -> Fraction:
    """By what an axis was stretched or thinned out; a border more or less is neither."""
    return Fraction(round(after / before)) if after > before else Fraction(1, round(before / after))
