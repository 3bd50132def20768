"""Steps that another takes over.

A convolution takes the padding before it, the table of an activation behind it, and DEPTH_TO_SPACE with its crop.
"""

from __future__ import annotations

import math

import numpy as np

from .ops.convolution import PIXELS, window_bytes
from .program import Program, Step


def fuse(program: Program, outputs: set[int]) -> None:
    """Merge until nothing is left to merge.

    Args:
        program: Its steps are changed.
        outputs: Keys that the caller reads, which must be written as they are.
    """
    while _fuse_one(program, outputs):
        pass


def _fuse_one(program: Program, outputs: set[int]) -> bool:
    steps = program.steps
    for step in steps:
        if len(step.writes) != 1 or step.writes[0] in outputs:
            continue
        key = step.writes[0]
        readers = [other for other in steps if key in other.keys_read()]
        writers = [other for other in steps if key in other.writes]
        if len(readers) != 1 or len(readers[0].keys_read()) != 1:
            continue
        reader = readers[0]
        if len(writers) == 1 and _gives_padding(step, reader):
            reader.reads = list(step.reads)
            reader.in_place = ()
            reader.ops[:0] = step.ops
            steps.remove(step)
            return True
        if sum(reader.writes[0] in other.writes for other in steps) != 1:
            continue  # one of several parts of a map
        if _takes_table(writers, reader) or (len(writers) == 1 and _takes_blocks(program, step, reader)):
            for writer in writers:
                writer.writes = list(reader.writes)
            writers[-1].ops += reader.ops
            writers[-1].op = max(writers[-1].op, reader.op)
            steps.remove(reader)
            return True
    return False


def _takes_table(writers: list[Step], reader: Step) -> bool:
    if reader.kernels != ("look_up",):
        return False
    channels = [writer.channels for writer in writers]
    table = reader.reads[0]
    if any(one is None for one in channels) or isinstance(table, int):
        return False
    for one in channels:
        assert one is not None
        before = one["table"]
        one["table"] = table if before is None else table[before.astype(np.int64) + 128]
    return True


def _gives_padding(step: Step, reader: Step) -> bool:
    """Zeros around a map are what the kernels put beyond its edges."""
    fields = reader.fields
    if reader.struct not in ("convolution", "depthwise") or step.form[:1] != ("pad",):
        return False
    if "depthwise_1x1" in reader.kernels:  # it goes from value to value
        return False
    _, top, left, rows, columns, value = step.form
    # The kernel's own padding, beyond this one, is of the same value.
    if value != fields["pad_value"] or not isinstance(step.reads[0], int):
        return False
    fields.update(pad_h=fields["pad_h"] + top, pad_w=fields["pad_w"] + left, in_h=rows, in_w=columns)
    window = fields["kernel_h"] * fields["kernel_w"] * fields.get("group_in", fields.get("depth"))
    held = fields["groups"] * fields["group_out"] if fields.get("b", {"block": 1})["block"] > 1 else 0
    reader.scratch_bytes = window_bytes(window) + PIXELS * held if reader.struct == "convolution" else window
    return True


def _takes_blocks(program: Program, step: Step, reader: Step) -> bool:
    """The map of block ** 2 as many channels is never stored: the kernel puts each value in its place."""
    if step.struct != "convolution" or not reader.form:
        return False
    fields = step.fields
    blocks = fields["b"]
    if reader.form[0] == "blocks" and blocks["block"] == 1:
        _, block, rows, columns = reader.form
        blocks.update(block=block, shown_h=rows, shown_w=columns)
        step.scratch_bytes += PIXELS * fields["groups"] * fields["group_out"]
    elif reader.form[0] == "crop" and blocks["block"] > 1:
        _, top, left, rows, columns = reader.form
        blocks.update(crop_h=blocks["crop_h"] + top, crop_w=blocks["crop_w"] + left, shown_h=rows, shown_w=columns)
    else:
        return False
    fields["out_batch"] = program.sizes[reader.writes[0]] // fields["batches"]
    assert fields["out_batch"] == math.prod(
        (blocks["shown_h"], blocks["shown_w"], fields["groups"] * fields["group_out"] // blocks["block"] ** 2)
    )
    return True
