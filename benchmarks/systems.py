"""WaveMix's peers on all targets: the ops that run in int8, the ops that stay float, and the reasons for refusals.

    python benchmarks/systems.py --out build/systems
    python benchmarks/systems.py --out build/systems --systems vit --targets mcu ethos-u55

Every system is quantized and exported to every target, with random weights for which the outputs differ, and 320
generated images, of which 256 calibrate. ``skip="unsupported"`` keeps layers without an int8 rule in float. A cell has
the number of ops in the file, and the number in int8 if not all are; the mean error of the file against the model, in
output steps; for an Ethos-U the cycles; or the first op that violates a rule of the target.

Every finished system is kept in ``systems.json``, and the same command resumes (use another folder after a change of
the package); ``systems.md`` is the table, which ``--doc docs/systems.md`` puts between two marks there.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import keras
from nets import spread_weights
from report import markdown_table
from side_by_side import write_atomically

import wavemix_tf as wm
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.graph.inputs import generated_images
from wavemix_tf.training.searching import systems as training_systems

SMALL = {"num_classes": 10, "image_shape": (32, 32, 3)}
MIXER = {**SMALL, "width": 32, "depth": 4, "patch_size": 4}
VIT = {**SMALL, "width": 32, "depth": 4, "heads": 2, "patch_size": 4}
SAMPLED = {"sampling_blocks": (1,), "sampling_tokens": 32, "sampling_mode": "static"}
STAGES = {"patch_size": 4, "depths": (2, 2), "widths": (32, 64), "segments": (2, 4), "strides": (2,)}
SAMPLING = "vit, static token sampling"
# name of a system in `wavemix-tf compare` -> (class, its arguments)
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: ("TokenMixerClassifier", {**MIXER, "mixer": name}) for name in wm.MIXERS},
    "vit": ("ViT", VIT),
    SAMPLING: ("ViT", {**VIT, **SAMPLED}),
    "dynamixer": ("DynaMixer", {**SMALL, **STAGES}),
}
MARK = "<!-- systems -->"
IMAGES = 320
CALIBRATION = 256


def title(name: str) -> str:
    return "ViT, static token sampling" if name == SAMPLING else training_systems.SYSTEMS[name].title


def settings() -> dict[str, Any]:
    """Known settings that the figures depend on, without the state of the package itself."""
    packages = ("keras", "tensorflow", "ai-edge-litert", "ethos-u-vela")
    found = {
        "images": [CALIBRATION, IMAGES],
        "systems": SYSTEMS,
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    return json.loads(json.dumps(found))


def build(name: str) -> Any:
    """Build a system with random weights for which the outputs differ from image to image."""
    cls, arguments = SYSTEMS[name]
    keras.utils.set_random_seed(0)
    model = getattr(wm, cls)(**arguments)
    spread_weights(model, generated_images(model.input_shape[1:], 8, seed=9))
    return model


def measure(model: Any, rounded: Any, target: str, images: Any) -> dict[str, Any]:
    """Measure one cell."""
    given = rounded if "int8" in wm.tflite.TARGETS[target].dtypes else model
    try:
        # The weights are random: the loss from rounding is meaningless for such a network.
        bounds = {"min_snr_db": -100, "min_agreement": 0, "allow_unjudged": True}
        artifact = wm.tflite.export(given, target, images=images[CALIBRATION:], **bounds)
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
        broken = re.search(r"op \d+ (\w+) \(.*?\) (.*?)[.;]", found["refused"] + ".")
        if broken is None:
            return f"refused: {found['refused']}"
        op, rule = broken.groups()
        return f"refused: {op}" + (f", {rule.partition(': ')[2]}" if ": " in rule else "")
    steps = next(iter(found["steps"].values()))
    floats = sum(found["float_ops"].values())
    if found["dtype"] != "int8":
        words = f"{found['dtype']}, {found['ops']}"
    elif floats:
        words = f"int8 {found['ops'] - floats} of {found['ops']}"
    else:
        words = f"int8, {found['ops']}"
    cycles = f"; {found['cycles'] / 1e6:.2f} Mcycles" if found["cycles"] else ""
    return f"{words} ops; {steps:.2f} steps{cycles}"


def table(systems: dict[str, dict[str, Any]]) -> str:
    targets = [target for target in wm.tflite.TARGETS if any(target in cells for cells in systems.values())]
    rows = [
        [title(name), *(cell(cells[target]) if target in cells else "" for target in targets)]
        for name, cells in systems.items()
    ]
    floats = [
        f"{title(name)}, {target}, in float: {', '.join(sorted(found['float_ops']))}."
        for name, cells in systems.items()
        for target, found in cells.items()
        if found.get("dtype") == "int8" and found["float_ops"]
    ]
    return "\n\n".join([markdown_table(["system", *targets], rows).strip(), *floats])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--targets", nargs="+", choices=wm.tflite.TARGETS, default=list(wm.tflite.TARGETS))
    parser.add_argument("--doc", type=Path, help=f"page whose lines between two {MARK} are replaced by the table")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    record = given.out / "systems.json"
    found: dict[str, dict[str, Any]] = {}
    if record.is_file():
        kept = json.loads(record.read_text())
        if kept["settings"] != settings():
            parser.error(f"{record} holds a run with other settings: use another --out. Received: {settings()}")
        found = kept["cells"]
    for name in given.systems:
        missing = [target for target in given.targets if target not in found.get(name, {})]
        if not missing:
            continue
        model = build(name)
        images = generated_images(model.input_shape[1:], IMAGES, seed=1)
        rounded = wm.tflite.quantize(model, images[:CALIBRATION], skip="unsupported")
        for target in missing:
            found.setdefault(name, {})[target] = measure(model, rounded, target, images)
            print(f"{name} | {target} | {cell(found[name][target])}", flush=True)
        write_atomically(record, json.dumps({"settings": settings(), "cells": found}, indent=1).encode())
    text = table({name: found[name] for name in SYSTEMS if name in found})
    write_atomically(given.out / "systems.md", f"{text}\n".encode())
    if given.doc is not None:
        before, _, after = given.doc.read_text(encoding="utf-8").split(MARK)
        write_atomically(given.doc, f"{before}{MARK}\n{text}\n{MARK}{after}".encode())


if __name__ == "__main__":
    main()
