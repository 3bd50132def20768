"""The target matrix, every cell measured: four networks as files for all the targets of `wm.tflite.TARGETS`.

    python benchmarks/targets.py --out runs/benchmarks
    python benchmarks/targets.py --variants --depth 2       # is anything of a published network left to the CPU?

Each network is quantized once for each form of its activation (GELU, and quick GELU where a target has no GELU), and
every file comes from `wm.tflite.export`, which audits it, runs it and, for an Ethos-U, compiles it with Vela. A cell
that was refused shows the first clause of the refusal. What is what:

- cycles, inferences/s, SRAM and flash of an Ethos-U are Vela's estimates; no NPU was run;
- the arena is that of TensorFlow Lite Micro's own interpreter, in both forms of the upsampling;
- the latency is this machine's, whatever the target: LiteRT with XNNPACK, one thread, the p50; it tells files apart and
  says nothing about a phone or a microcontroller;
- agreement and mean error are the file's against its own (fake-quant) Keras model. **The weights are random**, spread
  out so that the logits differ from image to image: this is agreement of file and model, no accuracy. Cycles and flash
  of an NPU depend on how well the weights compress: those of trained ones will differ a little.

Images are generated; `--data-dir` takes CIFAR-10's test images from TFDS instead, resized. Every finished cell is kept
in OUT/targets.json and the same command goes on from there; it ends with OUT/targets.md and OUT/targets.png.

`--variants` compiles every WaveMix of `wm.VARIANTS` at its published image size for the three Ethos-U and counts the
ops that are left to the CPU, into OUT/targets_variants.{json,md}; `--depth 2` cuts the depth, as blocks repeat. Those
files are audited and compiled, not run. Needs `pip install "wavemix-tf[ethos]"`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from nets import TARGET_NETS, spread_weights
from report import markdown_table
from side_by_side import machine, times_ms, warn_if_busy, write_atomically

CELLS = (
    ("android-cpu", "float32"),
    ("android-cpu", "int8"),
    ("android-gpu", "float16"),
    ("android-npu", "int8"),
    ("ethos-u55", "int8"),
    ("ethos-u65", "int8"),
    ("ethos-u85", "int8"),
    ("edge-tpu", "int8"),
    ("mcu", "int8"),
)
NPUS = ("ethos-u55", "ethos-u65", "ethos-u85")
CALIBRATION_IMAGES = 64
LATENCY_S = 3.0
WARMUP = 5
KIB = 1024


def make_images(shape: tuple[int, int, int], count: int, seed: int, data_dir: str | None) -> np.ndarray:
    """float32 (count, H, W, C) in [0, 1]: generated, or CIFAR-10's, resized; another seed gives other images."""
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


def first_clause(error: Exception) -> str:
    """What a refusal says up to its first stop, in one line."""
    return re.split(r"[.;:](?:\s|$)", " ".join(str(error).split()), maxsplit=1)[0].replace("|", "/")


def latency_ms(artifact: Any, image: np.ndarray) -> dict[str, float]:
    """Of one image under LiteRT's XNNPACK, one thread. (`wm.tflite.benchmark` would compile for the NPU again.)"""
    from wavemix_tf.tflite.file.flatbuffer import read_file, to_input
    from wavemix_tf.tflite.verification.verifier import make_interpreter

    interpreter = make_interpreter(artifact.content, threads=1)
    value = to_input(read_file(artifact.content).inputs[0], image[None])
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value)
    for _ in range(WARMUP):
        interpreter.invoke()
    found = times_ms(interpreter.invoke, LATENCY_S)
    return {"p50": float(np.percentile(found, 50)), "p90": float(np.percentile(found, 90))}


def measure(model: Any, target: str, dtype: str, images: np.ndarray) -> dict[str, Any]:
    """One cell: the figures of the exported file. Raises what ``export`` raises."""
    import wavemix_tf as wm

    forms: tuple[str | None, ...] = wm.tflite.TARGETS[target].upsample_forms if target == "mcu" else (None,)
    arenas: dict[str, int | str] = {}
    artifact, refusal = None, None
    for form in forms:  # `export` would choose by itself, and tell the chosen form's arena alone
        try:
            # The weights are random: what rounding leaves of such a network says nothing.
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
    """Which of a network's models a cell is exported from."""
    import wavemix_tf as wm

    if dtype != "int8":
        return "float"
    return "quick_gelu" if wm.tflite.TARGETS[target].substitutes else "gelu"


def matrix(names: list[str], results: dict[str, Any], options: argparse.Namespace, keep: Any) -> None:
    """Fill the cells that are missing; ``keep`` is called after each."""
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


# --- the networks of the table of variants -----------------------------------------------------------------------


def compile_variant(name: str, depth: int | None) -> dict[str, Any]:
    """One published network, as `export` writes it for the Ethos-U, compiled for the three; not run."""
    import keras

    import wavemix_tf as wm
    from wavemix_tf.tflite.exporting.exporter import convert
    from wavemix_tf.tflite.file.flatbuffer import read_file
    from wavemix_tf.tflite.graph.inputs import generated_images
    from wavemix_tf.tflite.graph.lowering import deploy
    from wavemix_tf.tflite.quantization.ranges import MIN_IMAGES
    from wavemix_tf.tflite.runtimes.ethos import compile_file
    from wavemix_tf.tflite.targets.audit import audit

    keras.utils.set_random_seed(0)
    model = wm.build_model(name, dropout=0.0, **({} if depth is None else {"depth": depth}))
    images = generated_images(model.input_shape[1:], MIN_IMAGES)
    spread_weights(model, images[:4])  # a large network's training pass over more would fill the memory
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
    cut = "at their published depth" if depth is None else f"cut to depth {depth}, as blocks repeat"
    compilers = {cell.get("compiler") for row in results["cells"].values() for cell in row["targets"].values()}
    return "\n".join(
        [
            f"Ops left to the CPU by {', '.join(sorted(compilers - {None}))}: published networks {cut}, at their",
            "published image size; in brackets the compiler's estimate of the cycles. Random weights; compiled, not",
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


# --- tables and picture ------------------------------------------------------------------------------------------


def refused(cell: dict[str, Any]) -> str:
    return f"refused: {cell['refused']}" if "message" in cell else cell["refused"]


def kib(count: float) -> str:
    return f"{count / KIB:,.1f} KiB" if count < 100 * KIB else f"{count / KIB:,.0f} KiB"


def cycles_text(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def three_digits(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2f}"


def share(value: float | None) -> str:
    return "no clear lead" if value is None else f"{100 * value:.3g} %"


def summary(cell: dict[str, Any], target: str) -> str:
    """What decides on that target, in one line."""
    if "refused" in cell:
        return refused(cell)
    own = cell["fidelity"]["runtimes"][0]
    if cell["npu"] is not None:
        npu = cell["npu"]
        parts = [
            f"{cycles_text(npu['cycles'])} cycles",
            f"{three_digits(npu['inferences_per_second'])} inf/s",
            f"{kib(npu['sram_bytes'])} SRAM",
            f"{kib(npu['flash_bytes'])} flash",
        ]
    elif target == "mcu":
        parts = [f"{kib(cell['arena_bytes'])} arena", f"{kib(cell['size_bytes'])} flash"]
    else:
        parts = [f"{cell['latency_ms']['p50']:.2f} ms", kib(cell["size_bytes"])]
    return ", ".join([*parts, share(own["agreement"])])


def all_cells(names: list[str], results: dict[str, Any]) -> dict[str, Any]:
    """The cells of these networks, also where a run was stopped before them."""
    missing = {"refused": "not measured yet"}
    keys = [f"{name}/{target}/{dtype}" for name in names for target, dtype in CELLS]
    return {key: results["cells"].get(key, missing) for key in keys}


def table(names: list[str], results: dict[str, Any]) -> str:
    cells, host = all_cells(names, results), results["machine"]
    titles = [TARGET_NETS[name][0] for name in names]

    def by_target(text: Any, chosen: Any = CELLS) -> str:
        lines = [
            [f"`{target}` {dtype}", *(text(cells[f"{name}/{target}/{dtype}"], target) for name in names)]
            for target, dtype in chosen
        ]
        return markdown_table(["target", *titles], lines)

    def fidelity(cell: dict[str, Any], _: str) -> str:
        if "refused" in cell:
            return refused(cell)
        rows = cell["fidelity"]["runtimes"]
        errors = " / ".join(f"{row['mean_error_steps']:.2g}" for row in rows)
        agreements = " / ".join(share(row["agreement"]) for row in rows)
        return f"{errors} steps; {agreements} of {rows[0]['counted']}"

    def latency(cell: dict[str, Any], _: str) -> str:
        if "refused" in cell:
            return refused(cell)
        return f"{cell['latency_ms']['p50']:.2f} ms, {cell['ops']} ops, {kib(cell['size_bytes'])}"

    def arena(name: str, form: str) -> str:
        cell = cells[f"{name}/mcu/int8"]
        found = cell.get("arenas", {}).get(form)
        if found is None:
            return refused(cell)
        if isinstance(found, str):
            return f"refused: {found}"
        return f"**{kib(found)}**" if form == cell["upsample_form"] else kib(found)

    import wavemix_tf as wm

    forms = wm.tflite.TARGETS["mcu"].upsample_forms
    loads = [cell["load_average"] for cell in cells.values() if "load_average" in cell] or [host["load_average"]]
    compilers = {cell["npu"]["compiler"] for cell in cells.values() if cell.get("npu")}
    images = "CIFAR-10 test" if results["settings"]["data"] == "cifar10" else "generated"
    return "\n".join(
        [
            "Random weights, spread out so that the logits differ from image to image: agreement is of file and",
            f"(fake-quant) Keras model on {results['settings']['images']} {images} images, no accuracy. Cycles,",
            f"inferences/s, SRAM and flash of an Ethos-U are estimates of {', '.join(sorted(compilers)) or 'Vela'} at",
            "500 MHz (u55: 256 MACs a cycle, u65 and u85: 512); milliseconds are LiteRT XNNPACK, one thread, p50, on",
            f"{host['cpu']} under a load of {min(loads):.1f}-{max(loads):.1f} on {host['cores']} cores; the arena is",
            "TensorFlow Lite Micro's.",
            "",
            by_target(summary),
            "",
            "Mean error in output steps, and same first class among the images whose lead exceeds two steps: in the",
            "target's runtimes in turn (LiteRT XNNPACK / reference kernels; mcu: TensorFlow Lite Micro / XNNPACK /",
            "reference kernels).",
            "",
            by_target(fidelity),
            "",
            "Every file under LiteRT XNNPACK on this machine, whatever its target.",
            "",
            by_target(latency),
            "",
            "Arena of the `mcu` file by the form of its transposed convolutions; `export` takes the smaller.",
            "",
            markdown_table(
                ["form", *titles], [[f"`{form}`", *(arena(name, form) for name in names)] for form in forms]
            ),
            "",
        ]
    )


def draw(names: list[str], results: dict[str, Any], path: Path) -> None:
    """NPU cycles, arena by form, and latency by dtype, a group of bars a network, on log scales."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    cells = all_cells(names, results)

    def npu_cycles(name: str, target: str) -> float | None:
        return (cells[f"{name}/{target}/int8"].get("npu") or {}).get("cycles")

    def arena_kib(name: str, form: str) -> float | None:
        found = cells[f"{name}/mcu/int8"].get("arenas", {}).get(form)
        return found / KIB if isinstance(found, int) else None

    def latency(name: str, dtype: str) -> float | None:
        return cells[f"{name}/android-cpu/{dtype}"].get("latency_ms", {}).get("p50")

    panels = [
        ("NPU cycles of one image, Vela's estimate", NPUS, npu_cycles, ("#9fd3c1", "#1f8a70", "#0b4f45")),
        ("arena under TFLite Micro, KiB", ("transposed_conv", "subpixel_crop"), arena_kib, ("#c8553d", "#e8b298")),
        ("android-cpu file under XNNPACK here, ms", ("float32", "int8"), latency, ("#9aa5b1", "#3f6c9e")),
    ]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(15, 4.4), width_ratios=(1.25, 1, 1))
    for axis, (title, series, value_of, colours) in zip(axes, panels, strict=True):
        width = 0.8 / len(series)
        for offset, (label, colour) in enumerate(zip(series, colours, strict=True)):
            for place, name in enumerate(names):
                value = value_of(name, label)
                x = place + (offset - (len(series) - 1) / 2) * width
                if value is None:
                    axis.annotate("none", (x, 0.02), xycoords=("data", "axes fraction"), rotation=90, fontsize=7)
                    continue
                axis.bar(x, value, width=0.92 * width, color=colour, label=label if place == 0 else None)
                text = cycles_text(value).replace(" ", "") if value_of is npu_cycles else three_digits(value)
                axis.annotate(text, (x, value), (0, 2), textcoords="offset points", ha="center", fontsize=6.5)
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        axis.set_xlim(-0.5, len(names) - 0.5)  # also where a group has no bar
        low, high = axis.get_ylim()
        axis.set_ylim(low / 1.6, high * 1.25)
        axis.set_xticks(range(len(names)), [TARGET_NETS[name][0].replace(", ", "\n") for name in names], fontsize=8)
        axis.set_title(title, fontsize=10, loc="left", pad=22)
        axis.tick_params(axis="y", labelsize=8)
        axis.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.99), ncols=len(series))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        axis.set_axisbelow(True)
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    pyplot.close(figure)
    write_atomically(path, content.getvalue())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for targets.{json,md,png}")
    parser.add_argument("--nets", nargs="+", help="some of the networks; with --variants, of the variants")
    parser.add_argument("--images", type=int, default=128, help="images to compare file and model on")
    parser.add_argument("--data-dir", help="folder of prepared TFDS data: CIFAR-10 in place of generated images")
    parser.add_argument("--variants", action="store_true", help="compile the published networks for Ethos-U instead")
    parser.add_argument("--depth", type=int, help="with --variants: blocks of each network; None: as published")
    options = parser.parse_args()
    names = list(TARGET_NETS)
    if options.variants:
        from wavemix_tf.variants import VARIANTS

        # Its peers stand in systems.py.
        names = [name for name, row in VARIANTS.items() if row.get("model", "WaveMix").startswith("WaveMix")]
    options.nets = options.nets or names
    unknown = [name for name in options.nets if name not in names]
    if unknown:
        parser.error(f"--nets must be some of {', '.join(names)}. Received: {' '.join(unknown)}")
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
            print(f"{record} holds a run with other settings: name another --out. Received: {settings}")
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
