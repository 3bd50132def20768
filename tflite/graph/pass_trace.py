"""Trace of a pipeline: the graph after each pass, as text."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from wavemix_tf.checks import check_option

from ..targets.table import get_target
from .activation_names import activation_name
from .graph import Graph, Node
from .inputs import value_ranges
from .pipeline import Pass, quantizing_passes, target_passes

STAGES = ("export", "quantize")


@dataclass(frozen=True)
class Snapshot:
    """The graph after a pass. ``str`` of it is one line: the pass, the number of layers, the layers that it changed.

    Args:
        name: Name of the pass; "given" for the graph before the first.
        exact: As for ``Pass``.
        layers: The whole graph, one line per call of a layer, producers first: name, kind, sides of the output, its
            inputs, and a digest of its weights.
        changed: Names of the layers that are new, or whose line changed.
        removed: Names of the layers that were removed.
    """

    name: str
    exact: bool
    layers: tuple[str, ...]
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.name:<28}{'' if self.exact else 'not exact':<10}{len(self.layers):>4} layers"]
        parts += [f"changed {', '.join(self.changed)}"] if self.changed else []
        parts += [f"removed {', '.join(self.removed)}"] if self.removed else []
        return "; ".join(parts)


def trace(
    model: Any, target: str = "android-cpu", stage: str = "export", upsample_form: str | None = None
) -> list[Snapshot]:
    """Run the passes for a target, and keep the graph after each.

    Nothing is calibrated, converted or written; the model is not changed. For a model made by ``quantize`` the stage
    "export" shows how its quantizers are lowered.

    Args:
        model: Functional Keras model; float for the stage "quantize".
        target: Key of ``TARGETS``.
        stage: "export": the passes of ``export``; "quantize": those of ``quantize``, with an input range of (0, 1).
        upsample_form: As for ``export``; None: the target's first.

    Returns:
        A ``Snapshot`` of the given graph, then one for each pass.

    Raises:
        ValueError: unknown target, stage or upsample form.
        UnsupportedLayerError: as for ``export`` and ``quantize``.

    Example:
    >>> for snapshot in trace(model, "mcu"):    # one line per pass
    ...     print(snapshot)
    >>> for line in snapshot.layers:            # the graph after the last pass, which the converter gets
    ...     print(line)
    """
    check_option("stage", stage, STAGES)
    if stage == "export":
        graph = Graph.from_model(model, dtype="float32")
        passes = target_passes(target, upsample_form)
    else:
        graph = Graph.from_model(model)
        ranges = value_ranges((0.0, 1.0), graph.inputs)
        passes = quantizing_passes(ranges, None, substitutes=get_target(target).substitutes)
    return trace_passes(graph, passes)


def trace_passes(graph: Graph, passes: list[Pass]) -> list[Snapshot]:
    """As ``trace``, for any graph and passes; the graph is changed in place."""
    before = _lines(graph)
    found = [Snapshot("given", True, tuple(line for _, line in before))]
    for step in passes:
        step.run(graph)
        after = _lines(graph)
        known, names = {line for _, line in before}, {name for name, _ in after}
        changed = dict.fromkeys(name for name, line in after if line not in known)
        removed = dict.fromkeys(name for name, _ in before if name not in names)
        found.append(Snapshot(step.name, step.exact, tuple(line for _, line in after), tuple(changed), tuple(removed)))
        before = after
    return found


def _lines(graph: Graph) -> list[tuple[str, str]]:
    """(name, line) of each node."""
    return [(node.name, _describe(node)) for node in graph.nodes()]


def _describe(node: Node) -> str:
    activation = activation_name(node)
    kind = node.kind if activation is None else f"{node.kind}({activation})"
    shapes = ", ".join(str(tuple(value.shape[1:])) for value in node.outputs)
    read = ", ".join(value.name for value in node.inputs)
    weights = getattr(node.layer, "weights", [])
    digest = 0
    for part in weights:
        digest = zlib.crc32(np.ascontiguousarray(keras.ops.convert_to_numpy(part)).tobytes(), digest)
    return f"{node.name}: {kind} {shapes}{f' <- {read}' if read else ''}{f' weights {digest:08x}' if weights else ''}"
