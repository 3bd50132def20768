"""Lowering: from a trained model (float or quantized) to the graph that the converter gets for a target."""

from __future__ import annotations

from typing import Any

from wavemix_tf.checks import check_option

from ..layers.fake_quant import FakeQuant
from ..targets.table import get_target
from .graph import Graph, Node
from .layer_kinds import INDICES, MOVES_VALUES
from .passes.write_transposed import UPSAMPLE_FORMS
from .pipeline import finishing_passes, lowering_passes, run

# Name of every converted model. A file's tensor names start with it, and must not depend on how many networks a process
# has built.
DEPLOYED = "deployed"


def is_quantized(model: Any) -> bool:
    """Whether ``quantize`` made this model."""
    return quantized_dtype(model) is not None


def converts_itself(model: Any) -> bool:
    """Whether another engine made the model: one with its own ``convert`` and ``error_bound_steps``."""
    return hasattr(model, "quantized_dtype")


def quantized_dtype(model: Any) -> str | None:
    """The dtype of a model made by ``quantize``, int8 or int16x8; None for a float model."""
    if converts_itself(model):
        return model.quantized_dtype
    for layer in getattr(model, "layers", []):
        if isinstance(layer, FakeQuant):
            return "int8" if layer.bits == 8 else "int16x8"
    return None


def float_layers(graph: Graph) -> list[str]:
    """Names of the layers of a quantized model that ``quantize(skip=...)`` left in float."""
    table = graph.consumers()
    reached: dict[str, None] = {}
    front = [node.output for node in graph.nodes() if node.kind == "KeepFloat"]
    while front:
        for reader in table.get(front.pop(), []):
            if reader.kind != "FakeQuant" and reader.name not in reached:
                reached[reader.name] = None
                front += reader.outputs
    return sorted(reached)


def has_float_ends(graph: Graph) -> bool:
    """Whether a quantized model reads an input, or computes an output, in float."""
    table = graph.consumers()
    readers = [reader.kind for value in graph.inputs for reader in table.get(value, [])]

    def lies_on_grid(node: Node) -> bool:
        while node.kind in MOVES_VALUES or getattr(node.layer, "interpolation", None) == "nearest":
            node = node.inputs[0].node
        if node.kind in INDICES:
            node = node.inputs[0].node
        return node.kind == "FakeQuant"

    return any(kind != "FakeQuant" for kind in readers) or not all(lies_on_grid(v.node) for v in graph.outputs)


def fold(model: Any, target: str = "android-cpu", upsample_form: str | None = None) -> Any:
    """The float32 inference twin of any functional model, in the form that suits a target's runtime.

    Batch norms are merged into the convolutions (also transposed and depthwise ones) and dense layers before them, or
    become 1x1 depthwise convolutions if nothing can absorb them. A Haar transform is merged into the 1x1 convolution
    after it, at every level. Dropout is removed. Transposed convolutions and resizes are written in the form that suits
    the target. The outputs equal the model's to 1e-5 of their largest, unless the target does not support an activation
    (``Target.substitutes``). ``export`` converts this model.

    Args:
        model: Functional Keras model, float or made by ``quantize``.
        target: Key of ``TARGETS``.
        upsample_form: One of ``UPSAMPLE_FORMS``; None: the target's first.

    Returns:
        A functional ``keras.Model`` for inference only; the given one is not changed.

    Raises:
        ValueError: unknown target or upsample form.
        UnsupportedLayerError: the model is not functional, or a layer has no exact form.

    Example:
    >>> [type(layer).__name__ for layer in wm.tflite.fold(model, "ethos-u55").layers]
    """
    row = get_target(target)
    chosen = row.upsample_forms[0] if upsample_form is None else upsample_form
    check_option("upsample_form", chosen, UPSAMPLE_FORMS)
    return deploy(model, row.substitutes, chosen, row.max_stride, row.dense_as_convolution)


def deploy(
    model: Any,
    substitutes: dict[str, str],
    upsample_form: str,
    max_stride: int | None = None,
    dense_as_convolution: bool = False,
) -> Any:
    """The float32 inference twin of ``model`` in the target's form: the same function, completely folded.

    For a quantized model the weights are rounded to their int8 grids and the activation ranges stay as fake-quant
    nodes, from which the converter derives exactly the grids that were trained. Ranges of 16 bits are removed: the
    converter measures them on images (its 16-bit kernels refuse the grids that it derives from such nodes).

    Args:
        model: Functional model, float or made by ``quantize``.
        substitutes: Activations that the target has no op for -> their replacements.
        upsample_form: One of ``UPSAMPLE_FORMS``.
        max_stride: Largest stride of a convolution, in pixels, that the target runs in one piece; None: any.
        dense_as_convolution: As for ``Target``.

    Raises:
        UnsupportedLayerError: a layer that has no exact form here.
    """
    graph = Graph.from_model(model, dtype="float32")
    run(graph, lowering_passes(substitutes))
    run(graph, finishing_passes(upsample_form, max_stride, dense_as_convolution))
    return graph.to_model(DEPLOYED)
