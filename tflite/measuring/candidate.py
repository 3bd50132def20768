"""The int8 file of an untrained network, in a fraction of the time that ``export`` takes.

The costs of a file on a device (arena, size, cycles, latency) depend on its ops and shapes and hardly on its weights.
So nothing is calibrated or verified here: weights and ranges are random, the graph goes through the passes of
``quantize`` and ``deploy`` once, and is converted in memory. Initial weights are not used because the converter merges
equal constants: a new network, whose biases are all zero, becomes a smaller file than the same network after training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..c_source.instruction_count import estimate_instructions
from ..errors import UnsupportedOpError
from ..exporting.forms import audited_files, run_for_arenas
from ..exporting.preparation import check_class_names
from ..file.flatbuffer import FileInfo, read_file
from ..file.metadata import add_metadata
from ..graph.activation_names import activation_name
from ..graph.graph import Graph
from ..graph.inputs import value_ranges
from ..graph.lowering import DEPLOYED
from ..graph.pipeline import finishing_passes, lowering_passes, quantizing_passes
from ..graph.pipeline import run as run_passes
from ..names import (
    ARENA_BYTES,
    C_PROGRAM,
    CMSIS_NN,
    FILE_BYTES,
    FLASH_BYTES,
    INSTRUCTIONS,
    NPU_CYCLES,
    RAM_BYTES,
    SRAM_BYTES,
)
from ..quantization.ranges import connect_steps
from ..runtimes.converter import convert
from ..runtimes.ethos import check_all_on_npu, compile_for
from ..runtimes.processes import Runner
from ..targets.firmware import COST_KERNELS, firmware_bytes
from ..targets.table import Target, get_target
from .board_fit import program_need


def measure(
    model: Any, target: str, accelerator: str | None = None, run: Runner | None = None
) -> tuple[dict[str, float], bytes]:
    """Costs of a candidate on a target, except those that need a quiet machine.

    Args:
        model: Functional Keras model, float; its weights are not used.
        target: Key of ``TARGETS``.
        accelerator: As for ``export``.
        run: Runs the target's tool, see ``processes``; None: a new process each time.

    Returns:
        (costs by name, the file with these costs).

    Raises:
        ExportError: as for ``write_files``; or the device's tool refused the file.
    """
    row = get_target(target)
    files = write_files(model, target, row)
    if ARENA_BYTES in row.costs:
        tried = []
        for _, content, info in files:
            inputs = [np.zeros(tensor.shape, tensor.dtype) for tensor in info.inputs]
            tried.append((max(run_for_arenas(content, info, inputs, run).values()), len(content), content))
        arena, size, content = min(tried)  # the choice of ``export``
        sizes: dict[str, float] = {ARENA_BYTES: arena, FLASH_BYTES: size}
        info = read_file(content)
        ops = [op.name for op in info.ops]
        sizes |= {name: firmware_bytes(size, ops, kernels)[1] for name, kernels in COST_KERNELS.items()}
        counted = estimate_instructions(info, "cortex-m4", CMSIS_NN)
        sizes[INSTRUCTIONS] = math.inf if counted is None else counted  # an op that was not measured fits no budget
    elif row.writes_c:
        _, content, _ = next(files)
        sizes = _program_sizes(content)
    else:
        _, content, _ = next(files)
        npu = compile_for(row, content, accelerator, run)
        sizes = {FILE_BYTES: len(content)}
        if npu is not None:
            check_all_on_npu(npu, target)
            sizes = {NPU_CYCLES: npu.cycles, SRAM_BYTES: npu.sram_bytes, FLASH_BYTES: npu.flash_bytes}
    return {name: float(value) for name, value in sizes.items()}, content


def _program_sizes(content: bytes) -> dict[str, float]:
    info = read_file(content)
    need = program_need(content, info)
    if need.refusal is not None:
        raise UnsupportedOpError(f"The generator of C does not take the network. Received: {need.refusal}")
    counted = estimate_instructions(info, "cortex-m4", C_PROGRAM)
    return {
        RAM_BYTES: need.ram_bytes,
        FLASH_BYTES: need.flash_bytes,
        ARENA_BYTES: need.arena_bytes,
        INSTRUCTIONS: math.inf if counted is None else counted,
    }


def write_files(model: Any, target: str, row: Target) -> Iterator[tuple[str, bytes, FileInfo]]:
    """The candidate's int8 file in each form of transposed convolutions that ``export`` would try.

    Args:
        model: Functional Keras model, float; its weights are not used.
        target: Key of ``TARGETS``.
        row: Row of the target.

    Yields:
        (upsample form, the ``.tflite`` file, the parsed file with the names that may have been stripped from it).

    Raises:
        ExportError: the model has no int8 form, the converter refused it, or the target does not run one of its ops.
    """
    graph = Graph.from_model(model, dtype="float32")
    rng = np.random.default_rng(0)
    for node in graph.nodes():
        if node.layer is not None:
            _draw_weights(node.layer, rng)
    ranges = value_ranges((0.0, 1.0), graph.inputs)
    run_passes(graph, quantizing_passes(ranges, None, substitutes=row.substitutes))
    _draw_ranges(graph, rng)
    connect_steps(graph)
    transposed = any(node.kind.endswith("Conv2DTranspose") for node in graph.nodes())
    run_passes(graph, lowering_passes(row.substitutes))

    class_names = check_class_names(model, None) if row.holds_class_names else None

    def write(form: str) -> bytes:
        written = graph.copy()
        run_passes(written, finishing_passes(form, row.max_stride, row.dense_as_convolution))
        content = convert(written.to_model(DEPLOYED), "int8", row.io_dtypes["int8"])
        return add_metadata(content, value_ranges((0.0, 1.0), graph.inputs), class_names=class_names)

    forms = row.upsample_forms if transposed else row.upsample_forms[:1]
    yield from audited_files(write, forms, row, target, "int8", False)


def _draw_weights(layer: Any, rng: np.random.Generator) -> None:
    """Assign random weights, about as large as trained ones and all different; fixed filters stay."""
    for weight in getattr(layer, "weights", []):
        name, shape = weight.name.rsplit("/", 1)[-1], tuple(weight.shape)
        if name == "moving_variance":
            weight.assign(rng.uniform(0.5, 2.0, shape))
        elif name == "gamma":
            weight.assign(rng.uniform(0.3, 1.0, shape))
        elif name in ("moving_mean", "beta", "bias"):
            weight.assign(rng.normal(0, 0.3, shape))
        elif weight.trainable:
            weight.assign(rng.normal(0, 1.4 / np.sqrt(max(1, np.prod(shape[:-1]))), shape))


def _draw_ranges(graph: Graph, rng: np.random.Generator) -> None:
    """Assign a different range to every quantizer: the converter drops ops between tensors of one scale."""
    drawn, consumers = set(), graph.consumers()
    for node in graph.nodes():
        if node.kind != "FakeQuant" or node.layer.fixed or id(node.layer) in drawn:
            continue
        drawn.add(id(node.layer))
        low, high = -rng.uniform(1.0, 3.0), rng.uniform(1.0, 3.0)
        positive = activation_name(node.inputs[0].node) in ("relu", "relu6")
        positive |= any(reader.kind == "Rsqrt" for reader in consumers.get(node.output, []))
        node.layer.set_range(0.0 if positive else low, high)
