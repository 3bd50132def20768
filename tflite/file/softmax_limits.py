"""Where the 8-bit softmax of TensorFlow Lite's reference kernels ends the whole process by an assertion.

TensorFlow Lite Micro and LiteRT's reference kernels have it (``reference_ops::Softmax``); LiteRT's optimized kernel has
a table instead. It divides by the sum of the exponentials with a shift of at most 31 bits, which a sum of 512 exceeds.
Only nearly equal values have such a sum. Its preparation asserts a step of the input above 2^-26.
"""

from __future__ import annotations

from .flatbuffer import FileInfo

LEAST_STEP = 2.0**-26  # of the input, times beta
WIDE = 512


def softmax_hazard(info: FileInfo) -> str | None:
    """A sentence on the first op of a file that may end the reference kernels' process; None without one."""
    for op in info.ops:
        if op.name not in ("SOFTMAX", "LOG_SOFTMAX") or op.inputs[0].dtype not in ("int8", "uint8"):
            continue
        logits = op.inputs[0]
        if getattr(op.options, "beta", 1.0) * logits.scale <= LEAST_STEP:
            return (
                f"TensorFlow Lite's reference kernels end the process at {op.name} if the step of its input is at most "
                f"2^-26 / beta: the network's values are nearly zero there ({logits.name!r} has {logits.scale:.3g})."
            )
        if op.name == "SOFTMAX" and logits.shape[-1] >= WIDE:
            return (
                f"TensorFlow Lite's reference kernels end the process at {op.name} over {logits.shape[-1]:,} "
                f"{logits.dtype} values where they are nearly equal, so that no result exceeds 1/{WIDE} "
                f"({op.outputs[0].name!r}). End the model in logits, or keep the softmax in float: "
                "quantize(..., skip=[its layer])."
            )
    return None
