"""A quantized model without its rounding: the float network of its weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from wavemix_tf.layers.normalization import FusedBatchNormalization

from ..graph.graph import Graph, Node
from ..graph.lowering import converts_itself, is_quantized
from ..graph.passes.bake_weights import plain_config
from ..graph.passes.write_norms import LEAST_EPSILON
from ..graph.rectifiers import QuantPReLU, plain_prelu
from ..graph.weights import bias_of, kernel_of, with_weights
from ..layers.fake_quant import QUANT_LAYERS, QuantBatchNormalization
from ..layers.token_layers import AddConstant, Rsqrt, with_constant


def float_network(model: Any) -> Any:
    """``model`` without any rounding, as a float Keras model.

    For a float model this is the model itself. For a quantized one it has the weights before rounding, which training
    updates, and no fake-quant node. Without fine-tuning (and without ``rounding="gptq"``, which changes the weights) it
    is the float model that was quantized, with the replacement activations of its target.
    """
    if not is_quantized(model):
        return model
    if converts_itself(model):
        return model.to_keras()
    graph = Graph.from_model(model, dtype="float32")
    remove_rounding(graph)
    return graph.to_model(f"{model.name}_unrounded")


def remove_rounding(graph: Graph) -> None:
    """Remove every rounding from the graph of a quantized model, in place; the nodes' layers may be shared."""
    plain: dict[int, Any] = {}  # calls that share a layer keep sharing its float twin
    pixels = [value for value, dtype in zip(graph.inputs, graph.dtypes, strict=True) if "int" in dtype]
    for node in graph.nodes():
        if node.kind in ("FakeQuant", "KeepFloat"):
            if node.kind == "FakeQuant" and node.inputs[0] in pixels:  # they continue in float
                node.layer, node.kwargs = layers.Rescaling(1.0, name=node.name, dtype=node.layer.dtype_policy), {}
            else:
                graph.replace(node.output, node.inputs[0])
        elif node.kind == "Rsqrt":
            _restore_epsilon(graph, node)
        elif isinstance(node.layer, keras.Layer):
            if id(node.layer) not in plain:
                plain[id(node.layer)] = unrounded(node)
            if type(node.layer).__name__.startswith("Quant"):
                node.kwargs = {key: value for key, value in node.kwargs.items() if key not in ("steps", "input_step")}
                node.outputs = node.outputs[:1]  # there are no accumulator steps any more
            node.layer = plain[id(node.layer)]


def _restore_epsilon(graph: Graph, node: Node) -> None:
    """Add the epsilon of a norm to its inverse root again; quantization omitted it if it was less than a step."""
    floor, name, value = node.layer.floor, node.name, node.inputs[0]
    node.layer = Rsqrt(0.0, name=name, dtype=node.layer.dtype_policy)
    if 0 < floor < LEAST_EPSILON:
        shape = (1,) * (len(value.shape) - 1)
        epsilon = with_constant(AddConstant(shape, name=f"{name}_epsilon", dtype=node.layer.dtype_policy), floor)
        epsilon.trainable = False
        node.redirect(value, graph.add(epsilon, value))


def unrounded(node: Node) -> Any:
    """The layer of ``node`` in float, with its weights before rounding; the same layer if it rounds nothing."""
    layer = node.layer
    if isinstance(layer, QuantBatchNormalization):
        twin = FusedBatchNormalization.from_config(plain_config(layer))
        twin.build(node.inputs[0].shape)
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            if getattr(layer, name, None) is not None:
                # Copied: on JAX an assigned array would be shared, and deleted after the twin has run.
                getattr(twin, name).assign(np.array(keras.ops.convert_to_numpy(getattr(layer, name))))
        return twin
    kind = node.kind.removeprefix("Quant")
    if node.kind != kind and kind in QUANT_LAYERS:
        made = getattr(layers, kind).from_config(plain_config(layer))
        return with_weights(made, kernel_of(layer), bias_of(layer))
    if isinstance(layer, QuantPReLU):
        return plain_prelu(layer, rounded=False)
    if isinstance(layer, AddConstant) and layer.rounded:
        exact = AddConstant.from_config({**layer.get_config(), "rounded": False})
        return with_constant(exact, keras.ops.convert_to_numpy(layer.constant))
    if node.kind in ("DWT2D", "LowPass2D"):  # their taps are constants, which `quantize` rounded to the file's grid
        exact = type(layer).from_config(layer.get_config())
        exact.build(node.inputs[0].shape)
        return exact
    return layer
