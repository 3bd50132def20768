"""What a plan says of each variable: under which name a PyTorch checkpoint has it, and in which layout."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

# Under which of our variable names a PyTorch layer's tensors live.
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# Names of heads of every kind, which `new_head` leaves out.
HEAD = re.compile(r"(SR_blocks\.\d+\.)?(pool|head|expand|final)\.")
# Axes of a convolution: ours are (h, w, in, out), PyTorch's (out, in, h, w). A transposed convolution's (h, w, out, in)
# and (in, out, h, w) need the same permutation. Depthwise: (h, w, C, 1) and (C, 1, h, w).
CONV, DEPTHWISE, LINEAR = (2, 3, 1, 0), (2, 3, 0, 1), (1, 0)
POINTWISE = (None, None, 1, 0)  # a 1x1 convolution of ours that is a linear layer there
Axes = tuple[int | None, ...]


@dataclass(frozen=True)
class Entry:
    """Where the values of one of our variables stand in a checkpoint, and how.

    Args:
        key: Official name.
        axes: The official axis of each of ours, or None for one that only ours has, of length 1; None: the same.
        inputs: The official channel of each of ours along the last axis but one; None: the same.
        outputs: The same along the last axis.
        note: What to say of it where the shape does not fit.
    """

    key: str
    axes: Axes | None = None
    inputs: Array | None = None
    outputs: Array | None = None
    note: str = ""

    def load(self, stored: Array) -> Array:
        """Ours from the official array; of another shape than ours if that does not fit."""
        if self.axes is not None:
            if stored.ndim != len(self._torch_axes):
                return stored
            stored = np.expand_dims(stored.transpose(self._torch_axes), self._new)
        for order, axis in self._orders():
            if stored.ndim >= -axis and stored.shape[axis] == len(order):
                stored = stored.take(order, axis)
        return stored

    def save(self, value: Array) -> Array:
        """The official array from ours."""
        for order, axis in self._orders():
            value = value.take(np.argsort(order), axis)
        return value if self.axes is None else value.squeeze(self._new).transpose(np.argsort(self._torch_axes))

    @property
    def _torch_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in self.axes or () if axis is not None)

    @property
    def _new(self) -> tuple[int, ...]:
        return tuple(place for place, axis in enumerate(self.axes or ()) if axis is None)

    def _orders(self) -> list[tuple[Array, int]]:
        return [(order, axis) for order, axis in ((self.inputs, -2), (self.outputs, -1)) if order is not None]


Plan = dict[str, Entry]


def weights(
    ours: str,
    theirs: str,
    axes: Axes,
    bias: bool = True,
    inputs: Array | None = None,
    outputs: Array | None = None,
) -> Plan:
    """Kernel and bias of a convolution or a linear layer.

    Args:
        ours: Name of our layer.
        theirs: Name of the PyTorch module.
        axes: ``CONV``, ``DEPTHWISE``, ``LINEAR`` or ``POINTWISE``.
        bias: Whether there is one.
        inputs: Of the kernel's entry.
        outputs: Of both entries.
    """
    plan = {f"{ours}/kernel": Entry(f"{theirs}.weight", axes, inputs, outputs)}
    return plan | ({f"{ours}/bias": Entry(f"{theirs}.bias", outputs=outputs)} if bias else {})


def batch_norm(ours: str, theirs: str) -> Plan:
    """Weights and statistics."""
    return {f"{ours}/{mine}": Entry(f"{theirs}.{name}") for mine, name in BATCH_NORM.items()}


def layer_norm(ours: str, theirs: str) -> Plan:
    """Weights of a layer or group normalisation."""
    return {f"{ours}/gamma": Entry(f"{theirs}.weight"), f"{ours}/beta": Entry(f"{theirs}.bias")}
