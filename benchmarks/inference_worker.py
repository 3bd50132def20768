"""One contender of inference.py: runs one network on one image again and again. Started by it, see side_by_side.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nets import NETS, import_official, keep_official_dwt_in_float32, official_classifier
from side_by_side import cpu_seconds, serve, times_ms

WARM_UPS = 10


def official(arguments: dict[str, Any]) -> Callable[[], Any]:
    """The official package, PyTorch eager."""
    import torch

    import_official()
    torch.set_num_threads(arguments["threads"])
    if arguments["bfloat16"]:
        keep_official_dwt_in_float32()
    config = NETS[arguments["net"]].config
    layout = torch.channels_last if arguments["channels_last"] else torch.contiguous_format
    height, width, channels = config["image_shape"]
    image = torch.rand(1, channels, height, width).to(memory_format=layout)
    model = official_classifier(config).eval().to(memory_format=layout)

    def run() -> Any:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments["bfloat16"]):
            return model(image)

    return run


def onnx(arguments: dict[str, Any]) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = arguments["threads"]
    session = onnxruntime.InferenceSession(arguments["file"], options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    feed = {entry.name: np.random.default_rng(0).random(entry.shape, dtype="float32")}
    return lambda: session.run(None, feed)


def tflite(arguments: dict[str, Any]) -> Callable[[], Any]:
    """LiteRT with its default kernels (XNNPACK), one and the same interpreter for the peers' files and for ours."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(arguments["file"], num_threads=arguments["threads"])
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    image = np.random.default_rng(0).random(entry["shape"], dtype="float32")
    if entry["dtype"] != np.float32:
        limits = np.iinfo(entry["dtype"])
        image = (limits.min + image * (limits.max - limits.min)).astype(entry["dtype"])
    interpreter.set_tensor(entry["index"], image)
    return interpreter.invoke


RUNTIMES = {"official": official, "onnx": onnx, "tflite": tflite}


def set_up(arguments: dict[str, Any]) -> Any:
    run = RUNTIMES[arguments["runtime"]](arguments)
    for _ in range(WARM_UPS):
        run()

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        start = cpu_seconds()
        found = times_ms(run, request["seconds"])
        return {"times_ms": found, "cpu_ms": (cpu_seconds() - start) * 1e3 / len(found)}

    return answer


if __name__ == "__main__":
    serve(set_up)
