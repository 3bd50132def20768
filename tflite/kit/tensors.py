"""Descriptions of a file's inputs and outputs in a deployment kit."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..file.flatbuffer import FileInfo, TensorInfo


def is_image(tensor: TensorInfo) -> bool:
    """Whether it is one image, gray or RGB."""
    return len(tensor.shape) == 4 and tensor.shape[0] == 1 and tensor.shape[-1] in (1, 3)


def is_classes(artifact: Any, tensor: TensorInfo) -> bool:
    return len(tensor.shape) == 2 and tensor.shape[-1] == len(artifact.class_names)


def gives_probabilities(artifact: Any) -> bool:
    """Whether the file ends in a softmax."""
    last = artifact.ops[-1] if artifact.ops[-1] not in ("QUANTIZE", "DEQUANTIZE") else artifact.ops[-2]
    return bool(last == "SOFTMAX")


def is_exact(info: FileInfo) -> bool:
    """Whether the outputs are integers, which can be compared exactly."""
    return all(tensor.dtype != "float32" for tensor in info.outputs)


def quantization(tensor: TensorInfo) -> str:
    if not tensor.scale:
        return "not quantized"
    return f"scale {tensor.scale:.9g}, zero point {tensor.zero_point}"


def output_formula(tensor: TensorInfo) -> str:
    return f"(q - ({tensor.zero_point})) * {tensor.scale:.9g}" if tensor.scale else "unchanged"


def c_float(value: np.floating) -> str:
    """A float literal that is read as the same float32."""
    text = f"{float(value):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
