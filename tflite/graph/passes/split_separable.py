"""SeparableConv2D -> DepthwiseConv2D, then a 1x1 Conv2D."""

from __future__ import annotations

from typing import Any

from keras import layers

from ...layers.copying import own_value
from ..graph import Graph


def split_separable(graph: Graph) -> None:
    """SeparableConv2D -> its depthwise convolution and the 1x1 convolution after it."""
    made: dict[int, tuple[Any, Any]] = {}  # calls that share a layer keep sharing both
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
            depthwise.kernel.assign(own_value(layer.depthwise_kernel))
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
            pointwise.kernel.assign(own_value(layer.pointwise_kernel))
            if layer.use_bias:
                pointwise.bias.assign(own_value(layer.bias))
            for part in (depthwise, pointwise):
                part.trainable = layer.trainable
            made[id(layer)] = (depthwise, pointwise)
        depthwise, pointwise = made[id(layer)]
        graph.replace(node.output, graph.add(pointwise, graph.add(depthwise, node.inputs[0])))
