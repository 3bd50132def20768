"""What users write in many ways, in the few forms that the passes and the quantizer know. Every pass is exact.

``canonicalize`` runs before any other pass, on float models as on quantized ones: operations of ``keras.ops`` become
layers, fused activations nodes of their own, a separable convolution its two convolutions, bicubic upsampling and
conversions of colours convolutions, a sum of many a chain of sums of two, a global maximum a pooling, fixed scalings
part of the weights before them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from wavemix_tf.keras_internals import flatten_layers
from wavemix_tf.layers.imaging import ReplicatePadding2D
from wavemix_tf.layers.pixel_shuffle import PixelShuffle
from wavemix_tf.layers.wavelets import fold_dwt
from wavemix_tf.warning import warn_user

from ..layers.augmentation import write_crops
from ..layers.copying import copy_layer
from ..layers.whole_numbers import read_pixels_as_numbers
from . import folding, token_forms
from .graph import Graph, Node, Value

# Layers whose `activation=` is split off.
WITH_ACTIVATION = (*folding.LINEAR, "SeparableConv2D")
# Operations of keras.ops with the activation layer that computes the same.
ACTIVATION_OPERATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "Tanh": "tanh",
}
FIXED_CONVOLUTIONS = ("BicubicUpsampling2D", "RGBToYCbCr", "YCbCrToRGB")
MERGES = ("Add", "Multiply")  # of any number of inputs, in any order


def canonicalize(graph: Graph) -> None:
    """Bring a graph into the forms that the other passes expect."""
    read_pixels_as_numbers(graph, folding.MOVES_VALUES)
    write_crops(graph)
    write_rectifiers(graph)
    token_forms.index_before_transposing(graph)
    operations_to_layers(graph)
    write_fixed_convolutions(graph)
    write_filter_banks(graph)
    split_separable(graph)
    split_activations(graph)
    drop_linear_activations(graph)
    split_hard_sigmoid(graph)
    split_merges(graph)
    pool_globally(graph)
    softmax_over_last(graph)
    token_forms.settle(graph)
    gather_affines(graph)


def crop_at_inference(model: Any) -> Any:
    """``model`` with random crops that cut out the centre at inference; the model itself where it has no random crop.

    Keras's own returns the whole picture there, against the shape that it declares and that every layer behind was
    built for.
    """
    if not any(type(layer) is layers.RandomCrop for layer in flatten_layers(model)):
        return model
    graph = Graph.from_model(model)
    names = [node.name for node in graph.nodes() if node.kind == "RandomCrop"]
    write_crops(graph)
    warn_user(
        f"At inference the file crops the centre where layer {', '.join(map(repr, names))} of type RandomCrop returns "
        f"whole pictures under Keras {keras.__version__}: put keras.layers.CenterCrop there to have both alike.",
    )
    return graph.to_model(model.name)


def operations_to_layers(graph: Graph) -> None:
    """``x + y``, ``x * 0.5``, ``ops.relu6(x)``, ``ops.mean(x, (1, 2))`` and the like -> the layers that compute them.

    What has no such layer stays; whoever cannot deal with it names it.
    """
    for node in graph.nodes():
        if node.layer is None or isinstance(node.layer, keras.Layer):
            continue
        if not all(value.is_float for value in (*node.inputs, *node.outputs)):
            continue  # indices and masks
        layer = _layer_for(node)
        value = graph.add(layer, *node.inputs) if layer is not None else token_forms.token_operation(graph, node)
        if value is not None:
            graph.replace(node.output, value)


def _layer_for(node: Node) -> Any:
    """The layer that computes what the operation of ``node`` computes from the same tensors; None if there is none."""
    operation, kind, name = node.layer, type(node.layer).__name__, node.name
    if kind in ACTIVATION_OPERATIONS:
        return layers.Activation(ACTIVATION_OPERATIONS[kind], name=name)
    if kind == "Softmax" and operation.axis in (-1, len(node.output.shape) - 1):
        return layers.Activation("softmax", name=name)
    if kind == "Gelu" and not operation.approximate:
        return layers.Activation("gelu", name=name)
    if kind == "LeakyRelu":
        return layers.LeakyReLU(negative_slope=operation.negative_slope, name=name)
    if kind in ("Add", "Subtract", "Multiply", "TrueDivide", "Divide", "Negative"):
        return _arithmetic_layer(node, "Divide" if kind == "TrueDivide" else kind)
    if kind == "Mean" and len(node.inputs[0].shape) == 4 and _axes(operation.axis, 4) == (1, 2):
        return layers.GlobalAveragePooling2D(keepdims=bool(operation.keepdims), name=name)
    if kind in ("Reshape", "Squeeze", "ExpandDims") and None not in node.output.shape[1:]:
        before, behind = (math.prod(side or 0 for side in v.shape[1:]) for v in (node.inputs[0], node.output))
        if before != behind:
            return None  # it takes part of the batch
        return layers.Reshape(node.output.shape[1:], name=name)
    if kind == "Concatenate" and len(node.inputs) > 1:
        return layers.Concatenate(axis=operation.axis, name=name)
    return None


def _axes(axis: Any, rank: int) -> tuple[int, ...]:
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    return tuple(sorted(a % rank for a in given)) if None not in given else ()


def _arithmetic_layer(node: Node, kind: str) -> Any:
    name = node.name
    if len(node.inputs) == 2:
        merges = {"Add": layers.Add, "Subtract": layers.Subtract, "Multiply": layers.Multiply}
        return merges[kind](name=name) if kind in merges else None
    if kind == "Negative":
        return layers.Rescaling(-1.0, name=name)
    left, right = node.args[:2] if len(node.args) > 1 else (node.args[0], *node.kwargs.values())
    first = isinstance(left, Value)
    constant = np.asarray(keras.ops.convert_to_numpy(right if first else left), np.float64)
    channels = node.inputs[0].shape[-1]
    if constant.size not in (1, channels) or (constant.size > 1 and constant.shape[-1] != channels):
        return None
    value = float(constant.ravel()[0]) if constant.size == 1 else constant.ravel()
    if kind == "Divide":
        return _rescaling(1.0 / np.asarray(value), 0.0, name) if first else None
    scale, offset = {
        "Add": (1.0, value),
        "Multiply": (value, 0.0),
        "Subtract": (1.0, -np.asarray(value)) if first else (-1.0, value),
    }[kind]
    return _rescaling(scale, offset, name)


def _rescaling(scale: Any, offset: Any, name: str, dtype: Any = None) -> Any:
    def plain(part: Any) -> Any:
        array = np.asarray(part, np.float64)
        return float(array) if array.ndim == 0 else array.tolist()

    return layers.Rescaling(plain(scale), plain(offset), name=name, dtype=dtype)


def write_fixed_convolutions(graph: Graph) -> None:
    """Bicubic upsampling and colour conversions -> the convolutions that they are, which never train."""
    for node in graph.nodes():
        if node.kind not in FIXED_CONVOLUTIONS:
            continue
        layer, value = node.layer, node.inputs[0]
        options = {"dtype": layer.dtype_policy}
        kernel = np.asarray(keras.ops.convert_to_numpy(layer.filters), np.float32)
        bicubic = node.kind == "BicubicUpsampling2D"
        if bicubic:
            value = graph.add(ReplicatePadding2D(2, name=f"{node.name}_pad", **options), value)
        name = f"{node.name}_filters" if bicubic else node.name
        conv = folding.conv2d(kernel, layer.offset.astype(np.float32), name, **options)
        conv.trainable = False
        value = graph.add(conv, value)
        if bicubic:
            value = graph.add(PixelShuffle(layer.factor, name=node.name, **options), value)
        graph.replace(node.output, value)


def write_filter_banks(graph: Graph) -> None:
    """FilterBank2D -> convolutions: with the 1x1 convolution behind it one of 2x2, otherwise a depthwise one a band."""
    for node in graph.nodes():
        if node.kind != "FilterBank2D":
            continue
        layer, value, reader = node.layer, node.inputs[0], graph.sole_consumer(node.output, graph.consumers())
        filters = np.asarray(keras.ops.convert_to_numpy(layer.filters), np.float32)
        options = {"dtype": layer.dtype_policy}
        if (
            layer.basis != "dct"
            and reader is not None
            and reader.kind == "Conv2D"
            and folding.is_pointwise(reader.layer)
        ):
            kernel = np.asarray(fold_dwt(folding.kernel_of(reader.layer), filters))
            window: dict[str, Any] = {"kernel_size": (2, 2), "strides": (2, 2)}
            conv = folding.with_weights(reader.layer, kernel, folding.bias_of(reader.layer), **window)
            graph.replace(reader.output, graph.add(conv, value))
            continue
        if layer.basis == "dct":
            value = graph.add(layers.ZeroPadding2D(1, name=f"{node.name}_pad", **options), value)
        bands = []
        for band, taps in enumerate(filters):
            kernel = np.tile(taps[:, :, None, None], (1, 1, int(value.shape[-1] or 0), 1))
            name = f"{node.name}_band{band}"
            conv = folding.conv2d(kernel, None, name, layers.DepthwiseConv2D, strides=2, **options)
            conv.trainable = layer.basis == "learned"
            bands.append(graph.add(conv, value))
        graph.replace(node.output, graph.add(layers.Concatenate(name=node.name, **options), *bands))


def split_separable(graph: Graph) -> None:
    """SeparableConv2D -> its depthwise convolution and the 1x1 convolution behind it."""
    made: dict[int, tuple[Any, Any]] = {}  # calls that share a layer go on sharing both
    for node in graph.nodes():
        if node.kind != "SeparableConv2D":
            continue
        layer = node.layer
        if id(layer) not in made:
            options = {"padding": layer.padding, "data_format": layer.data_format, "dtype": layer.dtype_policy}
            depthwise = layers.DepthwiseConv2D(
                layer.kernel_size,
                strides=layer.strides,
                dilation_rate=layer.dilation_rate,
                depth_multiplier=layer.depth_multiplier,
                use_bias=False,
                depthwise_regularizer=layer.depthwise_regularizer,
                depthwise_constraint=layer.depthwise_constraint,
                name=f"{layer.name}_depthwise",
                **options,
            )
            depthwise.build(node.inputs[0].shape)
            depthwise.kernel.assign(layer.depthwise_kernel)
            pointwise = layers.Conv2D(
                layer.filters,
                1,
                activation=layer.activation,
                use_bias=layer.use_bias,
                kernel_regularizer=layer.pointwise_regularizer,
                kernel_constraint=layer.pointwise_constraint,
                bias_regularizer=layer.bias_regularizer,
                bias_constraint=layer.bias_constraint,
                activity_regularizer=layer.activity_regularizer,
                name=layer.name,
                **{**options, "padding": "valid"},
            )
            pointwise.build((None, None, None, depthwise.kernel.shape[2] * layer.depth_multiplier))
            pointwise.kernel.assign(layer.pointwise_kernel)
            if layer.use_bias:
                pointwise.bias.assign(layer.bias)
            for part in (depthwise, pointwise):
                part.trainable = layer.trainable
            made[id(layer)] = (depthwise, pointwise)
        depthwise, pointwise = made[id(layer)]
        graph.replace(node.output, graph.add(pointwise, graph.add(depthwise, node.inputs[0])))


def split_activations(graph: Graph) -> None:
    """Give every activation fused into a weighted layer (``activation=``) a node of its own."""
    fused = [(node, node.layer.activation) for node in graph.nodes() if node.kind in WITH_ACTIVATION]
    for node, function in fused:
        if function is keras.activations.linear:
            continue
        node.layer.activation = keras.activations.linear  # in place: calls that share the layer go on sharing it
        name, dtype = f"{node.name}_activation", node.layer.dtype_policy
        if isinstance(function, keras.Layer):  # activation=layers.LeakyReLU(0.1)
            act = copy_layer(function)  # which may hold weights, as a PReLU does
            act.name = name
        else:
            act = layers.Activation(function, name=name, dtype=dtype)
        graph.replace(node.output, new := graph.add(act, node.output), keep=[new.node])


def write_rectifiers(graph: Graph) -> None:
    """``ReLU(negative_slope=a)`` -> LeakyReLU; ``ReLU(max_value=m)`` -> relu6 between two scalings, for it is one."""
    for node in graph.nodes():
        if node.kind != "ReLU" or node.layer.threshold:
            continue
        layer, name, dtype = node.layer, node.name, node.layer.dtype_policy
        if layer.negative_slope and layer.max_value is None:
            leaky = layers.LeakyReLU(negative_slope=float(layer.negative_slope), name=name, dtype=dtype)
            graph.replace(node.output, graph.add(leaky, node.inputs[0]))
        elif not layer.negative_slope and layer.max_value not in (None, 6.0) and layer.max_value > 0:
            factor = 6.0 / float(layer.max_value)
            value = graph.add(_rescaling(factor, 0.0, f"{name}_scale", dtype), node.inputs[0])
            value = graph.add(layers.Activation("relu6", name=f"{name}_relu6", dtype=dtype), value)
            graph.replace(node.output, graph.add(_rescaling(1 / factor, 0.0, name, dtype), value))


def drop_linear_activations(graph: Graph) -> None:
    """Remove ``Activation("linear")`` and ``Activation(None)``."""
    for node in graph.nodes():
        if folding.activation_name(node) == "linear":
            graph.replace(node.output, node.inputs[0])


def split_hard_sigmoid(graph: Graph) -> None:
    """hard_sigmoid(x) = relu6(x + 3) / 6: three steps that int8 kernels have, where it is no op of the file format."""
    for node in graph.nodes():
        if folding.activation_name(node) != "hard_sigmoid":
            continue
        name, dtype = node.name, node.layer.dtype_policy
        value = graph.add(_rescaling(1.0, 3.0, f"{name}_shift", dtype), node.inputs[0])
        value = graph.add(layers.Activation("relu6", name=f"{name}_relu6", dtype=dtype), value)
        graph.replace(node.output, graph.add(_rescaling(1 / 6, 0.0, name, dtype), value))


def split_merges(graph: Graph) -> None:
    """Add and Multiply of many -> a chain of two each; Average -> Add and a scaling: each stored sum has its range."""
    for node in graph.nodes():
        if node.kind not in (*MERGES, "Average"):
            continue
        values, dtype = node.inputs, node.layer.dtype_policy
        cls: Callable[..., Any] = layers.Multiply if node.kind == "Multiply" else layers.Add
        if node.kind != "Average" and len(values) == 2:
            continue
        total = values[0]
        for index, value in enumerate(values[1:], 1):
            last = index == len(values) - 1 and node.kind != "Average"
            total = graph.add(cls(name=node.name if last else f"{node.name}_{index}", dtype=dtype), total, value)
        if node.kind == "Average":
            total = graph.add(_rescaling(1 / len(values), 0.0, node.name, dtype), total)
        graph.replace(node.output, total)


def pool_globally(graph: Graph) -> None:
    """GlobalMaxPooling2D -> MaxPooling2D over the whole image, which every runtime has."""
    for node in graph.nodes():
        if node.kind != "GlobalMaxPooling2D":
            continue
        layer, shape = node.layer, node.inputs[0].shape
        pool = layers.MaxPooling2D(
            shape[1:3], data_format=layer.data_format, name=f"{node.name}_pool", dtype=layer.dtype_policy
        )
        value = graph.add(pool, node.inputs[0])
        if not layer.keepdims:
            flat = layers.Reshape((shape[-1],), name=node.name, dtype=layer.dtype_policy)
            value = graph.add(flat, value)
        graph.replace(node.output, value)


def softmax_over_last(graph: Graph) -> None:
    """Softmax layers over another axis than the last -> a transposition, softmax over the last, and back."""
    for node in graph.nodes():
        if node.kind != "Softmax" or not isinstance(node.layer.axis, int) or len(node.inputs) > 1:
            continue
        rank, axis = len(node.output.shape), node.layer.axis % len(node.output.shape)
        if axis in (0, rank - 1):
            continue
        order = list(range(rank))
        order[axis], order[-1] = order[-1], order[axis]
        value = token_forms.permuted(graph, node.inputs[0], order, f"{node.name}_to_last")
        value = graph.add(layers.Activation("softmax", name=node.name, dtype=node.layer.dtype_policy), value)
        graph.replace(node.output, token_forms.permuted(graph, value, order, f"{node.name}_back"))


def gather_affines(graph: Graph) -> None:
    """Rescaling and Normalization into the weights before them, if any; chains of them into one Rescaling."""
    for node in graph.nodes():
        affine = folding.affine_of(node) if node.kind in folding.CONSTANT_AFFINES else None
        if affine is None:
            continue
        before = node.inputs[0].node
        inner = folding.affine_of(before) if before.kind in folding.CONSTANT_AFFINES else None
        if inner is not None and graph.sole_consumer(node.inputs[0], graph.consumers()) is not None:
            affine = inner[0] * affine[0], inner[1] * affine[0] + affine[1]
            merged = _rescaling(*affine, node.name, node.layer.dtype_policy)
            graph.replace(node.output, graph.add(merged, before.inputs[0]))
    folding.fold_affine(graph, (*folding.CONSTANT_AFFINES, *folding.TRAINED_AFFINES), unshare=False)
