"""TensorFlow's converter: convert a graph from ``deploy``, or a traced function, to a ``.tflite`` file."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from ..errors import ExportError
from ..file.flatbuffer import add_signature, read_integers
from ..file.layer_names import layer_of
from ..graph.graph import structures
from ..graph.inputs import output_names
from ..names import BITS

SIGNATURE = "serving_default"  # key of the only signature of a file


def convert(deployed: Any, dtype: str, io_dtype: str, calibration: list[np.ndarray] | None = None) -> bytes:
    """Run TensorFlow's converter on a graph from ``deploy``; batch 1, built-in ops only.

    The traced function is converted, not a SavedModel, because writing and reading one takes most of the time.

    Args:
        deployed: From ``deploy``, with fake-quant nodes if ``dtype`` is "int8".
        dtype: "float32", "float16", "int8" or "int16x8".
        io_dtype: dtype of input and output.
        calibration: Images on which an int16x8 file's ranges are measured, one array per input.

    Raises:
        ExportError: the converter refused; its first line is quoted.
    """
    import tensorflow as tf

    labels = [tensor.name for tensor in deployed.inputs]
    signature = [
        tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype, name=label)  # a dynamic batch adds SHAPE and PACK ops
        for tensor, label in zip(deployed.inputs, labels, strict=True)
    ]

    def serve(*tensors: Any) -> Any:
        inputs = keras.tree.pack_sequence_as(structures(deployed)[0], list(tensors))
        return keras.tree.flatten(deployed(inputs, training=False))

    # With an output of indices, TensorFlow cannot make the other outputs integers; `read_integers` does.
    mixed = io_dtype != "float32" and len({"float" in value.dtype for value in deployed.outputs}) > 1
    if mixed and io_dtype == "uint8":
        raise ValueError(
            "A model with outputs of indices and other outputs has int8 or float32 inputs and outputs. "
            f"Received: io_dtype={io_dtype!r}"
        )
    measures = dtype == "int16x8" and calibration is not None
    content = run_converter(
        # Without an object that tracks the variables, the converter makes them constants.
        tf.function(serve, input_signature=signature, autograph=False).get_concrete_function(),
        dtype,
        io_dtype,
        output_dtype="float32" if mixed else io_dtype,
        samples=functools.partial(_single_images, calibration) if measures else None,
        layers=[layer.name for layer in deployed.layers],
    )
    single = len(deployed.inputs) == len(deployed.outputs) == 1
    content = add_signature(content, SIGNATURE, labels, ["output_0"] if single else output_names(deployed))
    if dtype == "int8" and any("float" not in value.dtype for value in deployed.outputs):
        content = read_integers(content, outputs=mixed)
    return content


def _single_images(arrays: Any) -> Iterable[list[np.ndarray]]:
    return ([part[None] for part in row] for row in zip(*arrays, strict=True))


def run_converter(
    function: Any,
    dtype: str,
    io_dtype: str,
    *,
    output_dtype: str | None = None,
    owner: Any = None,
    samples: Callable[[], Iterable[Sequence[np.ndarray]]] | None = None,
    layers: Sequence[str] = (),
) -> bytes:
    """The only call of TensorFlow's converter; built-in ops only.

    Args:
        function: A concrete function of TensorFlow.
        dtype: "float32", "float16", "int8" or "int16x8".
        io_dtype: dtype of inputs and outputs of an integer file.
        output_dtype: dtype of the outputs if it differs.
        owner: Object that owns the function's variables; None: they become constants.
        samples: Returns the rows of inputs that ranges are measured on, each with one array with a batch axis per
            input; None: the ranges are those of the graph's fake-quant nodes.
        layers: Names of the model's layers, for messages.

    Raises:
        ExportError: the converter refused; its first line is quoted.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner)
    ops = tf.lite.OpsSet.TFLITE_BUILTINS
    if samples is not None:
        converter.representative_dataset = samples
        ops = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        if dtype == "int16x8":
            ops = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    converter.target_spec.supported_ops = [ops]
    if dtype != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if dtype == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if dtype in BITS:
        converter.inference_input_type = tf.dtypes.as_dtype(io_dtype)
        converter.inference_output_type = tf.dtypes.as_dtype(output_dtype or io_dtype)
    try:
        with warnings.catch_warnings():
            # Fake-quant nodes have the statistics that the warning is about.
            warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected", UserWarning)
            return converter.convert()
    except Exception as error:
        raise converter_error(error, function, layers) from error


def converter_error(error: Exception, function: Any, layers: Sequence[str] = ()) -> ExportError:
    """The error to raise for a failure of TensorFlow's converter: with the missing ops, or with its first line.

    Args:
        error: The converter's error.
        function: The concrete function that was converted.
        layers: Names of the model's layers.
    """
    missing = re.search(r"(?:TF Select|Custom) ops: (.+)", str(error))
    if missing is not None:
        lacking = {name.strip() for name in missing[1].split(",")}
        paths = [op.name for op in function.graph.get_operations() if op.type in lacking]
        names = set(layers)
        near = dict.fromkeys(name for path in paths for name in [layer_of(path, names)] if name)
        where = f" (layer {', '.join(map(repr, near))})" if near else ""
        return ExportError(
            f"TensorFlow Lite has no op for {missing[1].strip()}{where}: write that part of the model with other "
            "layers, or run it in the program that runs the file."
        )
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ExportError(f"TensorFlow's converter refused the model: {first}")
