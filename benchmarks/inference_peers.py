"""Exports the official networks for other runtimes, into one folder; inference.py runs it under --peer-python.

    python benchmarks/inference_peers.py FOLDER lite_32_7 ...

Writes `<net>.onnx` (ONNX Runtime, float32), `<net>-float32.tflite` (litert-torch) and `<net>-int8.tflite` (the latter
quantised by ai-edge-quantizer: int8 weights and activations), and prints one JSON line for each: the file, or why there
is none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from nets import NETS, import_official, official_classifier

CALIBRATION_IMAGES = 16


def official_for_export(net: str) -> tuple[Any, Any]:
    """(module in inference mode, example input). Exporters do not follow its autograd function: only its forward."""
    import torch

    import_official()
    import wavemix

    class NoContext:
        def save_for_backward(self, *tensors: Any) -> None:
            pass

    forward = wavemix.AFB2D.forward
    wavemix.AFB2D.apply = staticmethod(lambda *inputs: forward(NoContext(), *inputs))
    torch.manual_seed(0)
    height, width, channels = NETS[net].config["image_shape"]
    return official_classifier(NETS[net].config).eval(), torch.rand(1, channels, height, width)


def onnx(net: str, folder: Path) -> Path:
    import onnxruntime  # noqa: F401  (says early that it is missing)
    import torch

    model, example = official_for_export(net)
    path = folder / f"{net}.onnx"
    with torch.no_grad():
        torch.onnx.export(model, (example,), path, input_names=["image"], dynamo=False)
    return path


def litert_float32(net: str, folder: Path) -> Path:
    import litert_torch
    import torch

    model, example = official_for_export(net)
    channels_last = litert_torch.to_channel_last_io(model, args=[0])
    with torch.no_grad():
        converted = litert_torch.convert(channels_last.eval(), (example.permute(0, 2, 3, 1).contiguous(),))
    path = folder / f"{net}-float32.tflite"
    converted.export(str(path))
    return path


def litert_int8(net: str, folder: Path) -> Path:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    source = folder / f"{net}-float32.tflite"
    if not source.is_file():
        raise RuntimeError("needs the float32 file, which was not made")
    runner = Interpreter(str(source)).get_signature_runner()
    (name,) = runner.get_input_details()
    shape = runner.get_input_details()[name]["shape"]
    random = np.random.default_rng(0)
    images = [{name: random.random(shape, dtype="float32")} for _ in range(CALIBRATION_IMAGES)]
    quantize = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
    ranges = quantize.calibrate({"serving_default": images})
    path = folder / f"{net}-int8.tflite"
    path.unlink(missing_ok=True)
    quantize.quantize(ranges).export_model(str(path))
    return path


MAKERS: dict[str, Callable[[str, Path], Path]] = {
    "onnx": onnx,
    "litert_float32": litert_float32,
    "litert_int8": litert_int8,
}


def main() -> None:
    folder = Path(sys.argv[1])
    for net in sys.argv[2:]:
        for kind, make in MAKERS.items():
            report: dict[str, Any] = {"net": net, "kind": kind}
            try:
                report["file"] = make(net, folder).name
            except Exception as error:  # one peer that fails must not take the others with it
                message = str(error).strip().splitlines()
                report["failed"] = f"{type(error).__name__}: {message[0] if message else ''}"
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
