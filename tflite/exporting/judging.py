"""Last step of ``export``: run the written file and compare it with the models that it must match."""

from __future__ import annotations

from typing import Any

from wavemix_tf.warning import warn_user

from ..file.softmax_limits import softmax_hazard
from ..graph.graph import Graph
from ..graph.lowering import deploy, is_quantized
from ..graph.passes.decompose_swish import decompose_swish
from ..graph.passes.substitute_activations import substitute_activations
from ..graph.pipeline import canonicalize
from ..names import BITS, MICRO
from ..quantization.copy_check import check_copy
from ..quantization.ranges import connect_steps
from ..runtimes.running import runtimes_of
from ..targets.table import Target
from ..verification.half_range import check_half_range
from ..verification.verifier import ERROR_BOUND_STEPS, MARGIN_STEPS
from .conversion import Written
from .fidelity import check_file, stand_ins
from .preparation import Prepared


def judge(job: Prepared, file: Written, error_bound_steps: float | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Check the graph that was converted, run the file in every runtime, and apply the bounds.

    Args:
        job: From ``prepare``.
        file: From ``write``.
        error_bound_steps: As for ``export``.

    Returns:
        (``Artifact.verification`` without its source, names of the layers whose activation was replaced).

    Raises:
        CopyError: the converted graph computes something other than the given model, before rounding.
        FidelityError: the file's outputs are too far from the model's.
        RuntimeFailureError: a runtime refused the file.
    """
    substituted, stand_in = _substituted(job)
    if job.dtype not in BITS:
        _check_deployed(job, file, stand_in)
    own_bounds = job.model.error_bound_steps if job.facts.converts_itself else ERROR_BOUND_STEPS[job.dtype]
    steps = {
        name: own_bounds[name] if error_bound_steps is None else error_bound_steps
        for name in runtimes_of(job.row, file.info)
    }
    verification = check_file(
        (file.content, file.info),
        job.given,
        job.facts.model if job.quantized_here else stand_in,
        job.images,
        steps,
        # With so many steps of error allowed, the top-1 class may change where the margin is smaller.
        max(MARGIN_STEPS, error_bound_steps or 0.0),
        job.bounds if job.rounds else None,
        bool(job.class_names),
        job.fresh,
    )
    hazard = softmax_hazard(file.info)
    if hazard is not None and MICRO in job.row.runtimes:
        warn_user(f"{hazard} It did for none of the verified images.")
    return {"images": job.source, **verification}, tuple(substituted or stand_ins(job.given))


def _check_deployed(job: Prepared, file: Written, stand_in: Any) -> None:
    """Compare a graph that rounds nothing with the model that it was made from."""
    check_copy(stand_in or job.given, file.deployed, job.images)
    if stand_in is not None:  # it was made from a copy, too
        row = job.row
        exact = deploy(job.given, {}, file.form, row.max_stride, row.dense_as_convolution)
        check_copy(job.given, exact, job.images)
    if job.dtype == "float16":
        check_half_range(file.deployed, job.images, job.target)


def _substituted(job: Prepared) -> tuple[list[str], Any]:
    """Names of the layers whose activation the target does not support, and the given model with replacements.

    The model is None if there are no such layers, or if it was quantized with the replacements.
    """
    if job.quantized_here:
        return list(job.facts.model.quantization_report.substituted), None
    if not job.facts.may_have(job.row.substitutes):
        return [], None
    return _with_stand_ins(job.given, job.row)


def _with_stand_ins(model: Any, row: Target) -> tuple[list[str], Any]:
    """As above. Nothing else changes: an error in folding must not hide in the model that the file is compared with."""
    graph = Graph.from_model(model)
    canonicalize(graph)
    names = substitute_activations(graph, row.substitutes)
    if not names:
        return [], None
    if is_quantized(model):
        decompose_swish(graph)  # so that its logistic is rounded
        connect_steps(graph)  # so that scaled ranges share their steps
    return names, graph.to_model(model.name)
