"""The int8 file that an untrained network will become, in a fraction of the time that ``export`` takes.

What a device pays for a file, its arena, size, cycles and latency, hangs on its ops and shapes and hardly on the values
of its weights. So nothing is calibrated and nothing is verified here: weights and ranges are drawn, the graph goes
through the passes of ``quantize`` and ``deploy`` once, and is converted without a detour over the disk. Drawn weights
rather than those of a fresh network, because the converter keeps one copy of equal constants: a fresh network, whose
biases are all zero, becomes a smaller file than the same network will be once it is trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..exporting.exporter import convert, converter_error
from ..exporting.forms import measure_arenas, runnable
from ..file.flatbuffer import FileInfo, add_signature
from ..file.metadata import add_metadata
from ..graph.activations import activation_name
from ..graph.graph import Graph
from ..graph.inputs import value_ranges
from ..graph.lowering import DEPLOYED
from ..graph.pipeline import finishing_passes, lowering_passes, quantizing_passes
from ..graph.pipeline import run as run_passes
from ..quantization.ranges import connect_steps
from ..runtimes.ethos import check_all_on_npu, compile_file
from ..runtimes.processes import Runner
from ..targets.firmware import COST_KERNELS, firmware_bytes
from ..targets.table import Target, get_target


def measure(
    model: Any, target: str, accelerator: str | None = None, run: Runner | None = None
) -> tuple[dict[str, float], bytes]:
    """What a candidate costs on a target, but for what takes a quiet machine.

    Args:
        model: Functional Keras model, float; its weights are not looked at.
        target: Key of ``TARGETS``.
        accelerator: As for ``export``.
        run: Of the target's tool, see ``processes``; None: started anew each time.

    Returns:
        (costs by name, the file that costs them).

    Raises:
        ExportError: as of ``write_files``; or the device's tool refused the file.
    """
    row = get_target(target)
    files = write_files(model, target, row)
    if row.npu is not None:
        _, content, _ = next(files)
        npu = compile_file(content, row.npu, accelerator, run)
        check_all_on_npu(npu, target)
        sizes = {"npu_cycles": npu.cycles, "sram_bytes": npu.sram_bytes, "flash_bytes": npu.flash_bytes}
    elif "tflite-micro" in row.runtimes:
        tried = []
        for _, content, info in files:
            inputs = [np.zeros(tensor.shape, tensor.dtype) for tensor in info.inputs]
            tried.append((max(measure_arenas(content, info, inputs, run).values()), len(content), content))
        arena, size, content = min(tried)  # as ``export`` chooses
        sizes = {"arena_bytes": arena, "flash_bytes": size}
        sizes |= {name: firmware_bytes(size, kernels)[1] for name, kernels in COST_KERNELS.items()}
    else:
        _, content, _ = next(files)
        sizes = {"file_bytes": len(content)}
    return {name: float(value) for name, value in sizes.items()}, content


def write_files(model: Any, target: str, row: Target) -> Iterator[tuple[str, bytes, FileInfo]]:
    """The candidate's int8 file in each form of transposed convolutions that ``export`` would try.

    Args:
        model: Functional Keras model, float; its weights are not looked at.
        target: Key of ``TARGETS``.
        row: Its row.

    Yields:
        (upsample form, the ``.tflite`` file, the same read, with the names that may have left the file).

    Raises:
        ExportError: the model has no int8 form, the converter refused it, or the target does not run one of its ops.
    """
    graph = Graph.from_model(model, dtype="float32")
    rng = np.random.default_rng(0)
    for node in graph.nodes():
        if node.layer is not None:
            _draw_weights(node.layer, rng)
    ranges = value_ranges((0.0, 1.0), graph.inputs)
    run_passes(graph, quantizing_passes(ranges, None, substitutes=row.substitutes))
    _draw_ranges(graph, rng)
    connect_steps(graph)
    transposed = any(node.kind.endswith("Conv2DTranspose") for node in graph.nodes())
    run_passes(graph, lowering_passes(row.substitutes))

    def write(form: str) -> bytes:
        written = graph.copy()
        run_passes(written, finishing_passes(form, row.max_stride, row.dense_as_convolution))
        content = _convert(written.to_model(DEPLOYED), row.io_dtypes["int8"])
        return add_metadata(content, value_ranges((0.0, 1.0), graph.inputs))

    forms = row.upsample_forms if transposed else row.upsample_forms[:1]
    yield from runnable(write, forms, row, target, "int8", False)


def _draw_weights(layer: Any, rng: np.random.Generator) -> None:
    """Weights about as large as trained ones, no two alike; fixed filters stay."""
    for weight in getattr(layer, "weights", []):
        name, shape = weight.name.rsplit("/", 1)[-1], tuple(weight.shape)
        if name == "moving_variance":
            weight.assign(rng.uniform(0.5, 2.0, shape))
        elif name == "gamma":
            weight.assign(rng.uniform(0.3, 1.0, shape))
        elif name in ("moving_mean", "beta", "bias"):
            weight.assign(rng.normal(0, 0.3, shape))
        elif weight.trainable:
            weight.assign(rng.normal(0, 1.4 / np.sqrt(max(1, np.prod(shape[:-1]))), shape))


def _draw_ranges(graph: Graph, rng: np.random.Generator) -> None:
    """A range of its own for every quantizer: the converter drops ops between tensors of one scale."""
    drawn, consumers = set(), graph.consumers()
    for node in graph.nodes():
        if node.kind != "FakeQuant" or node.layer.fixed or id(node.layer) in drawn:
            continue
        drawn.add(id(node.layer))
        low, high = -rng.uniform(1.0, 3.0), rng.uniform(1.0, 3.0)
        positive = activation_name(node.inputs[0].node) in ("relu", "relu6")
        positive |= any(reader.kind == "Rsqrt" for reader in consumers.get(node.output, []))
        node.layer.set_range(0.0 if positive else low, high)


def _convert(deployed: Any, io_dtype: str) -> bytes:
    """As ``convert``, without writing a SavedModel and reading it again: five to ten times as fast.

    The same file but for the order of its bytes and the names of some inner tensors: the signature that a SavedModel
    has, and the name of its input, are put back.
    """
    if len(deployed.inputs) != 1 or len(deployed.outputs) != 1:
        return convert(deployed, "int8", io_dtype)  # their order is known to the signature alone
    import tensorflow as tf

    label = deployed.inputs[0].name
    # A dynamic batch drags SHAPE and PACK ops in.
    signature = [tf.TensorSpec((1, *deployed.inputs[0].shape[1:]), tf.float32, name=label)]
    traced = tf.function(lambda image: deployed(image, training=False), input_signature=signature)
    # Without a trackable object the converter freezes the function itself.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(io_dtype)
    try:
        with warnings.catch_warnings():
            # Fake-quant nodes have the statistics that it misses.
            warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected", UserWarning)
            content = converter.convert()
    except Exception as error:
        raise converter_error(error) from error
    return add_signature(content, "serving_default", [label], ["output_0"])
