"""Write the files that inference.py times: the official networks for other runtimes, and ours.

    python benchmarks/inference_models.py FOLDER KIND[,KIND...] NET...

KIND is `reference` (weights, an image and its logits, from which the others are made and with which they are checked);
`onnx` (ONNX Runtime, float32), `litert_float32` (litert-torch) and `litert_int8` (that file quantized by
ai-edge-quantizer: int8 weights and activations), all three of the official network; `ours_float32` and `ours_int8`; or
`peak`, without a network: one large 1x1 convolution in float32 and int8, the peak for the others. Existing files of
peers are kept; ours are written again, because our code may have changed. One JSON line is printed per file: its path,
or why it is missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from nets import NETS, PEAK_CHANNELS, PEAK_SIDE, import_official, reference
from side_by_side import write_atomically

CALIBRATION_IMAGES = 16


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` that replaces it if the block succeeds."""
    temporary = path.with_name(f"part-{path.name}")  # with the same suffix, which exporters check
    temporary.unlink(missing_ok=True)
    yield temporary
    temporary.replace(path)


def official_for_export(net: str) -> tuple[Any, Any]:
    """(module in inference mode, example input). Exporters cannot trace its autograd function, only its forward."""
    import torch

    import_official()
    import wavemix

    class NoContext:
        def save_for_backward(self, *tensors: Any) -> None:
            pass

    forward = wavemix.AFB2D.forward
    wavemix.AFB2D.apply = staticmethod(lambda *inputs: forward(NoContext(), *inputs))
    model, image, _ = reference(net)
    return model, torch.from_numpy(image.transpose(0, 3, 1, 2).copy())


def save_reference(net: str, path: Path) -> None:
    model, image, logits = reference(net)
    state = {f"state/{key}": tensor.numpy() for key, tensor in model.state_dict().items()}
    with replacing(path) as temporary:
        np.savez(temporary, image=image, logits=logits, **state)


def onnx(net: str, path: Path) -> None:
    import onnxruntime  # noqa: F401  (fails early if it is missing)
    import torch

    model, example = official_for_export(net)
    with torch.no_grad(), replacing(path) as temporary:
        torch.onnx.export(model, (example,), temporary, input_names=["image"], dynamo=False)


def litert_float32(net: str, path: Path) -> None:
    import litert_torch
    import torch

    model, example = official_for_export(net)
    channels_last = litert_torch.to_channel_last_io(model, args=[0])
    with torch.no_grad():
        converted = litert_torch.convert(channels_last.eval(), (example.permute(0, 2, 3, 1).contiguous(),))
    with replacing(path) as temporary:
        converted.export(str(temporary))


def litert_int8(net: str, path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    source = path.with_name(f"{net}-litert-float32.tflite")
    if not source.is_file():
        raise RuntimeError("the float32 file, which it requires, is missing")
    runner = Interpreter(str(source)).get_signature_runner()
    (name,) = runner.get_input_details()
    shape = runner.get_input_details()[name]["shape"]
    random = np.random.default_rng(0)
    images = [{name: random.random(shape, dtype="float32")} for _ in range(CALIBRATION_IMAGES)]
    quantize = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
    ranges = quantize.calibrate({"serving_default": images})
    with replacing(path) as temporary:
        quantize.quantize(ranges).export_model(str(temporary))
        temporary.write_bytes(with_bias_axes(temporary.read_bytes()))


def with_bias_axes(content: bytes) -> bytes:
    """The file with the biases of its transposed convolutions shaped (C, 1, 1, 1).

    litert-torch shapes them (1, 1, 1, C), and ai-edge-quantizer 0.10 declares that their C steps lie along axis 0:
    LiteRT refuses such a file. The rest of the file is correct.
    """
    from ai_edge_litert import schema_py_generated as schema

    changed = bytearray(content)  # in place: large files store their weights after the flatbuffer
    graph = schema.Model.GetRootAsModel(changed, 0).Subgraphs(0)
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        quantization, shape = tensor.Quantization(), tensor.ShapeAsNumpy()
        count = 0 if quantization is None else quantization.ScaleLength()
        if count > 1 and shape[quantization.QuantizedDimension()] != count and list(shape) == [1, 1, 1, count]:
            shape[:] = [count, 1, 1, 1]
    return bytes(changed)


def ours(net: str, path: Path, dtype: str) -> None:
    import wavemix_tf as wm

    stored = np.load(path.with_name(f"{net}-reference.npz"))
    model = wm.WaveMixClassifier(**NETS[net].config)
    state = {key.removeprefix("state/"): stored[key] for key in stored.files if key.startswith("state/")}
    wm.load_torch_weights(model, state)
    images = np.random.default_rng(0).random((64, *NETS[net].config["image_shape"]), dtype="float32")
    # The file is only timed: the outputs for noise images are nearly equal.
    bounds = {"min_snr_db": -100, "min_agreement": 0, "allow_unjudged": True}
    artifact = wm.tflite.export(model, target="android-cpu", dtype=dtype, calibration=images, **bounds)
    write_atomically(path, artifact.content)


def peak(dtype: str, path: Path) -> None:
    """One large 1x1 convolution: only the runtime's matrix multiplication."""
    import tensorflow as tf

    from wavemix_tf.tflite.runtimes.converter import run_converter

    random = np.random.default_rng(0)
    shape = (1, PEAK_SIDE, PEAK_SIDE, PEAK_CHANNELS)
    kernel = tf.constant(random.standard_normal((1, 1, PEAK_CHANNELS, PEAK_CHANNELS)), "float32")
    convolve = tf.function(lambda x: tf.nn.conv2d(x, kernel, 1, "VALID"), input_signature=[tf.TensorSpec(shape)])
    samples = [[random.random(shape, dtype="float32")] for _ in range(2)] if dtype == "int8" else None
    content = run_converter(convolve.get_concrete_function(), dtype, dtype, samples=samples and (lambda: samples))
    write_atomically(path, content)


MAKERS: dict[str, tuple[str, Callable[[str, Path], None]]] = {
    "reference": ("{net}-reference.npz", save_reference),
    "onnx": ("{net}.onnx", onnx),
    "litert_float32": ("{net}-litert-float32.tflite", litert_float32),
    "litert_int8": ("{net}-litert-int8.tflite", litert_int8),
    "ours_float32": ("{net}-ours-float32.tflite", lambda net, path: ours(net, path, "float32")),
    "ours_int8": ("{net}-ours-int8.tflite", lambda net, path: ours(net, path, "int8")),
    "peak": ("peak-{net}.tflite", peak),  # here `net` is the dtype
}


def main() -> None:
    folder, kinds = Path(sys.argv[1]), sys.argv[2].split(",")
    for net in sys.argv[3:]:
        for kind in kinds:
            name, make = MAKERS[kind]
            path = folder / name.format(net=net)
            report: dict[str, Any] = {"net": net, "kind": kind, "file": str(path)}
            if kind.startswith("ours") or not path.is_file():
                try:
                    make(net, path)
                except Exception as error:  # a failure must not end the others
                    message = str(error).strip().splitlines()
                    report["failed"] = f"{type(error).__name__}: {message[0] if message else ''}"
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
