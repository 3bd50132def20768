"""Second step of ``export``: write the file in each form that suits the target and keep the smallest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..file.flatbuffer import FileInfo
from ..file.metadata import add_metadata
from ..graph.graph import Graph
from ..graph.lowering import DEPLOYED
from ..graph.pipeline import finishing_passes, lowering_passes, run
from ..runtimes.converter import convert
from ..runtimes.ethos import NpuReport, check_all_on_npu, compile_for
from .forms import write_smallest
from .limits import MemoryUse, check_limits
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
    """

    content: bytes
    info: FileInfo
    form: str
    arenas: dict[str, int]
    npu: NpuReport | None
    deployed: Any

    @property
    def arena_bytes(self) -> int | None:
        """The largest of ``arenas``."""
        return max(self.arenas.values(), default=None)


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
    lowered = None if job.facts.converts_itself else _lower(job)

    def written(form: str) -> bytes:
        if lowered is None:
            content = job.model.convert(job.io_dtype)
        else:
            deployed[form] = _finish(job, lowered, form)
            content = convert(deployed[form], job.dtype, job.io_dtype, job.calibration)
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
        job.limits.file_bytes,
    )
    npu = compile_for(job.row, content, accelerator)
    if npu is not None:
        check_all_on_npu(npu, job.target)
    file = Written(content, info, form, arenas, npu, deployed.get(form))
    check_limits(job.limits, MemoryUse(file.arena_bytes, len(content), npu), info, job.target)
    return file


def _lower(job: Prepared) -> Graph:
    """The graph before the passes that differ between forms."""
    graph = job.facts.graph.copy()
    run(graph, lowering_passes(job.row.substitutes))
    return graph


def _finish(job: Prepared, lowered: Graph, form: str) -> Any:
    """The graph of one form, as a model."""
    graph = lowered.copy()
    run(graph, finishing_passes(form, job.row.max_stride, job.row.dense_as_convolution))
    return graph.to_model(DEPLOYED)
