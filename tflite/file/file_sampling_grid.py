"""The grid on which a file's network samples its input, read from its operators; see ``wavemix_tf.sampling_grid``."""

from __future__ import annotations

import math
from typing import Any

from wavemix_tf.sampling_grid import Scale, scale_behind

from .flatbuffer import FileInfo, OpInfo


def file_sampling_grid(info: FileInfo) -> tuple[int, int] | None:
    """(rows, columns) in pixels of the period of a file's coarsest sampling; None if its input is not an image."""
    if len(info.inputs) != 1 or len(info.inputs[0].shape) != 4:
        return None
    whole = (info.inputs[0].shape[1], info.inputs[0].shape[2])
    scales: dict[int, Scale] = {id(info.inputs[0]): (1, 1)}  # type: ignore[dict-item]
    grid = [1, 1]
    for op in info.ops:
        images = [tensor for tensor in op.inputs if scales.get(id(tensor)) is not None]
        source = max(images, key=lambda tensor: tensor.shape[1] * tensor.shape[2], default=None)
        before = None if source is None else ((source.shape[1], source.shape[2]), scales[id(source)])
        for output in op.outputs:
            if len(output.shape) != 4:
                continue
            sides = (output.shape[1], output.shape[2])
            scale = scale_behind(before, sides, whole, _strides(op), op.name == "TRANSPOSE_CONV")
            scales[id(output)] = scale
            for axis, along in enumerate(scale or ()):
                grid[axis] = math.lcm(grid[axis], along.denominator)
    return grid[0], grid[1]


def _strides(op: OpInfo) -> Any:
    rows = getattr(op.options, "strideH", None)
    return None if rows is None else (rows, op.options.strideW)
