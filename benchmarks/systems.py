"""WaveMix's peers on the devices: what of each runs in int8, what stays float, what a target refuses and why.

    python benchmarks/systems.py --out build/systems
    python benchmarks/systems.py --out build/systems --systems ViT --targets mcu ethos-u55

Every system is quantized and exported to every target; random weights that are spread out, 320 generated images, of
which 256 calibrate. Where ``quantize`` knows no int8 rule for a layer, ``skip="unsupported"`` keeps it in float. A cell
says how many ops of the file compute in int8, which do not, and the mean error of the file against the model in the
target's own runtime, in output steps; or the first rule that the target's audit found broken. ``systems.json`` and
``systems.md``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import keras
from nets import spread_weights
from report import markdown_table
from side_by_side import write_atomically

import wavemix_tf as wm
from wavemix_tf.tflite.flatbuffer import read_file
from wavemix_tf.tflite.images import generated_images

SMALL = {"num_classes": 10, "image_shape": (32, 32, 3)}
MIXER = {**SMALL, "width": 32, "depth": 4, "patch_size": 4}
VIT = {**SMALL, "width": 32, "depth": 4, "heads": 2, "patch_size": 4}
SAMPLED = {"sampling_blocks": (1,), "sampling_tokens": 32, "sampling_mode": "static"}
# system -> (class, its arguments)
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "WaveMix": ("TokenMixerClassifier", {**MIXER, "mixer": "wavemix"}),
    **{
        f"WaveMix, {words}": ("TokenMixerClassifier", {**MIXER, "mixer": mixer})
        for mixer, words in {
            "dct": "DCT",
            "random_filters": "random filters",
            "learned_filters": "learned filters",
            "no_transform": "no transform",
        }.items()
    },
    "ConvMixer": ("TokenMixerClassifier", {**MIXER, "mixer": "convmixer"}),
    "MLP-Mixer": ("TokenMixerClassifier", {**MIXER, "mixer": "mlp_mixer"}),
    "PoolFormer": ("TokenMixerClassifier", {**MIXER, "mixer": "poolformer"}),
    "Fourier": ("TokenMixerClassifier", {**MIXER, "mixer": "fourier"}),
    "ViT": ("ViT", VIT),
    "ViT, static token sampling": ("ViT", {**VIT, **SAMPLED}),
    "DynaMixer": (
        "DynaMixer",
        {**SMALL, "patch_size": 4, "depths": (2, 2), "widths": (32, 64), "segments": (2, 4), "strides": (2,)},
    ),
}
IMAGES = 320
CALIBRATION = 256


def build(name: str) -> Any:
    """A system with weights that are spread out."""
    cls, arguments = SYSTEMS[name]
    keras.utils.set_random_seed(0)
    model = getattr(wm, cls)(**arguments)
    spread_weights(model, generated_images(model.input_shape[1:], 8, seed=9))
    return model


def quantized(model: Any, images: Any) -> Any:
    try:
        return wm.tflite.quantize(model, images[:CALIBRATION])
    except wm.tflite.UnsupportedLayerError:
        return wm.tflite.quantize(model, images[:CALIBRATION], skip="unsupported")


def measure(model: Any, rounded: Any, target: str, images: Any) -> dict[str, Any]:
    """One cell."""
    given = rounded if "int8" in wm.tflite.TARGETS[target].dtypes else model
    try:
        artifact = wm.tflite.export(given, target, images=images[CALIBRATION:])
    except wm.tflite.ExportError as error:
        return {"refused": " ".join(str(error).split())}
    info = read_file(artifact.content)
    floats = Counter(op.name for op in info.ops if any(t.dtype.startswith("float") for t in (*op.inputs, *op.outputs)))
    rows = artifact.verification["fidelity"]["runtimes"]
    return {
        "dtype": artifact.dtype,
        "ops": len(info.ops),
        "float_ops": dict(floats),
        "float_layers": list(artifact.float_layers),
        "bytes": artifact.size_bytes,
        "arena_bytes": artifact.arena_bytes,
        "cycles": artifact.npu.cycles if artifact.npu else None,
        "steps": {row["runtime"]: row["mean_error_steps"] for row in rows},
    }


def cell(found: dict[str, Any]) -> str:
    if "refused" in found:
        rule, _, what = found["refused"].partition(": ")
        return f"refused: {(what or rule).partition(';')[0]}"
    steps = next(iter(found["steps"].values()))
    floats = sum(found["float_ops"].values())
    if found["dtype"] != "int8":
        words = f"{found['dtype']}, {found['ops']} ops"
    elif floats:
        words = f"int8 {found['ops'] - floats} of {found['ops']} ops; float {', '.join(sorted(found['float_ops']))}"
    else:
        words = f"int8, all {found['ops']} ops"
    return f"{words}; {steps:.2f} steps" + (f", {found['cycles']:,} cycles" if found["cycles"] else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--targets", nargs="+", choices=wm.tflite.TARGETS, default=list(wm.tflite.TARGETS))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, Any]] = {}
    for name in given.systems:
        model = build(name)
        images = generated_images(model.input_shape[1:], IMAGES, seed=1)
        rounded = quantized(model, images)
        table[name] = {target: measure(model, rounded, target, images) for target in given.targets}
        for target, found in table[name].items():
            print(f"{name} | {target} | {cell(found)}", flush=True)
    write_atomically(given.out / "systems.json", json.dumps(table, indent=1).encode())
    rows = [[name, *(cell(found) for found in cells.values())] for name, cells in table.items()]
    write_atomically(given.out / "systems.md", markdown_table(["system", *given.targets], rows).encode())


if __name__ == "__main__":
    main()
