"""Contribution of each layer to the error of a quantized network: each stored tensor in the file and unrounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from ..file.flatbuffer import from_output, read_file, to_input
from ..graph.graph import UNROUNDED, Graph, Node, Value
from ..graph.inputs import check_inputs, predict
from ..graph.lowering import deploy, has_float_ends, quantized_dtype
from ..names import XNNPACK
from ..quantization.float_network import unrounded
from ..quantization.quantizer import input_ranges
from ..runtimes.converter import convert
from ..runtimes.running import run_raw
from ..targets.table import get_target

BATCH = 8  # images whose tensors are in memory at once, of the file and of the model
NOISE_IMAGES = 16  # images for the noise of a layer; each layer runs about half the network again
CEILING_DB = 100.0  # here float32 itself rounds; also the value for a tensor without any noise


@dataclass(frozen=True)
class LayerError:
    """One tensor that an int8 file stores.

    Args:
        name: Layer whose output it is.
        shape: Of one image's tensor, without the batch axis.
        step: Distance of two neighboring integers.
        file_error_steps: Mean |file - fake-quant model| in steps: the difference between the runtime's rounding and the
            model's.
        file_differs: Share of the integers that differ between the two.
        noise_db: Power of the tensor without any rounding over the power of the change by all rounding up to here,
            in dB (SQNR): 40 dB is an error of 1 %, every 6 dB less double the error. At most 100.
        output_share: This layer's share of the noise in the network's outputs: the noise there when only this layer
            rounds (its weights, its bias and its output), over the sum of that of all layers.
        lost_db: Gain of the outputs' SQNR if this layer did not round, in dB, if the layers' noises add up
            (independent of each other): 10 log10(1 / (1 - output_share)). The largest is the worst layer. At most 100.
    """

    name: str
    shape: tuple[int, ...]
    step: float
    file_error_steps: float
    file_differs: float
    noise_db: float
    output_share: float
    lost_db: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {**asdict(self), "shape": list(self.shape)}


def layer_errors(model: Any, images: Any, artifact: Any = None) -> tuple[LayerError, ...]:
    """Find the tensors at which an int8 network loses its accuracy.

    Two comparisons for every tensor that the file stores. The file against the model: a file with all these tensors as
    outputs runs under LiteRT with XNNPACK and is compared integer by integer. The cost of rounding: the model is
    compared with its float twin, the same network with plain float activations and unrounded weights (those that
    training updates; without fine-tuning, the float model's own). Each layer also rounds alone in that twin, to
    measure its effect on the outputs.

    Args:
        model: Made by ``quantize`` with dtype "int8", its engine "native".
        images: float array (N, H, W, C) in the model's input range, or as ``quantize`` takes several inputs; 16 to 64
            images are enough to rank the layers, more take longer.
        artifact: File of the model, from ``export`` or ``Artifact.load``, whose target's forms are used (of transposed
            convolutions, of unsupported activations). None: those of "android-cpu".

    Returns:
        One ``LayerError`` per tensor, in the order of the graph.

    Raises:
        ValueError: the model is not a native int8 model; images of the wrong shape or range.
        ExportError: the model cannot be converted, or LiteRT refused the file.

    Example:
    >>> for row in sorted(wm.tflite.layer_errors(qat, images), key=lambda row: -row.lost_db)[:5]:
    ...     print(row.name, f"{row.output_share:.0%} of the noise in the outputs")
    """
    if not isinstance(model, keras.Model) or quantized_dtype(model) != "int8":
        raise ValueError(
            "model must be made by quantize(model, images) with dtype='int8' and engine='native'. "
            f"Received: model={getattr(model, 'name', model)!r}"
        )
    graph = Graph.from_model(model, dtype="float32")
    arrays = check_inputs(images, model.inputs, input_ranges(graph), name="images")
    quantizers = [node for node in graph.nodes() if node.kind == "FakeQuant"]
    errors = _file_errors(graph, quantizers, arrays, artifact)
    noise = _noise_db(graph, quantizers, arrays)
    powers = _output_noise(graph, quantizers, [part[:NOISE_IMAGES] for part in arrays])
    total = max(sum(powers), 1e-300)
    rows = []
    for node, (mean, differs), decibels, power in zip(quantizers, errors, noise, powers, strict=True):
        share = power / total
        rows.append(
            LayerError(
                name=_layer_name(node),
                shape=tuple(int(side) for side in node.output.shape[1:]),  # type: ignore[arg-type]
                step=node.layer.get_step(),
                file_error_steps=mean,
                file_differs=differs,
                noise_db=decibels,
                output_share=share,
                lost_db=_decibels(1.0, 1.0 - share),
            )
        )
    return tuple(rows)


def _layer_name(node: Node) -> str:
    """Name of the layer whose output is rounded, in the quantized model."""
    return node.inputs[0].node.name.removesuffix(UNROUNDED)


def _decibels(signal: float, noise: float) -> float:
    if signal <= 0 or noise <= signal * 10 ** (-CEILING_DB / 10):
        return CEILING_DB
    return float(10 * np.log10(signal / noise))


# --- the file ---------------------------------------------------------------------------------------------------------


def _file_errors(
    graph: Graph, quantizers: Sequence[Node], arrays: list[np.ndarray], artifact: Any
) -> list[tuple[float, float]]:
    """(mean difference in steps, share of integers that differ) of each quantizer's tensor."""
    target = get_target("android-cpu" if artifact is None else artifact.target)
    form = (None if artifact is None else artifact.upsample_form) or target.upsample_forms[0]
    # An input's integers are not computed: the caller makes them, as `to_input` does.
    computed = [node for node in quantizers if node.inputs[0].node.layer is not None]
    tapped = graph.to_model("tensors", outputs=[node.output for node in computed])
    io_dtype = "float32" if has_float_ends(Graph.from_model(tapped)) else "int8"
    deployed = deploy(tapped, target.substitutes, form, target.max_stride, target.dense_as_convolution)
    content = convert(deployed, "int8", io_dtype)
    info = read_file(content)
    sums = np.zeros((len(computed), 3))
    for start in range(0, len(arrays[0]), BATCH):
        parts = [array[start : start + BATCH] for array in arrays]
        wanted = predict(tapped, parts)
        wanted = wanted if isinstance(wanted, list) else [wanted]
        raw = run_raw(
            content, [to_input(tensor, part) for tensor, part in zip(info.inputs, parts, strict=True)], XNNPACK
        )
        for index, (node, tensor, found, same) in enumerate(zip(computed, info.outputs, raw, wanted, strict=True)):
            steps = np.abs(from_output(tensor, found) - same) / node.layer.get_step()
            sums[index] += steps.sum(dtype=np.float64), np.count_nonzero(steps > 0.5), steps.size
    pairs = zip(computed, sums, strict=True)
    shares = {node: (float(total / size), float(count / size)) for node, (total, count, size) in pairs}
    return [shares.get(node, (0.0, 0.0)) for node in quantizers]


# --- the rounding -----------------------------------------------------------------------------------------------------


class _Twin:
    """The network node by node, each node either unchanged or without rounding.

    Args:
        graph: Graph of a quantized model.
        quantizers: Its FakeQuant nodes.
    """

    def __init__(self, graph: Graph, quantizers: Sequence[Node]) -> None:
        self.order = [node for node in graph.nodes() if node.layer is not None]
        self.quantizers = quantizers
        self.outputs = graph.outputs
        self.inputs = graph.inputs
        self.plain = {id(node.layer): unrounded(node) for node in self.order}
        # The nodes that compute a quantizer's tensor from the tensors before it: they round together with it.
        self.segments = {node: self._segment(node) for node in quantizers}
        self.readers: dict[Node, set[Node]] = {}
        for node in self.order:
            for value in node.inputs:
                self.readers.setdefault(value.node, set()).add(node)

    def _segment(self, quantizer: Node) -> set[Node]:
        found, stack = {quantizer}, [value.node for value in quantizer.inputs]
        while stack:
            node = stack.pop()
            if node.layer is not None and node.kind != "FakeQuant" and node not in found:
                found.add(node)
                stack += [value.node for value in node.inputs]
        return found

    def nodes_behind(self, node: Node) -> set[Node]:
        """Every node that ``node`` reaches."""
        found: set[Node] = set()
        stack = [node]
        while stack:
            for reader in self.readers.get(stack.pop(), ()):
                if reader not in found:
                    found.add(reader)
                    stack.append(reader)
        return found

    def run(self, node: Node, known: dict[Value, Any], rounded: bool) -> None:
        """Compute ``node`` from the values in ``known``, with its rounding or without."""
        if not rounded and node.kind == "FakeQuant":
            known[node.output] = known[node.inputs[0]]
            return

        def value_of(leaf: Any) -> Any:
            return known[leaf] if isinstance(leaf, Value) else leaf

        kwargs = node.kwargs
        if not rounded:  # there are no steps
            kwargs = {key: value for key, value in kwargs.items() if key not in ("steps", "input_step")}
        args, kwargs = keras.tree.map_structure(value_of, (node.args, kwargs))
        layer = node.layer if rounded else self.plain[id(node.layer)]
        results = keras.tree.flatten(layer(*args, **kwargs))
        known.update(zip(node.outputs, results, strict=False))  # a graph without rounding has no steps to emit


def _noise_db(graph: Graph, quantizers: Sequence[Node], arrays: list[np.ndarray]) -> list[float]:
    """SQNR of each quantizer's tensor, in dB: the fully rounded network against the unrounded one."""
    twin = _Twin(graph, quantizers)
    sums = np.zeros((len(quantizers), 2))
    for start in range(0, len(arrays[0]), BATCH):
        tables: list[dict[Value, Any]] = []
        for rounded in (True, False):
            fed = [keras.ops.convert_to_tensor(array[start : start + BATCH]) for array in arrays]
            known: dict[Value, Any] = dict(zip(graph.inputs, fed, strict=True))
            for node in twin.order:
                twin.run(node, known, rounded)
            tables.append(known)
        for index, node in enumerate(quantizers):
            found, exact = (np.asarray(keras.ops.convert_to_numpy(known[node.output]), np.float64) for known in tables)
            sums[index] += np.square(exact).sum(), np.square(found - exact).sum()
    return [_decibels(signal, noise) for signal, noise in sums]


def _output_noise(graph: Graph, quantizers: Sequence[Node], arrays: list[np.ndarray]) -> list[float]:
    """For each quantizer: relative power of the change in the network's outputs when only its layer rounds."""
    twin = _Twin(graph, quantizers)
    fed = [keras.ops.convert_to_tensor(array) for array in arrays]
    exact: dict[Value, Any] = dict(zip(graph.inputs, fed, strict=True))
    for node in twin.order:
        twin.run(node, exact, rounded=False)
    ends = [np.asarray(keras.ops.convert_to_numpy(exact[value]), np.float64) for value in graph.outputs]
    powers = []
    for quantizer in quantizers:
        known = dict(exact)
        segment, behind = twin.segments[quantizer], twin.nodes_behind(quantizer)
        for node in twin.order:
            if node in segment:
                twin.run(node, known, rounded=True)
        for node in segment - {quantizer}:  # other consumers of these get them unrounded
            known.update({value: exact[value] for value in node.outputs if value in exact})
        for node in twin.order:
            if node in behind:
                twin.run(node, known, rounded=False)
        power = 0.0
        for value, end in zip(graph.outputs, ends, strict=True):
            found = np.asarray(keras.ops.convert_to_numpy(known[value]), np.float64)
            power += float(np.square(found - end).sum() / max(np.square(end).sum(), 1e-30))
        powers.append(power)
    return powers
