"""One contender of inference.py, which starts this script: runs one network on one image, see side_by_side.py.

Each runtime's function returns (run, read): ``run`` is timed, ``read`` returns the logits of the reference image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nets import NETS, import_official, keep_official_dwt_in_float32, official_classifier
from side_by_side import cpu_seconds, serve, times_ms

WARM_UPS = 10


def official(arguments: dict[str, Any], image: np.ndarray) -> tuple[Callable[[], Any], Callable[[], np.ndarray]]:
    """The official package, PyTorch eager."""
    import torch

    import_official()
    torch.set_num_threads(arguments["threads"])
    if arguments["bfloat16"]:
        keep_official_dwt_in_float32()
    layout = torch.channels_last if arguments["channels_last"] else torch.contiguous_format
    tensor = torch.from_numpy(image.transpose(0, 3, 1, 2).copy()).to(memory_format=layout)
    stored = np.load(arguments["reference"])
    state = {key.removeprefix("state/"): torch.from_numpy(stored[key]) for key in stored.files if "state/" in key}
    model = official_classifier(NETS[arguments["net"]].config)
    model.load_state_dict(state)
    model = model.eval().to(memory_format=layout)

    def run() -> Any:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments["bfloat16"]):
            return model(tensor)

    return run, lambda: run().float().numpy()


def onnx(arguments: dict[str, Any], image: np.ndarray) -> tuple[Callable[[], Any], Callable[[], np.ndarray]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = arguments["threads"]
    session = onnxruntime.InferenceSession(arguments["file"], options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    feed = {entry.name: image.transpose(0, 3, 1, 2).copy()}
    return lambda: session.run(None, feed), lambda: session.run(None, feed)[0]


def tflite(arguments: dict[str, Any], image: np.ndarray | None) -> tuple[Callable[[], Any], Callable[[], np.ndarray]]:
    """LiteRT with its default kernels (XNNPACK), the same interpreter for the peers' files and ours."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(arguments["file"], num_threads=arguments["threads"])
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    (result,) = interpreter.get_output_details()
    if image is None:  # for the file that measures the peak
        image = np.random.default_rng(0).random(entry["shape"], dtype="float32")
    if entry["dtype"] != np.float32:
        scale, zero_point = entry["quantization"]
        limits = np.iinfo(entry["dtype"])
        image = np.clip(np.round(image / scale) + zero_point, limits.min, limits.max).astype(entry["dtype"])
    interpreter.set_tensor(entry["index"], image)

    def read() -> np.ndarray:
        logits = interpreter.get_tensor(result["index"])
        scale, zero_point = result["quantization"]
        return (logits.astype(np.float32) - zero_point) * scale if scale else logits

    return interpreter.invoke, read


RUNTIMES = {"official": official, "onnx": onnx, "tflite": tflite}


def set_up(arguments: dict[str, Any]) -> Any:
    stored = np.load(arguments["reference"]) if "reference" in arguments else None
    image = None if stored is None else stored["image"]
    run, read = RUNTIMES[arguments["runtime"]](arguments, image)
    for _ in range(WARM_UPS):
        run()
    # A share of the spread of the logits: a fast contender must also be correct.
    difference = None if stored is None else float(np.abs(read() - stored["logits"]).max() / np.ptp(stored["logits"]))

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        start = cpu_seconds()
        found = times_ms(run, request["seconds"])
        cpu_ms = (cpu_seconds() - start) * 1e3 / len(found)
        return {"times_ms": found, "cpu_ms": cpu_ms, "difference": difference}

    return answer


if __name__ == "__main__":
    serve(set_up)
