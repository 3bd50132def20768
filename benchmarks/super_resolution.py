"""Score a trained super-resolver on the usual test sets, float and as files, against bicubic interpolation.

    python benchmarks/super_resolution.py runs/super_resolution_x2 Set5=PATH Set14=PATH --out runs/benchmarks

Each PATH is a folder of whole images, such as the five of Set5. They are reduced by bicubic interpolation with
antialiasing and enlarged again. PSNR and SSIM are computed on the luma by the usual protocol (BT.601 studio range,
border shaved by the scale). The PSNR of the official WaveMixSR scripts, which is another protocol, is also reported.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from report import markdown_table
from side_by_side import write_atomically


def scores(run: Path, folder: str) -> dict[str, dict[str, float]]:
    """Name of a model or file -> its means over the images of a folder, from `task_evaluation.Score`."""
    import keras

    from wavemix_tf.command import task_evaluation
    from wavemix_tf.tflite import TARGETS
    from wavemix_tf.tflite.exporting.artifact import Artifact
    from wavemix_tf.training.data.patches import PatchSource, file_pictures
    from wavemix_tf.training.recipe import Recipe

    recipe = dataclasses.replace(Recipe.from_json(run / "recipe.json"), in_memory=True)
    paths = sorted(str(path) for path in Path(folder).iterdir() if path.suffix.lower() in (".png", ".bmp", ".jpg"))
    source = PatchSource(file_pictures(paths, recipe), recipe.image_shape, recipe.scale, 1)
    data: Any = dataclasses.make_dataclass("Data", ["test_source"])(source)
    found = {"bicubic": task_evaluation.bicubic(recipe, data, len(paths))}
    model = keras.saving.load_model(run / "model.keras")
    found["float model"] = task_evaluation.evaluation_of(recipe).score(
        recipe, data, task_evaluation.keras_run(model), len(paths)
    )
    for path in sorted((run / "exports").glob("*.tflite")):
        if path.stem.endswith("_vela"):
            continue
        artifact = Artifact.load(path)
        runtime = TARGETS[artifact.target].runtimes[0]
        compute = task_evaluation.file_run(artifact.content, runtime)
        found[path.stem] = task_evaluation.evaluation_of(recipe).score(recipe, data, compute, len(paths))
    keys = ("psnr_y", "ssim_y", "official_psnr_y")
    return {name: {key: score.details[key] for key in keys} for name, score in found.items()}


def text_of(results: dict[str, Any]) -> str:
    header = [
        "",
        *(f"{name}, {what}" for name in results["sets"] for what in ("PSNR-Y, dB", "SSIM-Y", "official PSNR")),
    ]
    rows = []
    for name in next(iter(results["sets"].values())):
        cells = [name]
        for found in results["sets"].values():
            row = found[name]
            cells += [f"{row['psnr_y']:.2f}", f"{row['ssim_y']:.4f}", f"{row['official_psnr_y']:.2f}"]
        rows.append(cells)
    return "\n".join(
        [
            f"x{results['scale']}, {results['parameters']:,} parameters, tiles of {results['tile']} pixels.",
            "",
            markdown_table(header, rows),
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a super-resolver")
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks"), help="folder for super_resolution.{json,md}"
    )
    options = parser.parse_args()
    recipe = json.loads((options.run / "recipe.json").read_text())
    report = json.loads((options.run / "report.json").read_text())
    results: dict[str, Any] = {"scale": recipe["scale"], "parameters": report["model"]["parameters"], "sets": {}}
    results["tile"] = " x ".join(map(str, recipe["image_shape"][:2]))
    for given in options.sets:
        name, _, folder = given.partition("=")
        results["sets"][name] = scores(options.run, folder)
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "super_resolution.json", json.dumps(results, indent=1))
    text = text_of(results)
    write_atomically(options.out / "super_resolution.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
