"""Descriptions of a file's inputs and outputs in a deployment kit."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..file.flatbuffer import FileInfo, TensorInfo

MOVING = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE")  # ops that compute nothing
LOGITS, PROBABILITIES = "logits", "probabilities"
LOG_PROBABILITIES, INDEPENDENT = "log-probabilities", "independent probabilities"
# Kind of the scores of a classifier -> a phrase.
SCORES = {
    LOGITS: "scores (logits): use the largest; softmax gives probabilities",
    PROBABILITIES: "probabilities",
    LOG_PROBABILITIES: "logarithms of probabilities",
    INDEPENDENT: "probabilities, each for itself: they need not add up to 1",
}


def is_image(tensor: TensorInfo) -> bool:
    """Whether it is one image, gray or RGB."""
    return len(tensor.shape) == 4 and tensor.shape[0] == 1 and tensor.shape[-1] in (1, 3)


def is_classes(artifact: Any, tensor: TensorInfo) -> bool:
    return len(tensor.shape) == 2 and tensor.shape[-1] == len(artifact.class_names)


def score_kind(info: FileInfo) -> str:
    """What the scores of a classifier are, by its last op that computes: a key of ``SCORES``."""
    computing = [op.name for op in info.ops if op.name not in MOVING]
    return {"SOFTMAX": PROBABILITIES, "LOG_SOFTMAX": LOG_PROBABILITIES, "LOGISTIC": INDEPENDENT}.get(
        computing[-1] if computing else "", LOGITS
    )


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
