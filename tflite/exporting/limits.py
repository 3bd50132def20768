"""Memory limits of a device: what a file may take, what it takes, and which layer takes most of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wavemix_tf.checks import check_option, check_positive

from ..errors import MemoryLimitError
from ..file.flatbuffer import FileInfo, OpInfo, TensorInfo
from ..names import RAM_COSTS, REFERENCE_KERNELS
from ..runtimes.ethos import NpuReport
from ..targets.audit import describe
from ..targets.firmware import firmware_bytes
from ..targets.table import Target


@dataclass(frozen=True)
class Limits:
    """Bytes; None: no limit."""

    max_arena_bytes: int | None
    max_flash_bytes: int | None
    max_firmware_bytes: int | None = None

    @property
    def file_bytes(self) -> int | None:
        """What the file may take, whichever limit says it."""
        firmware = self.max_firmware_bytes
        whole = [] if firmware is None else [firmware - firmware_bytes(0)[1]]
        return min([*whole, *([] if self.max_flash_bytes is None else [self.max_flash_bytes])], default=None)


@dataclass(frozen=True)
class MemoryUse:
    """What a file takes: its arena under TensorFlow Lite Micro (None elsewhere), its size, its compiled form."""

    arena_bytes: int | None
    file_bytes: int
    npu: NpuReport | None


def check_arguments(
    target: str,
    row: Target,
    max_arena_bytes: int | None,
    max_flash_bytes: int | None,
    accelerator: str | None,
    max_firmware_bytes: int | None = None,
) -> Limits:
    """The caller's limits, or the target's.

    Raises:
        ValueError: a limit that is no positive whole number, or an option that the target has no use for.
    """
    named = {
        "max_arena_bytes": max_arena_bytes,
        "max_flash_bytes": max_flash_bytes,
        "max_firmware_bytes": max_firmware_bytes,
    }
    for name, value in named.items():
        if value is not None:
            check_positive(name, value)
    if max_firmware_bytes is not None and not row.runtime_flash_bytes:
        raise ValueError(
            "max_firmware_bytes is for mcu, where the size of the program that runs the file was measured. "
            f"Received: target={target!r}"
        )
    if max_arena_bytes is not None and not set(RAM_COSTS) & set(row.costs):
        raise ValueError(
            f"max_arena_bytes is for mcu and Ethos-U targets, whose arena is known here. Received: target={target!r}"
        )
    if accelerator is not None:
        if not row.accelerators:
            raise ValueError(f"accelerator is for Ethos-U targets. Received: target={target!r}")
        check_option("accelerator", accelerator, row.accelerators)
    return Limits(
        row.max_arena_bytes if max_arena_bytes is None else max_arena_bytes,
        row.max_flash_bytes if max_flash_bytes is None else max_flash_bytes,
        max_firmware_bytes,
    )


def check_limits(limits: Limits, use: MemoryUse, info: FileInfo, target: str) -> None:
    """Hold what a file takes against the limits.

    Args:
        limits: From ``check_arguments``.
        use: What the file takes.
        info: The file, with the names of its tensors.
        target: For the message.

    Raises:
        MemoryLimitError: says what is needed, what is allowed, which layer takes most, and what to do.
    """
    arena = use.arena_bytes if use.npu is None else use.npu.sram_bytes
    flash = use.file_bytes if use.npu is None else use.npu.flash_bytes
    faults = []
    if limits.max_arena_bytes is not None and arena is not None and arena > limits.max_arena_bytes:
        what = "an arena" if use.npu is None else "SRAM"
        index, op = max(enumerate(info.ops), key=lambda pair: _activation_bytes(pair[1]))
        denser = ", or upsample_form='subpixel_3x3', which takes less arena and more flash"
        advice = denser if use.npu is None and any(op.name == "DEPTH_TO_SPACE" for op in info.ops) else ""
        faults.append(
            f"The file needs {what} of {arena:,} bytes on target {target!r}; allowed are "
            f"max_arena_bytes={limits.max_arena_bytes:,}. The largest feature maps are those of {describe(index, op)}, "
            f"{_activation_bytes(op):,} bytes: take a smaller image, a larger stride or patch_size of the stem, or a "
            f"smaller width or expansion{advice}."
        )
    if limits.max_flash_bytes is not None and flash > limits.max_flash_bytes:
        weights = sum(_constant_bytes(op) for op in info.ops)
        index, op = max(enumerate(info.ops), key=lambda pair: _constant_bytes(pair[1]))
        faults.append(
            f"The file alone takes {flash:,} bytes of flash on target {target!r}; allowed are "
            f"max_flash_bytes={limits.max_flash_bytes:,}. Its constants are {weights:,} bytes, the most those of "
            f"{describe(index, op)}, {_constant_bytes(op):,}: take a smaller width, depth, levels, ff_dim or expansion."
        )
    if limits.max_firmware_bytes is not None:
        least, most = firmware_bytes(use.file_bytes)
        plain = firmware_bytes(use.file_bytes, REFERENCE_KERNELS)[1]
        if most > limits.max_firmware_bytes:
            faults.append(
                f"Firmware with the file takes {least:,} to {most:,} bytes of flash on target {target!r} with "
                f"CMSIS-NN, {use.file_bytes:,} of them the file; allowed are "
                f"max_firmware_bytes={limits.max_firmware_bytes:,}. Take a smaller width or depth; or the reference "
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
