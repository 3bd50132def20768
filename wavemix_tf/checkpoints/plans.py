"""Entries of a plan: the name and layout of each variable in a PyTorch checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

# Our variable name -> name of the tensor in PyTorch.
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# Names of all kinds of heads, which `new_head` skips.
HEAD = re.compile(r"(SR_blocks\.\d+\.)?(pool|head|expand|final)\.")
# Axes of a convolution: ours are (h, w, in, out), PyTorch's (out, in, h, w). A transposed convolution's (h, w, out, in)
# and (in, out, h, w) need the same permutation. Depthwise: (h, w, C, 1) and (C, 1, h, w).
CONV, DEPTHWISE, LINEAR = (2, 3, 1, 0), (2, 3, 0, 1), (1, 0)
POINTWISE = (None, None, 1, 0)  # our 1x1 convolution for a linear layer in PyTorch
Axes = tuple[int | None, ...]


@dataclass(frozen=True)
class Entry:
    """Name and layout of one of our variables in a checkpoint.

    Args:
        key: Official name.
        axes: The official axis of each of our axes, or None for an axis of length 1 that only ours has; None: the same.
        inputs: The official channel of each of our channels along the second-to-last axis; None: the same.
        outputs: The same along the last axis.
        note: Text for the error if the shape does not fit.
    """

    key: str
    axes: Axes | None = None
    inputs: Array | None = None
    outputs: Array | None = None
    note: str = ""

    def load(self, stored: Array) -> Array:
        """Convert an official array to ours; the shape stays wrong if it does not fit."""
        if self.axes is not None:
            if stored.ndim != len(self._torch_axes):
                return stored
            stored = np.expand_dims(stored.transpose(self._torch_axes), self._new)
        for order, axis in self._orders():
            if stored.ndim >= -axis and stored.shape[axis] == len(order):
                stored = stored.take(order, axis)
        return stored

    def save(self, value: Array) -> Array:
        """Convert our array to the official one."""
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
    """Return the plan of the kernel and bias of a convolution or a linear layer.

    Args:
        ours: Name of our layer.
        theirs: Name of the PyTorch module.
        axes: ``CONV``, ``DEPTHWISE``, ``LINEAR`` or ``POINTWISE``.
        bias: Whether there is a bias.
        inputs: ``inputs`` of the kernel's entry.
        outputs: ``outputs`` of both entries.
    """
    plan = {f"{ours}/kernel": Entry(f"{theirs}.weight", axes, inputs, outputs)}
    return plan | ({f"{ours}/bias": Entry(f"{theirs}.bias", outputs=outputs)} if bias else {})


def batch_norm(ours: str, theirs: str) -> Plan:
    """Return the plan of the weights and statistics of a batch normalization."""
    return {f"{ours}/{mine}": Entry(f"{theirs}.{name}") for mine, name in BATCH_NORM.items()}


def layer_norm(ours: str, theirs: str) -> Plan:
    """Return the plan of the weights of a layer or group normalization."""
    return {f"{ours}/gamma": Entry(f"{theirs}.weight"), f"{ours}/beta": Entry(f"{theirs}.bias")}
