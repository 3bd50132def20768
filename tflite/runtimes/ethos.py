"""Arm's compiler Vela: a file compiled for an Ethos-U, and the compiler's figures for speed and memory."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wavemix_tf.checks import check_option

from ..errors import ExportError, UnsupportedOpError
from ..file.arena_plan import MemoryPlan
from ..file.flatbuffer import read_file
from ..names import VELA
from ..targets.op_tables import INSTEAD
from ..targets.table import Npu, Target
from .processes import Runner, new_process_runner
from .vela_output import OPTIONS, by_op, read_passes, read_plan

NPU_OP = "CUSTOM ethos-u"
KIB = 1024
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class NpuReport:
    """A file compiled for an Ethos-U. All figures except ``flash_bytes`` are compiler estimates; no NPU was run.

    Args:
        accelerator: The only accelerator that the compiled file runs on, as "ethos-u55-256".
        system: Clock and memory bandwidths of the estimate: a section of Vela's ``Arm/vela.ini``.
        memory: The data in SRAM and in flash: a section of the same file.
        cycles: NPU cycles of one inference.
        inferences_per_second: At the system's clock.
        sram_bytes: SRAM for feature maps and buffers of one inference.
        constants_bytes: Weights and commands, compressed, in flash.
        flash_bytes: The compiled file: constants, and the data that the runtime needs to call the NPU.
        npu_ops: Ops of the original file that the NPU runs.
        cpu_ops: Ops left to the CPU; empty in every exported file.
        compiler: Name and version.
        content: The compiled file.
        op_cycles: NPU cycles of each op of the original file; their sum is ``cycles``. () if this compiler states none.
        op_sram_bytes: SRAM that is taken while each op runs; () as above.
        plan: What lies in the SRAM in each pass of the NPU; None as above.
    """

    accelerator: str
    system: str
    memory: str
    cycles: int
    inferences_per_second: float
    sram_bytes: int
    constants_bytes: int
    flash_bytes: int
    npu_ops: int
    cpu_ops: tuple[str, ...]
    compiler: str
    content: bytes = field(repr=False)
    op_cycles: tuple[int, ...] = field(default=(), repr=False)
    op_sram_bytes: tuple[int, ...] = field(default=(), repr=False)
    plan: MemoryPlan | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able figures, and the file's digest instead of the file."""
        figures = {key: value for key, value in asdict(self).items() if key != "content"}
        return figures | {
            "cpu_ops": list(self.cpu_ops),
            "op_cycles": list(self.op_cycles),
            "op_sram_bytes": list(self.op_sram_bytes),
            "plan": None if self.plan is None else self.plan.to_dict(),
            "sha256": hashlib.sha256(self.content).hexdigest(),
        }

    @classmethod
    def from_dict(cls, figures: dict[str, Any], content: bytes) -> NpuReport:
        """Inverse of ``to_dict``, with the file; ExportError if the file does not match."""
        report = cls(**{key: value for key, value in figures.items() if key != "sha256"}, content=content)
        plan = figures.get("plan")  # cards of 1.0 had none
        report = replace(
            report,
            cpu_ops=tuple(report.cpu_ops),
            op_cycles=tuple(report.op_cycles),
            op_sram_bytes=tuple(report.op_sram_bytes),
            plan=None if plan is None else MemoryPlan.from_dict(plan),
        )
        if report.to_dict()["sha256"] != figures["sha256"]:
            raise ExportError("The compiled file is not the one that the model card describes.")
        return report


def require_vela() -> None:
    """ExportError if the compiler is not installed."""
    if find_spec("ethosu") is None:
        raise ExportError("Vela compiles a file for an Ethos-U before it is written: pip install 'wavemix-tf[ethos]'")


def compile_file(content: bytes, npu: Npu, accelerator: str | None = None, run: Runner | None = None) -> NpuReport:
    """Compile a file for an Ethos-U with Vela, in a separate process.

    Args:
        content: The ``.tflite`` file, all int8.
        npu: The target's settings.
        accelerator: One of ``npu.accelerators``; None: the first.
        run: Runs Vela; None: a new process.

    Raises:
        ValueError: unknown accelerator.
        ExportError: Vela is not installed, or it refused the file; its message is quoted.
    """
    accelerator = npu.accelerators[0] if accelerator is None else accelerator
    check_option("accelerator", accelerator, npu.accelerators)
    require_vela()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(content)
        options = {
            "--accelerator-config": accelerator,
            "--config": "Arm/vela.ini",
            "--system-config": npu.system,
            "--memory-mode": npu.memory,
            "--output-dir": folder,
        }
        words = [*(word for pair in options.items() for word in pair), *OPTIONS]
        try:
            done = (run or new_process_runner(VELA))([str(path), *words], TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"Vela did not end in {error.timeout:.0f} s.") from None
        compiled = Path(folder, "model_vela.tflite")
        summaries = [*Path(folder).glob("model_summary_*.csv")]
        if done.returncode or not compiled.is_file() or len(summaries) != 1:
            lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            said = lines[-1].strip() if lines else f"exit code {done.returncode}"
            raise ExportError(f"Vela refused the file: {said}. Received: accelerator={accelerator!r}")
        result = compiled.read_bytes()
        with summaries[0].open(newline="") as file:
            row = next(csv.DictReader(file))
        info, layers = read_file(content), next(Path(folder).glob("*_per-layer.csv"), None)
        passes = () if layers is None else read_passes(layers.read_text(encoding="utf-8").splitlines(), info)
    memory = {
        key: float(row[f"{key}_memory_used"]) * KIB for key in ("sram", "dram", "off_chip_flash", "on_chip_flash")
    }
    cycles = int(float(row["cycles_total"]))
    if sum(one.cycles for one in passes) != cycles:  # this compiler's rows mean something else
        passes = ()
    op_cycles, op_sram_bytes = by_op(passes, len(info.ops)) if passes else ((), ())
    left = tuple(op.name for op in read_file(result).ops if op.name != NPU_OP)
    return NpuReport(
        accelerator=accelerator,
        system=npu.system,
        memory=npu.memory,
        cycles=cycles,
        inferences_per_second=float(row["inferences_per_second"]),
        sram_bytes=round(memory["sram"]),
        constants_bytes=round(memory["off_chip_flash"] + memory["on_chip_flash"] + memory["dram"]),
        flash_bytes=len(result),
        npu_ops=len(info.ops) - len(left),
        cpu_ops=left,
        compiler=f"ethos-u-vela {version('ethos-u-vela')}",
        content=result,
        op_cycles=op_cycles,
        op_sram_bytes=op_sram_bytes,
        plan=read_plan(done.stdout, passes, info, round(memory["sram"])) if passes else None,
    )


def compile_for(
    target: Target, content: bytes, accelerator: str | None = None, run: Runner | None = None
) -> NpuReport | None:
    """Compile the file for a target; None for a target that runs the ``.tflite`` file itself.

    Args:
        target: Row of ``TARGETS``.
        content: As for ``compile_file``, as are the other arguments and the errors.
        accelerator: As for ``compile_file``.
        run: As for ``compile_file``.
    """
    return None if target.npu is None else compile_file(content, target.npu, accelerator, run)


def check_all_on_npu(report: NpuReport, target: str) -> None:
    """Raise an UnsupportedOpError that names the ops which the compiler left to the CPU."""
    if not report.cpu_ops:
        return
    counts = {name: report.cpu_ops.count(name) for name in sorted(set(report.cpu_ops))}
    advice = "; ".join(f"instead of {name} use {INSTEAD[name]}" for name in counts if name in INSTEAD)
    left = ", ".join(f"{count} x {name}" for name, count in counts.items())
    raise UnsupportedOpError(
        f"{report.compiler} left {left} of target {target!r} to the CPU; every op must run on the NPU."
        + (f" {advice[0].upper()}{advice[1:]}." if advice else "")
    )
