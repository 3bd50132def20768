"""`targets.py --variants`: every published WaveMix compiled for the three Ethos-U, and the ops that run on the CPU."""

from __future__ import annotations

import argparse
import time
from typing import Any

from nets import spread_weights
from report import markdown_table
from target_tables import NPUS, first_clause


def compile_variant(name: str, depth: int | None) -> dict[str, Any]:
    """Compile one published network, as `export` writes it for the Ethos-U, for all three; it is not run."""
    import keras

    import wavemix_tf as wm
    from wavemix_tf.tflite.file.flatbuffer import read_file
    from wavemix_tf.tflite.graph.inputs import generated_images
    from wavemix_tf.tflite.graph.lowering import deploy
    from wavemix_tf.tflite.quantization.ranges import MIN_IMAGES
    from wavemix_tf.tflite.runtimes.converter import convert
    from wavemix_tf.tflite.runtimes.ethos import compile_file
    from wavemix_tf.tflite.targets.audit import audit

    keras.utils.set_random_seed(0)
    model = wm.build_model(name, dropout=0.0, **({} if depth is None else {"depth": depth}))
    images = generated_images(model.input_shape[1:], MIN_IMAGES)
    spread_weights(model, images[:4])  # a large network's training pass over more images would exceed the memory
    quantized = wm.tflite.quantize(model, images)
    files: dict[Any, bytes] = {}
    found: dict[str, Any] = {}
    for target in NPUS:
        row = wm.tflite.TARGETS[target]
        written_as = (tuple(row.substitutes), row.upsample_forms[0], row.max_stride)
        try:
            if written_as not in files:
                files[written_as] = convert(
                    deploy(quantized, row.substitutes, row.upsample_forms[0], row.max_stride), "int8", "int8"
                )
            audit(read_file(files[written_as]), target, row, "int8")
            report = compile_file(files[written_as], row.npu)
        except wm.tflite.ExportError as error:
            found[target] = {"refused": first_clause(error), "message": str(error)}
            continue
        found[target] = {
            key: value for key, value in report.to_dict().items() if key not in ("sha256", "system", "memory")
        }
    return {
        "levels": wm.VARIANTS[name].get("levels", 1),
        "image_shape": list(model.input_shape[1:]),
        "targets": found,
    }


def variants_table(results: dict[str, Any]) -> str:
    from wavemix_tf.variants import VARIANTS

    lines = []
    for name in VARIANTS:
        if name not in results["cells"]:
            continue
        row, cells = results["cells"][name], []
        for target in NPUS:
            cell = row["targets"][target]
            if "refused" in cell:
                cells.append(f"refused: {cell['refused']}")
                continue
            left = f"**{len(cell['cpu_ops'])}** of {cell['npu_ops'] + len(cell['cpu_ops'])}"
            cells.append(f"{left} ({cell['cycles'] / 1e6:.1f} M cycles)")
        lines.append([name, str(row["levels"]), "x".join(map(str, row["image_shape"])), *cells])
    depth = results["settings"]["depth"]
    cut = "at their published depth" if depth is None else f"reduced to depth {depth}, because blocks repeat"
    compilers = {cell.get("compiler") for row in results["cells"].values() for cell in row["targets"].values()}
    return "\n".join(
        [
            f"Ops that {', '.join(sorted(compilers - {None}))} leaves to the CPU: published networks {cut}, at their",
            "published image size; in parentheses the compiler's estimate of the cycles. Random weights; compiled, not",
            "run.",
            "",
            markdown_table(["network", "levels", "image", *NPUS], lines),
            "",
        ]
    )


def variants(results: dict[str, Any], options: argparse.Namespace, keep: Any) -> None:
    import keras

    todo = [name for name in options.nets if name not in results["cells"]]
    for number, name in enumerate(todo, 1):
        begun = time.perf_counter()
        row = compile_variant(name, options.depth)
        row["seconds"] = round(time.perf_counter() - begun, 1)
        results["cells"][name] = row
        keep()
        texts = [
            f"{target} {cell['refused']}" if "refused" in cell else f"{target} {len(cell['cpu_ops'])} CPU ops"
            for target, cell in row["targets"].items()
        ]
        print(f"{number} of {len(todo)} {name}: {', '.join(texts)}  ({row['seconds']:.0f} s)", flush=True)
        keras.backend.clear_session()
