"""Translation of a Keras 3 graph to a tf_keras functional model, without and with tfmot's quantizers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from ...graph.activation_names import activation_name
from ...graph.graph import Graph, Node, Value
from ...graph.weights import bias_of, kernel_of
from ...layers.fake_quant import QUANT_LAYERS, round_weights
from .toolkit import layer_variables, toolkit

# Options of each kind of layer that go to the tf_keras layer of the same name. Activations go by their function, below.
TRANSLATED: dict[str, tuple[str, ...]] = {
    "Conv2D": ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "use_bias"),
    "DepthwiseConv2D": ("kernel_size", "strides", "padding", "depth_multiplier", "dilation_rate", "use_bias"),
    "Conv2DTranspose": (
        "filters",
        "kernel_size",
        "strides",
        "padding",
        "output_padding",
        "dilation_rate",
        "use_bias",
    ),
    "Dense": ("units", "use_bias"),
    "Add": (),
    "Multiply": (),
    "Concatenate": ("axis",),
    "UpSampling2D": ("size", "interpolation"),
    "PixelShuffle": ("factor",),
    "ZeroPadding2D": ("padding",),
    "Cropping2D": ("cropping",),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "AveragePooling2D": ("pool_size", "strides", "padding"),
    "GlobalAveragePooling2D": ("keepdims",),
    "Reshape": ("target_shape",),
    "Flatten": (),
    "Dropout": ("rate",),
    "SpatialDropout2D": ("rate",),
    "GaussianDropout": ("rate",),
    "GaussianNoise": ("stddev",),
    "AlphaDropout": ("rate",),
}
ACTIVATIONS = ("gelu", "hard_silu", "relu", "relu6", "sigmoid", "softmax", "tanh")
DEPTHWISE = "DepthwiseConv2D"


@dataclass(frozen=True)
class Range:
    """Range in which a layer's output is rounded.

    Args:
        low: Minimum.
        high: Maximum.
        fixed: The runtime prescribes it; otherwise a moving average starts from it.
        source: Layer that owns the range: the layer of an average's input. None: the layer itself.
    """

    low: float
    high: float
    fixed: bool
    source: str | None = None


class Translation:
    """Translate a Keras 3 graph to a tf_keras functional model, and to one with tfmot's wrappers."""

    def __init__(self, graph: Graph, ranges: dict[str, Range], frozen: frozenset[str]) -> None:
        self.graph, self.ranges, self.frozen = graph, ranges, frozen
        self.kit = toolkit()
        self.wrappers: dict[Node, Any] = {}

    def quantized(self) -> Any:
        kit = self.kit
        with kit.quantization.quantize_scope(kit.scope):
            annotated = self._model()
            for node, wrapper in self.wrappers.items():
                if node.kind in QUANT_LAYERS:
                    wrapper.set_weights(self._weights(node))
            twin = kit.quantization.quantize_apply(annotated, scheme=kit.Scheme())
        for name, found in self.ranges.items():
            if found.source is not None:
                ends = layer_variables(twin, found.source)
                shared = twin.get_layer(f"quant_{name}").quantize_config.shared
                shared.ends = ends.get("output_min", found.low), ends.get("output_max", found.high)
        return twin

    def _model(self) -> Any:
        kit = self.kit
        tensors: dict[Value, Any] = {}
        for node in self.graph.nodes():
            if node.layer is None:
                # A separate layer carries the input's range: tfmot's own would be measured, not that of the pixels.
                first = kit.keras.Input(node.output.shape[1:], name=f"{node.name}_images")
                layer = kit.keras.layers.Activation("linear", name=node.name)
                tensors[node.output] = self._annotate(layer, node)(first)
                continue
            sources = keras.tree.map_structure(
                lambda leaf: tensors[leaf] if isinstance(leaf, Value) else leaf, node.args
            )
            tensors[node.output] = self._annotate(self._layer(node), node)(*sources)
        return kit.keras.Model(first, tensors[self.graph.outputs[0]])

    def _annotate(self, layer: Any, node: Node) -> Any:
        # A channel's single weight is exactly 127 steps, which the converter finds; tfmot would use one step for all.
        exact = node.kind == DEPTHWISE and node.layer.kernel.shape[:2] == (1, 1) and node.layer.depth_multiplier == 1
        rounds_weights = node.kind in QUANT_LAYERS and node.name not in self.frozen and not exact
        found = self.ranges.get(node.name)
        config = self.kit.Placement(rounds_weights, None if found is None else asdict(found))
        self.wrappers[node] = self.kit.quantization.quantize_annotate_layer(layer, config)
        return self.wrappers[node]

    def _layer(self, node: Node) -> Any:
        kit = self.kit
        function = activation_name(node)
        if function == "hard_silu":
            return kit.HardSilu(name=node.name)
        if function in ("relu", "relu6"):
            return kit.keras.layers.ReLU(max_value=6.0 if function == "relu6" else None, name=node.name)
        if function is not None:
            return kit.keras.layers.Activation(function, name=node.name)
        if node.name in self.frozen:
            cls = kit.scope[f"Frozen{node.kind}"]
        else:
            cls = kit.PixelShuffle if node.kind == "PixelShuffle" else getattr(kit.keras.layers, node.kind)
        config = node.layer.get_config()
        return cls(**{key: config[key] for key in TRANSLATED[node.kind]}, name=node.name)

    def _weights(self, node: Node) -> list[np.ndarray]:
        kernel, bias = kernel_of(node.layer), bias_of(node.layer)
        if node.name in self.frozen:  # no quantizer: the converter takes the grid from the values
            axes = QUANT_LAYERS[node.kind].kernel_axes
            kernel = np.asarray(keras.ops.convert_to_numpy(round_weights(kernel, axes)), np.float32)
        return [kernel] if bias is None else [kernel, bias]
