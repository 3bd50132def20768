"""Second step of ``export``: write the file in each form that suits the target and keep the smallest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..c_source.generator import c_arena_bytes
from ..file.flatbuffer import FileInfo, read_file
from ..file.layer_names import op_layers, user_layer
from ..file.metadata import add_metadata
from ..graph.graph import UNROUNDED, Graph, Node
from ..graph.lowering import DEPLOYED
from ..graph.passes.substitute_activations import STAND_IN
from ..graph.pipeline import finishing_passes, lowering_passes, run
from ..runtimes.converter import convert
from ..runtimes.ethos import NpuReport, check_all_on_npu, compile_for
from .forms import write_smallest
from .limits import MemoryUse, check_limits, check_runtime
from .preparation import Prepared


@dataclass(frozen=True)
class Written:
    """A file that its target runs.

    Args:
        content: The file.
        info: The parsed file, with the tensor names that may have been stripped from it.
        form: How transposed convolutions were written.
        arenas: Arena by kernels; empty for targets without one.
        npu: The file compiled for an Ethos-U; None for other targets.
        deployed: The graph that was converted, as a model; None where the model converts itself.
        arena_bytes: The largest of ``arenas``, or that of the C program; None for other targets.
        op_layers: For each op the layer of the given model that it belongs to; "" where that is unknown.
    """

    content: bytes
    info: FileInfo
    form: str
    arenas: dict[str, int]
    npu: NpuReport | None
    deployed: Any
    arena_bytes: int | None
    op_layers: tuple[str, ...]


def write(job: Prepared, accelerator: str | None) -> Written:
    """Convert in every form, audit, keep the smallest, compile it and check it against the limits.

    Args:
        job: From ``prepare``.
        accelerator: As for ``export``.

    Raises:
        UnsupportedLayerError: a layer has no exact form.
        UnsupportedOpError: the target does not run an op of the file.
        MemoryLimitError: it needs more than allowed.
        RuntimeFailureError: TensorFlow Lite Micro refused it.
        ExportError: the converter, or the target's compiler, refused it.
    """
    deployed: dict[str, Any] = {}
    layers: dict[str, dict[str, str]] = {}  # form -> name in the converted model -> name in the given one
    lowered = None if job.facts.converts_itself else _lower(job)

    def written(form: str) -> bytes:
        if lowered is None:
            content = job.model.convert(job.io_dtype)
        else:
            deployed[form], layers[form] = _finish(job, lowered, form)
            content = convert(deployed[form], job.dtype, job.io_dtype, job.calibration)
        check_runtime(content, job.limits, read_file(content))
        class_names = job.class_names if job.row.holds_class_names else None
        return add_metadata(content, job.input_ranges, job.preprocessing, class_names)

    content, info, form, arenas = write_smallest(
        written,
        job.forms,
        job.row,
        job.target,
        job.dtype,
        job.images,
        bool(job.float_layers),
        job.limits.admit,
    )
    npu = compile_for(job.row, content, accelerator)
    if npu is not None:
        check_all_on_npu(npu, job.target)
    arena = c_arena_bytes(content) if job.row.writes_c else max(arenas.values(), default=None)
    names = layers.get(form) or {layer.name: layer.name for layer in job.facts.model.layers}
    file = Written(content, info, form, arenas, npu, deployed.get(form), arena, op_layers(info, names))
    check_limits(job.limits, MemoryUse.of(job.row, content, file.arena_bytes, npu), info, job.target)
    return file


def _lower(job: Prepared) -> Graph:
    """The graph before the passes that differ between forms."""
    graph = job.facts.graph.copy()
    run(graph, lowering_passes(job.row.substitutes))
    return graph


def _finish(job: Prepared, lowered: Graph, form: str) -> tuple[Any, dict[str, str]]:
    """(the graph of one form, as a model; name of each of its layers -> that of the given model's layer)."""
    graph = lowered.copy()
    run(graph, finishing_passes(form, job.row.max_stride, job.row.dense_as_convolution))
    model = graph.to_model(DEPLOYED)  # may rename layers
    return model, {node.name: user_layer(tuple(map(_given_name, _origin(node)))) for node in graph.nodes()}


def _origin(node: Node) -> tuple[str, ...]:
    return node.origin or (node.name,)


def _given_name(name: str) -> str:
    """Name of a layer before ``quantize`` renamed it or wrote its activation with several layers."""
    return STAND_IN.split(name)[0].removesuffix(UNROUNDED)
