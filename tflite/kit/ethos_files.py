"""The Ethos-U part of a deployment kit: the compiled file as a C array, its self-test and the README's section."""

from __future__ import annotations

from typing import Any

from ..file.flatbuffer import FileInfo, read_file
from ..runtimes.microcontroller import ArrayTexts, c_array
from .ethos_templates import DEVICE_CODE, DEVICE_INCLUDES, ETHOS_SECTION
from .firmware_files import MainTexts, file_tolerance, main_cc

# What TensorFlow Lite Micro keeps beside the NPU's memory: 452 bytes for files with one input and one output, with
# Arm's driver 1.0 on an emulated 32-bit processor.
RUNTIME_BYTES, END_BYTES = 768, 128  # and for each input and output
# Arm's models of whole systems.
FVP = {
    **{
        family: f"FVP_Corstone_SSE-300_Ethos-{family.upper()} -C ethosu.num_macs={{macs}} -a {{file}}"
        for family in ("u55", "u65")
    },
    "u85": "FVP_Corstone_SSE-320 -C mps4_board.subsystem.ethosu.num_macs={macs} -a {file}",
}


def ethos_arena_bytes(artifact: Any, info: FileInfo) -> int:
    """Tensor arena: the SRAM of Vela's plan, and what TensorFlow Lite Micro keeps beside it."""
    return int(artifact.npu.sram_bytes) + RUNTIME_BYTES + END_BYTES * (len(info.inputs) + len(info.outputs))


def ethos_files(artifact: Any, info: FileInfo, c_name: str) -> dict[str, bytes]:
    """Name -> content: the C array of the compiled file, its header, and a ``main``."""
    npu = artifact.npu
    size = ethos_arena_bytes(artifact, info)
    ops = tuple(op.name for op in read_file(npu.content).ops)
    texts = ArrayTexts(
        arena=f"Tensor arena: {npu.sram_bytes} bytes of SRAM by {npu.compiler}'s plan, and {size - npu.sram_bytes} "
        "for TensorFlow Lite Micro. The NPU must be able to read and write it.",
        about=f"Compiled by {npu.compiler} for {npu.accelerator} only, memory mode {npu.memory}.",
        placement=f"{c_name.upper()}_PLACEMENT",
    )
    header, source = c_array(npu.content, c_name, ops, size, texts=texts)
    main = main_cc(
        artifact,
        info,
        c_name,
        MainTexts(
            runtime="TensorFlow Lite Micro and an Ethos-U",
            expected_by="LiteRT computed from the file that was compiled for the NPU",
            ops=ops,
            includes=DEVICE_INCLUDES,
            code=DEVICE_CODE.substitute(
                name=c_name,
                accelerator=npu.accelerator,
                macs=npu.accelerator.rsplit("-", 1)[1],
            ),
            start="  if (!StartNpu()) return false;\n",
            arena="The NPU reads and writes the arena: not in memory that only the processor reaches, such as DTCM.",
            placement="ARENA_PLACEMENT",
        ),
    )
    return {f"{c_name}.h": header.encode(), f"{c_name}.cc": source.encode(), "main.cc": main.encode()}


def compiled_words(artifact: Any) -> str:
    """Description of the compiled file, for the list of files."""
    if artifact.npu is None:
        return ""
    return f"**the file for the device**: compiled by {artifact.npu.compiler} only for {artifact.npu.accelerator}"


def ethos_section(artifact: Any, info: FileInfo, name: str, c_name: str) -> str:
    """README's section for an Ethos-U."""
    npu = artifact.npu
    family = npu.accelerator.split("-")[1]
    return ETHOS_SECTION.substitute(
        name=name,
        c_name=c_name,
        placement=f"{c_name.upper()}_PLACEMENT",
        accelerator=npu.accelerator,
        family=family,
        macs=npu.accelerator.rsplit("-", 1)[1],
        compiler=npu.compiler,
        system=npu.system,
        memory=npu.memory,
        sram_bytes=f"{npu.sram_bytes:,}",
        arena_bytes=f"{ethos_arena_bytes(artifact, info):,}",
        flash_bytes=f"{npu.flash_bytes:,}",
        model=FVP[family].format(macs=npu.accelerator.rsplit("-", 1)[1], file=f"{c_name}.elf"),
        cycles=f"{npu.cycles:,}",
        tolerance=file_tolerance(artifact, info).words,
    )
