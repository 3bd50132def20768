"""The target matrix with every cell measured: four networks as files for all targets of `wm.tflite.TARGETS`.

    python benchmarks/targets.py --out runs/benchmarks
    python benchmarks/targets.py --variants --depth 2       # which ops of a published network run on the CPU?

Each network is quantized once per form of its activation (GELU, and quick GELU for targets without GELU). Every file
comes from `wm.tflite.export`, which audits it, runs it and, for an Ethos-U, compiles it with Vela. A refused cell shows
the first clause of the error. The figures:

- cycles, inferences/s, SRAM and flash of an Ethos-U are Vela's estimates; no NPU was run;
- the arena is that of TensorFlow Lite Micro's interpreter, for both forms of the upsampling;
- the latency is that of this machine for every target: LiteRT with XNNPACK, one thread, p50. It compares files, and
  does not predict the latency on a phone or a microcontroller;
- agreement and mean error compare the file with its (fake-quant) Keras model. **The weights are random**, chosen so
  that the logits differ from image to image: this is agreement of file and model, not accuracy. Cycles and flash of an
  NPU depend on how well the weights compress: those of trained weights differ slightly.

Images are generated; `--data-dir` uses CIFAR-10's test images from TFDS instead, resized. Every finished cell is kept
in OUT/targets.json and the same command resumes; it ends with OUT/targets.md and OUT/targets.png.

`--variants` compiles every WaveMix of `wm.VARIANTS` at its published image size for the three Ethos-U and counts the
ops that run on the CPU, into OUT/targets_variants.{json,md}; `--depth 2` reduces the depth, because blocks repeat.
These files are audited and compiled, not run. Needs `pip install "wavemix-tf[ethos]"`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from nets import TARGET_NETS, spread_weights
from side_by_side import machine, times_ms, warn_if_busy, write_atomically
from target_tables import CELLS, draw, first_clause, summary, table
from target_variants import variants, variants_table

CALIBRATION_IMAGES = 64
LATENCY_S = 3.0
WARMUP = 5


def make_images(shape: tuple[int, int, int], count: int, seed: int, data_dir: str | None) -> np.ndarray:
    """float32 (count, H, W, C) in [0, 1]: generated, or from CIFAR-10, resized; another seed gives other images."""
    if data_dir is None:
        from wavemix_tf.tflite.graph.inputs import generated_images

        return generated_images(shape, count, seed)
    import keras
    from quantization import load

    images, _ = load("cifar10", "test", data_dir)
    chosen = images[seed * len(images) // 2 :][:count]
    if shape[2] == 1:
        chosen = chosen.mean(-1, keepdims=True)
    resized = keras.ops.image.resize(chosen, shape[:2], data_format="channels_last")
    return np.clip(np.asarray(resized, np.float32), 0, 1)


def build(name: str, calibration: Any) -> Any:
    """A network of TARGET_NETS with random weights; ``calibration``: shape -> images."""
    import keras

    import wavemix_tf as wm

    arguments = dict(TARGET_NETS[name][1])
    variant = arguments.pop("variant", None)
    keras.utils.set_random_seed(0)
    if variant is None:
        model = wm.WaveMixClassifier(**arguments, dropout=0.0, name=f"wavemix_{name}")
    else:
        model = wm.build_model(variant, **arguments, dropout=0.0)
    spread_weights(model, calibration(model.input_shape[1:]))
    return model


def latency_ms(artifact: Any, image: np.ndarray) -> dict[str, float]:
    """Latency of one image under LiteRT's XNNPACK, one thread. (`wm.tflite.benchmark` would run Vela again.)"""
    from wavemix_tf.tflite.file.flatbuffer import read_file, to_input
    from wavemix_tf.tflite.runtimes.litert import make_interpreter

    interpreter = make_interpreter(artifact.content, threads=1)
    value = to_input(read_file(artifact.content).inputs[0], image[None])
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value)
    for _ in range(WARMUP):
        interpreter.invoke()
    found = times_ms(interpreter.invoke, LATENCY_S)
    return {"p50": float(np.percentile(found, 50)), "p90": float(np.percentile(found, 90))}


def measure(model: Any, target: str, dtype: str, images: np.ndarray) -> dict[str, Any]:
    """Measure one cell: the figures of the exported file. Raises the errors of ``export``."""
    import wavemix_tf as wm

    forms: tuple[str | None, ...] = wm.tflite.TARGETS[target].upsample_forms if target == "mcu" else (None,)
    arenas: dict[str, int | str] = {}
    artifact, refusal = None, None
    for form in forms:  # `export` would choose one form and report only its arena
        try:
            # The weights are random: the loss from rounding is meaningless for such a network.
            bounds: dict[str, Any] = {"min_snr_db": -100, "min_agreement": 0, "allow_unjudged": True}
            found = wm.tflite.export(model, target, dtype, images=images, upsample_form=form, **bounds)
        except wm.tflite.ExportError as error:
            if form is None:
                raise
            arenas[form], refusal = first_clause(error), error
            continue
        if form is not None:
            arenas[form] = found.arena_bytes
        if artifact is None or found.arena_bytes < artifact.arena_bytes:
            artifact = found
    if artifact is None:
        raise refusal
    npu = None
    if artifact.npu is not None:
        npu = {key: value for key, value in artifact.npu.to_dict().items() if key != "sha256"}
    return {
        "size_bytes": artifact.size_bytes,
        "ops": len(artifact.ops),
        "upsample_form": artifact.upsample_form,
        "arena_bytes": artifact.arena_bytes,
        "arenas": arenas,
        "npu": npu,
        "latency_ms": latency_ms(artifact, images[0]),
        "load_average": round(os.getloadavg()[0], 2),
        "fidelity": artifact.verification["fidelity"],
    }


def form_of(target: str, dtype: str) -> str:
    """Name of the network's model from which a cell is exported."""
    import wavemix_tf as wm

    if dtype != "int8":
        return "float"
    return "quick_gelu" if wm.tflite.TARGETS[target].substitutes else "gelu"


def matrix(names: list[str], results: dict[str, Any], options: argparse.Namespace, keep: Any) -> None:
    """Measure the missing cells; ``keep`` is called after each."""
    import keras

    import wavemix_tf as wm

    cells, start = results["cells"], time.perf_counter()
    todo = [(name, *cell) for name in names for cell in CELLS if "/".join((name, *cell)) not in cells]
    made = 0

    def calibration(shape: Any) -> np.ndarray:
        return make_images(shape, CALIBRATION_IMAGES, 0, options.data_dir)

    for name in names:
        wanted = [(target, dtype) for net, target, dtype in todo if net == name]
        if not wanted:
            continue
        print(f"{name}: network", flush=True)
        model = build(name, calibration)
        shape = model.input_shape[1:]
        images = make_images(shape, options.images, 1, options.data_dir)
        models = {"float": model}
        for target, dtype in wanted:
            form = form_of(target, dtype)
            begun = time.perf_counter()
            if form not in models:
                print(f"  quantizing, {form}", flush=True)
                models[form] = wm.tflite.quantize(
                    model, calibration(shape), target="mcu" if form == "quick_gelu" else None
                )
            try:
                cell = measure(models[form], target, dtype, images)
            except wm.tflite.ExportError as error:
                cell = {"refused": first_clause(error), "message": str(error)}
            cells[f"{name}/{target}/{dtype}"] = cell | {"seconds": round(time.perf_counter() - begun, 1)}
            keep()
            made += 1
            spent = (time.perf_counter() - start) / 60
            text = summary(cell, target)
            print(f"  {target} {dtype}: {text}  ({made} of {len(todo)}, {spent:.1f} min)", flush=True)
        keras.backend.clear_session()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for targets.{json,md,png}")
    parser.add_argument("--nets", nargs="+", help="only these networks; with --variants, only these variants")
    parser.add_argument("--images", type=int, default=128, help="images for the comparison of file and model")
    parser.add_argument("--data-dir", help="folder of prepared TFDS data: use CIFAR-10 instead of generated images")
    parser.add_argument("--variants", action="store_true", help="compile the published networks for Ethos-U instead")
    parser.add_argument("--depth", type=int, help="with --variants: blocks per network; default: as published")
    options = parser.parse_args()
    names = list(TARGET_NETS)
    if options.variants:
        from wavemix_tf.variants import VARIANTS

        # Its peers are measured by systems.py.
        names = [name for name, row in VARIANTS.items() if row.get("model", "WaveMix").startswith("WaveMix")]
    options.nets = options.nets or names
    unknown = [name for name in options.nets if name not in names]
    if unknown:
        parser.error(f"--nets must be of {', '.join(names)}. Received: {' '.join(unknown)}")
    return options


def main() -> int:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    stem = "targets_variants" if options.variants else "targets"
    record = options.out / f"{stem}.json"
    if options.variants:
        settings: dict[str, Any] = {"depth": options.depth}
    else:
        settings = {"images": options.images, "data": "cifar10" if options.data_dir else "generated"}
    results: dict[str, Any] = {"settings": settings, "machine": machine(), "cells": {}}
    if record.exists():
        found = json.loads(record.read_text())
        if found["settings"] != settings:
            print(f"{record} holds a run with other settings: use another --out. Received: {settings}")
            return 1
        results = found
    warn_if_busy()

    def keep() -> None:
        write_atomically(record, json.dumps(results, indent=1))

    if options.variants:
        variants(results, options, keep)
        text = variants_table(results)
    else:
        matrix(options.nets, results, options, keep)
        text = table(options.nets, results)
        draw(options.nets, results, options.out / "targets.png")
    write_atomically(options.out / f"{stem}.md", text)
    print("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
