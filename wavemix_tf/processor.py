"""The processor of this machine: its name, and the instructions that decide which dtypes are fast on it."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # multiply bfloat16; others convert it to float32 and back
FLOAT16 = frozenset({"avx512_fp16", "fphp"})
INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})  # four int8 products in one instruction
# Linux's names, in the order of the reports.
KNOWN = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm", "fphp", "bf16"),
)
# The same of macOS: a name below hw.optional -> Linux's.
MACOS = {
    "avx2_0": "avx2",
    "avx512f": "avx512f",
    "arm.FEAT_DotProd": "asimddp",
    "arm.FEAT_I8MM": "i8mm",
    "arm.FEAT_FP16": "fphp",
    "arm.FEAT_BF16": "bf16",
}


@functools.cache
def processor_name() -> str:
    """Return the name of the processor, e.g. "AMD EPYC 7763"."""
    return _field(_cpuinfo(), "model name") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def processor_features() -> tuple[str, ...] | None:
    """Return those of ``KNOWN`` that the processor has; None where the system does not say, as on Windows."""
    if text := _cpuinfo():
        found = set((_field(text, "flags") or _field(text, "Features")).split())
    elif platform.system() == "Darwin":
        found = {name for key, name in MACOS.items() if _sysctl(f"hw.optional.{key}") == "1"}
    else:
        return None
    return tuple(name for name in KNOWN if name in found)


def features_text() -> str:
    """Return the features for reports, "none" without any; "" where they are unknown."""
    found = processor_features()
    return "" if found is None else ", ".join(found) or "none"


def _cpuinfo() -> str:
    try:
        return CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> str:
    """Return the value of the first line ``name : value``; "" if there is none."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _sysctl(name: str) -> str:
    try:
        return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
