"""Memory limits of a device: compare the use of a file with them, and name the layer that uses most."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from wavemix_tf.checks import check_option, check_positive

from ..c_source.flash import c_flash_bytes
from ..errors import MemoryLimitError, UnsupportedOpError
from ..file.flatbuffer import FileInfo, OpInfo, TensorInfo
from ..file.metadata import min_runtime
from ..names import RAM_COSTS, REFERENCE_KERNELS
from ..runtimes.ethos import NpuReport
from ..targets.audit import describe
from ..targets.firmware import firmware_bytes
from ..targets.table import Target


@dataclass(frozen=True)
class Limits:
    """Limits of a file; None: no limit.

    Args:
        max_arena_bytes: RAM for tensors.
        max_flash_bytes: Flash for the file.
        max_firmware_bytes: Flash for the file and its program.
        min_runtime: The oldest release of TensorFlow Lite that must run the file.
    """

    max_arena_bytes: int | None
    max_flash_bytes: int | None
    max_firmware_bytes: int | None = None
    min_runtime: str | None = None

    def admit(self, file_bytes: int, ops: Iterable[str]) -> bool:
        """Whether a file, with the program that runs it, is within the limits of flash."""
        whole = self.max_firmware_bytes is None or firmware_bytes(file_bytes, ops)[1] <= self.max_firmware_bytes
        return whole and (self.max_flash_bytes is None or file_bytes <= self.max_flash_bytes)


@dataclass(frozen=True)
class MemoryUse:
    """Memory of a file: its arena (None for targets without one), its size, its compiled form, its program in C."""

    arena_bytes: int | None
    file_bytes: int
    npu: NpuReport | None
    program_bytes: int | None = None

    @classmethod
    def of(cls, row: Target, content: bytes, arena_bytes: int | None, npu: NpuReport | None) -> MemoryUse:
        """Of a file for a target."""
        return cls(arena_bytes, len(content), npu, c_flash_bytes(content)[1] if row.writes_c else None)

    @property
    def flash_bytes(self) -> int:
        """What ``max_flash_bytes`` limits: the file, for an Ethos-U the compiled file, of target c the program."""
        return self.npu.flash_bytes if self.npu is not None else self.program_bytes or self.file_bytes


def check_arguments(
    target: str,
    row: Target,
    max_arena_bytes: int | None,
    max_flash_bytes: int | None,
    accelerator: str | None,
    max_firmware_bytes: int | None = None,
    min_runtime: str | None = None,
) -> Limits:
    """The caller's limits, or else the target's.

    Raises:
        ValueError: a limit is not a positive whole number, or the target does not use an option.
    """
    named = {
        "max_arena_bytes": max_arena_bytes,
        "max_flash_bytes": max_flash_bytes,
        "max_firmware_bytes": max_firmware_bytes,
    }
    for name, value in named.items():
        if value is not None:
            check_positive(name, value)
    if min_runtime is not None and not (isinstance(min_runtime, str) and re.fullmatch(r"\d+(\.\d+){1,2}", min_runtime)):
        raise ValueError(f"min_runtime must be a release, as '2.8.0'. Received: min_runtime={min_runtime!r}")
    if max_firmware_bytes is not None and not row.counts_firmware:
        raise ValueError(
            "max_firmware_bytes applies to mcu, where the size of the program that runs a file is estimated. "
            f"Received: target={target!r}"
        )
    if max_arena_bytes is not None and not row.writes_c and not set(RAM_COSTS) & set(row.costs):
        raise ValueError(
            f"max_arena_bytes applies to mcu, c and Ethos-U targets, which report an arena. Received: target={target!r}"
        )
    if accelerator is not None:
        if not row.accelerators:
            raise ValueError(f"accelerator applies to Ethos-U targets. Received: target={target!r}")
        check_option("accelerator", accelerator, row.accelerators)
    return Limits(
        row.max_arena_bytes if max_arena_bytes is None else max_arena_bytes,
        row.max_flash_bytes if max_flash_bytes is None else max_flash_bytes,
        max_firmware_bytes,
        min_runtime,
    )


def check_runtime(content: bytes, limits: Limits, info: FileInfo) -> None:
    """Raise an UnsupportedOpError if the file needs a newer release than ``limits.min_runtime``.

    Op versions are not lowered: the converter writes the lowest one that has the op's dtype and options.

    Args:
        content: The file, with the converter's metadata.
        limits: From ``check_arguments``.
        info: The parsed file.
    """
    asked = limits.min_runtime
    if asked is None:
        return
    needed = min_runtime(content)
    if needed is None or _release(needed) > _release(asked):
        ops = ", ".join(sorted({op.name for op in info.ops}))
        raise UnsupportedOpError(
            f"The file must run on TensorFlow Lite {asked}; by the versions of its ops ({ops}) it needs "
            f"{needed or 'an unknown release'}. Choose another dtype or upsample_form, or a later release. Received: "
            f"min_runtime={asked!r}"
        )


def _release(text: str) -> tuple[int, ...]:
    numbers = tuple(map(int, text.split(".")))
    return numbers + (0,) * (3 - len(numbers))


def check_limits(limits: Limits, use: MemoryUse, info: FileInfo, target: str) -> None:
    """Compare the memory of a file with the limits.

    Args:
        limits: From ``check_arguments``.
        use: Memory of the file.
        info: The file, with the names of its tensors.
        target: For the message.

    Raises:
        MemoryLimitError: the message states the need, the limit, the layer that uses most, and how to reduce it.
    """
    arena = use.arena_bytes if use.npu is None else use.npu.sram_bytes
    flash = use.flash_bytes
    faults = []
    if limits.max_arena_bytes is not None and arena is not None and arena > limits.max_arena_bytes:
        what = "an arena" if use.npu is None else "SRAM"
        index, op = max(enumerate(info.ops), key=lambda pair: _activation_bytes(pair[1]))
        denser = ", or use upsample_form='subpixel_3x3', which needs a smaller arena and more flash"
        advice = denser if use.npu is None and any(op.name == "DEPTH_TO_SPACE" for op in info.ops) else ""
        faults.append(
            f"The file needs {what} of {arena:,} bytes on target {target!r}; the limit is "
            f"max_arena_bytes={limits.max_arena_bytes:,}. The largest feature maps are those of {describe(index, op)}, "
            f"{_activation_bytes(op):,} bytes: use a smaller image, a larger stride or patch_size of the stem, or a "
            f"smaller width or expansion{advice}."
        )
    if limits.max_flash_bytes is not None and flash > limits.max_flash_bytes:
        weights = sum(_constant_bytes(op) for op in info.ops)
        index, op = max(enumerate(info.ops), key=lambda pair: _constant_bytes(pair[1]))
        faults.append(
            f"The {'file takes' if use.program_bytes is None else 'program takes up to'} {flash:,} bytes of flash on "
            f"target {target!r}; the limit is "
            f"max_flash_bytes={limits.max_flash_bytes:,}. Its constants take {weights:,} bytes; the largest are those "
            f"of {describe(index, op)}, {_constant_bytes(op):,}: use a smaller width, depth, levels, ff_dim or "
            "expansion."
        )
    if limits.max_firmware_bytes is not None:
        ops = [op.name for op in info.ops]
        release, most = firmware_bytes(use.file_bytes, ops)
        plain = firmware_bytes(use.file_bytes, ops, REFERENCE_KERNELS)[1]
        if most > limits.max_firmware_bytes:
            faults.append(
                f"Firmware with the file takes {most:,} bytes of flash on target {target!r} with CMSIS-NN "
                f"({release:,} if built without messages), {use.file_bytes:,} of them for the file; the limit is "
                f"max_firmware_bytes={limits.max_firmware_bytes:,}. Use a smaller width or depth; or use the reference "
                f"kernels, with which firmware takes at most {plain:,} bytes, "
                "and max_flash_bytes for the file."
            )
    if faults:
        raise MemoryLimitError(" ".join(faults))


def _bytes(tensor: TensorInfo) -> int:
    return int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize


def _activation_bytes(op: OpInfo) -> int:
    return sum(_bytes(tensor) for tensor in (*op.inputs, *op.outputs) if not tensor.constant and not tensor.folded)


def _constant_bytes(op: OpInfo) -> int:
    return sum(len(tensor.data) for tensor in op.inputs)
