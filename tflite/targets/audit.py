"""The audit: check every op of a file against its target's rules.

A rule is a check of one op, named in ``targets.TARGETS``. ``constraints.CONSTRAINTS`` has each rule with its source.
"""

from __future__ import annotations

from collections import Counter

from ..errors import UnsupportedOpError
from ..file.flatbuffer import FileInfo, OpInfo, TensorInfo
from .constraints import CONSTRAINTS
from .op_tables import INSTEAD, INT8_RULES
from .table import Target

ALIKE_SHOWN = 3  # ops that break the same rule, in a message

# Advice for rules that are not about the op itself.
ADVICE = {
    "CMSIS-NN: ": "leave upsample_form at None, or use 'subpixel_crop' or 'transposed_crop', which write the same "
    "function without this error of the kernels that firmware for a Cortex-M links (ARM-software/CMSIS-NN issue 230; "
    "the reference kernels are correct); a model of engine='tfmot' has no other form, use engine='native'",
    "(CMSIS-NN)": "use target 'c', whose program computes it, or a layer without 5 "
    "dimensions (the reference kernels are correct)",
}


def audit(info: FileInfo, target_name: str, target: Target, dtype: str, keeps_float: bool = False) -> None:
    """Check every op of a file against a target's table.

    Args:
        info: The file, with the names of its tensors.
        target_name: Key of ``TARGETS``, for the message.
        target: Its row.
        dtype: Arithmetic that the file claims; in an "int8" file no op may use a float tensor, except the conversion of
            a float input or output, and every op must follow the int8 specification.
        keeps_float: Whether some layers stay float on purpose; then ops may use float tensors.

    Raises:
        UnsupportedOpError: names every op that breaks a rule, its output tensor, the rule, and the alternative.
    """
    faults: list[str] = []
    seen: Counter[tuple[str, str]] = Counter()
    culprits, advised = set(), set()
    boundary = {tensor.name for tensor in (*info.inputs, *info.outputs)}
    for index, op in enumerate(info.ops):
        found = _faults(op, target, dtype, boundary, keeps_float)
        where = describe(index, op)
        seen.update((op.name, fault) for fault in found)
        faults += [f"{where} {fault}" for fault in found if seen[op.name, fault] <= ALIKE_SHOWN]
        advised |= {words for source, words in ADVICE.items() if any(source in fault for fault in found)}
        if found:
            culprits.add(op.name)
    refused = [] if not target.end_dtypes else _refused_ends(info, target)
    faults += [f"{tensor.name} is {tensor.dtype}" for tensor in refused]
    if not faults:
        return
    more = [f"{count - ALIKE_SHOWN} more {name} alike" for (name, _), count in seen.items() if count > ALIKE_SHOWN]
    instead = [f"instead of {name} use {INSTEAD[name]}" for name in sorted(culprits) if name in INSTEAD]
    if refused:
        advised.add(f"inputs and outputs must be {' or '.join(target.end_dtypes)} for this target")
    rewrite = "write the named layers in another way, or choose a target that runs these ops (docs/targets.md)"
    advice = "; ".join([*instead, *sorted(advised)] or [rewrite])
    raise UnsupportedOpError(
        f"The file does not fit target {target_name!r}: {'; '.join(faults + more)}."
        + (f" {advice[0].upper()}{advice[1:]}." if advice else "")
    )


def _refused_ends(info: FileInfo, target: Target) -> list[TensorInfo]:
    """Inputs and outputs of a dtype that the target does not support."""
    return [tensor for tensor in (*info.inputs, *info.outputs) if tensor.dtype not in target.end_dtypes]


def describe(index: int, op: OpInfo) -> str:
    """Name of an op in messages: "op 3 CONV_2D (model/block1_reduce/BiasAdd)"; "op 3 CONV_2D" without a name."""
    name = op.outputs[0].name.rsplit(";", 1)[-1]
    return f"op {index} {op.name}" + (f" ({name})" if name else "")


def _faults(op: OpInfo, target: Target, dtype: str, boundary: set[str], keeps_float: bool) -> list[str]:
    if op.name not in target.ops:
        return ["is not supported"]
    faults = []
    tensors = (*op.inputs, *op.outputs)
    if any(-1 in tensor.shape for tensor in tensors):
        return ["has a side that is unknown until run time"]
    converts = op.name in ("QUANTIZE", "DEQUANTIZE") and any(tensor.name in boundary for tensor in tensors)
    floats = any(tensor.dtype.startswith("float") for tensor in tensors)
    if dtype in ("int8", "int16x8") and floats and not converts and not keeps_float:
        faults.append(f"computes in float in an {dtype} file")
    rules = (*target.every_op, *target.ops[op.name])
    if dtype == "int8" and not floats:
        rules += INT8_RULES.get(op.name, ())
    # A rule may depend on the one before it, so only the first broken one is reported.
    broken = next((rule for rule in rules if not CONSTRAINTS[rule][0](op)), None)
    if broken is not None:
        faults.append(f"breaks its rule: {broken}")
    return faults
