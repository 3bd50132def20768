"""Allowed difference of a device's outputs from a kit's test vectors, by op and by target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..file.flatbuffer import FileInfo
from ..names import REFERENCE
from ..targets.table import get_target
from .verifier import ERROR_BOUND_STEPS, OUTPUT_SHARE

# Ops whose kernels differ from processor to processor -> steps of the output. A vision transformer's vectors were up to
# two steps off on 64-bit Arm cores (A53, A76, emulated); networks without these ops gave every integer there, and under
# TensorFlow Lite Micro on a Cortex-M4 and M55 (emulated), with its reference kernels and with CMSIS-NN.
LOOSE_OPS = {"SOFTMAX": 2, "BATCH_MATMUL": 2, "RSQRT": 2}
FLOAT_STEPS = 2  # where some layers compute in float: processors differ in the last digits, which may change a rounding
FLOAT_SHARE = 1e-4  # tolerance of a float file's outputs, as a share of the largest value


@dataclass(frozen=True)
class Tolerance:
    """Allowed difference of a device's outputs.

    Args:
        largest_steps: Of any one value, in steps of the output; 0: every integer must be equal. None: a float file.
        mean_steps: On average; None: no separate tolerance.
        reasons: Why it is not 0.
    """

    largest_steps: int | None
    mean_steps: float | None
    reasons: tuple[str, ...]

    @property
    def words(self) -> str:
        """The tolerance as a phrase."""
        if self.largest_steps is None:
            return "floating point: processors differ in the last digits"
        if self.largest_steps == 0:
            return "0 steps: every integer is equal, bit by bit"
        mean = "" if self.mean_steps is None else f", and {self.mean_steps:g} on average"
        return f"{self.largest_steps} steps at most{mean}: {'; '.join(self.reasons)}"


def tolerance(info: FileInfo, target: str, bounds: Mapping[str, Any] | None = None) -> Tolerance:
    """The tolerance of a file on its target.

    Args:
        info: The file.
        target: Key of ``TARGETS``.
        bounds: Runtime -> mean error that ``export`` allowed, in steps; None: the defaults.
    """
    if not any(t.dtype in ("int8", "uint8", "int16") and t.scale for op in info.ops for t in op.outputs):
        return Tolerance(None, None, ("floating point",))
    row = get_target(target)
    steps, mean, reasons = 0, None, []
    # A program in C is integer arithmetic of its own: no kernels of a processor.
    found = [] if row.writes_c else sorted({op.name for op in info.ops} & LOOSE_OPS.keys())
    if found:
        steps = max(LOOSE_OPS[name] for name in found)
        reasons.append(f"kernels of {', '.join(found)} differ between processors")
    if _computes_in_float(info):
        steps = max(steps, FLOAT_STEPS)
        reasons.append("some layers compute in floating point")
    if row.rounds_twice:
        own = (bounds or {}).get(REFERENCE, ERROR_BOUND_STEPS["int8"][REFERENCE])
        steps, mean = round(max(steps, OUTPUT_SHARE * own)), float(own)
        reasons.append("NPUs round products twice, and depth amplifies that")
    return Tolerance(steps, mean, tuple(reasons))


def _computes_in_float(info: FileInfo) -> bool:
    """Whether an op other than a conversion computes in floating point."""
    return any(
        op.name not in ("QUANTIZE", "DEQUANTIZE") and any(t.dtype.startswith("float") for t in op.outputs)
        for op in info.ops
    )


def value_tolerance(info: FileInfo, index: int, allowed: Tolerance) -> float:
    """``largest_steps`` in the unit of an output: integers, or real values for a float output.

    Args:
        info: The file.
        index: Index of the output.
        allowed: From ``tolerance``.
    """
    output = info.outputs[index]
    if output.dtype != "float32":
        return float(allowed.largest_steps or 0)
    makers = [op for op in info.ops if output in op.outputs and op.name == "DEQUANTIZE"]
    if allowed.largest_steps is not None and makers:
        return (allowed.largest_steps + 0.01) * makers[-1].inputs[0].scale  # the product itself rounds
    return 0.0
