"""``wavemix-tf compare``: train and measure systems of one budget in the same way, and save every step.

The folder holds ``comparison.json`` (all results), ``costs.json`` (costs of candidates), a run folder for each system
and seed, the exported files, and the output: ``comparison.html``, ``.csv`` and ``.md``.
"""

from __future__ import annotations

import datetime
import functools
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np

from ..files import remove_abandoned, write_text
from ..profiler import profile
from ..state_files import check_fields, read_json, reading
from ..tflite.errors import ExportError, UnsupportedLayerError
from ..tflite.exporting.artifact import Artifact
from ..tflite.exporting.exporter import export
from ..tflite.file.flatbuffer import read_file, to_input
from ..tflite.measuring.latency import times_ms
from ..tflite.names import XNNPACK
from ..tflite.quantization.quantizer import quantize
from ..tflite.runtimes.running import run_file
from ..training.data.bundle import DataBundle
from ..training.data.datasets import load_data
from ..training.data.identity import keep_first_data
from ..training.fitting.trainer import build, fit
from ..training.recipe import Recipe
from ..training.searching.candidates import Candidates
from ..training.searching.systems import SYSTEMS, system_recipe, widest
from . import findings
from .file_checks import verification_images
from .pages import comparison as comparison_page
from .steps import load_model, print_dataset_summary
from .terminal import console, headline

FORMAT = 1
RECORD, COSTS, DATA = "comparison.json", "costs.json", "data"
TARGET = "android-cpu"
TEST_LIMIT_S = 60.0  # limit for running the test images in one file
ROUNDS, LATENCY_S, STEPS = 5, 0.2, 5


class Comparison:
    """The comparison of one folder; every method resumes from the state of the folder.

    Args:
        recipe: Data, schedule, depth and stem, the same for all.
        systems: Keys of ``SYSTEMS`` or ``VARIANTS``.
        budget: Cost -> its upper limit; empty: every system has the recipe's own width.
        target: Target whose costs the budget limits; None: costs of the graph.
        costs: Callables that measure costs which the graph does not give, as for ``search``.
        seeds: Number of seeds; the first is the recipe's.
        out: Folder.
        qat: Fine-tune the int8 networks by the recipe's ``qat_*`` fields.
        command: As typed.
        overwrite: Start over.

    Raises:
        ValueError: The folder holds a comparison of another recipe or budget.
    """

    def __init__(
        self,
        recipe: Recipe,
        systems: Sequence[str],
        budget: Mapping[str, float],
        target: str | None,
        costs: Sequence[Any],
        seeds: int,
        out: Path,
        qat: bool,
        command: str,
        overwrite: bool = False,
    ) -> None:
        self.recipe, self.names, self.out, self.qat = recipe, list(systems), out, qat
        self.seeds = [recipe.seed + index for index in range(seeds)]
        self._bundles: dict[int, DataBundle] = {}
        if overwrite and (out / RECORD).is_file():
            for name in ("runs", "exports", DATA):
                shutil.rmtree(out / name, ignore_errors=True)
            for name in (RECORD, COSTS):
                (out / name).unlink(missing_ok=True)
        self.record = self._open_record(recipe, dict(budget), target, command)
        self.candidates = Candidates(
            lambda values: system_recipe(recipe, values["system"], values["width"]),
            lambda one: build(one, self.classes),
            budget,
            costs,
            out / COSTS,
        )

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.recipe.num_classes or len(self.data(self.seeds[0]).class_names)

    def _open_record(
        self, recipe: Recipe, budget: dict[str, float], target: str | None, command: str
    ) -> dict[str, Any]:
        asked = {"format": FORMAT, "budget": budget, "target": target, "qat": self.qat}
        record: dict[str, Any] = {"systems": {}, "seeds": []}
        if self.out.is_dir():
            remove_abandoned(self.out)
        if (self.out / RECORD).is_file():
            record = _read_record(self.out / RECORD)
            there = recipe.differences(Recipe.from_json(json.dumps(record["recipe"])))
            there += [
                f"{key}={asked[key]!r} (there {record.get(key)!r})" for key in asked if record.get(key) != asked[key]
            ]
            if there:
                raise ValueError(
                    f"{self.out} holds another comparison: use another --out, or --overwrite. "
                    f"Received: {', '.join(there)}"
                )
        return {
            **record,
            **asked,
            "recipe": json.loads(recipe.to_json()),
            "command": command,
            "seeds": sorted({*record["seeds"], *self.seeds}),
        }

    def row(self, name: str) -> dict[str, Any]:
        """Return the record of a system."""
        return self.record["systems"].setdefault(name, {"runs": {}, "files": {}})

    def compare(self) -> Path:
        """Run all steps in order; draw the page after each.

        Returns:
            Path of the page.
        """
        for name in self.names:
            self.row(name).pop("failed", None)  # tried again; finished steps are kept
        print_dataset_summary(self.recipe, self.data(self.seeds[0]))  # first: checks that the images are the same
        self._for_each_system("size", self.size)
        for seed in self.seeds:
            self._for_each_system(f"train, seed {seed}", functools.partial(self.train, seed=seed))
        self._for_each_system("export", self.export)
        self.time()
        self.record["created"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.record["machine"], self.record["versions"] = findings.machine(), findings.versions()
        return self._save()

    def _for_each_system(self, title: str, do: Callable[[str], str]) -> None:
        """Run one step for every system that has not failed; write a failure into its row."""
        headline(title[0].upper() + title[1:])
        for index, name in enumerate(self.names, 1):
            row = self.row(name)
            if "failed" in row:
                console.print(f"  {index}/{len(self.names)} {name}: failed in an earlier step")
                continue
            try:
                with console.status(f"  {index}/{len(self.names)} {name}"):
                    text = do(name)
            except Exception as error:  # an error of one system must not stop the others
                text = f"failed: {self._fail(name, title, error)}"
            console.print(f"  {index}/{len(self.names)} {name}: {text}", soft_wrap=True, highlight=False)
            self._write_record()
        self._save()

    def _fail(self, name: str, title: str, error: Exception) -> str:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self.row(name)["failed"] = {"step": title, "reason": lines[0]}
        return lines[0]

    def _write_record(self) -> None:
        write_text(self.out / RECORD, json.dumps(self.record, indent=1) + "\n")

    def _save(self) -> Path:
        self._write_record()
        return comparison_page.write(self.out, self.record)

    # --- the steps ----------------------------------------------------------------------------------------------------

    def size(self, name: str) -> str:
        """Choose the width and count its costs."""
        row = self.row(name)
        if "profile" not in row:
            one = self.recipe
            if self.record["budget"]:
                row["width"] = widest(one, name, self.candidates)
            chosen = system_recipe(one, name, row.get("width"))
            row["costs"] = self.candidates.costs(chosen) if self.record["budget"] else {}
            counted = profile(build(chosen, self.classes))
            names = ("parameters", "other_parameters", "macs", "peak_activation_bytes")
            row["profile"] = {key: getattr(counted, key) for key in names}
            row["model_args"] = dict(chosen.model_args)
            row["title"] = SYSTEMS[name].title if name in SYSTEMS else name
        found = row["profile"]
        width = f"width {row['width']}, " if row.get("width") else ""
        return f"{width}{found['parameters']:,} parameters, {found['macs'] / 1e6:.2f} MMAC"

    def train(self, name: str, seed: int) -> str:
        """Train one seed; the test images are read once, after it."""
        row = self.row(name)
        if str(seed) not in row["runs"]:
            chosen = system_recipe(self.recipe, name, row.get("width"), seed)
            result = fit(chosen, data=self.data(seed), out=self._run(name, seed), verbose=0)
            row["runs"][str(seed)] = {
                "validation": result.validation_score,
                "test": result.test_score,
                "best_epoch": result.best_epoch,
                "seconds": round(result.seconds, 1),
            }
        found = row["runs"][str(seed)]
        return (
            f"{100 * found['validation']:.2f} % validation, {100 * found['test']:.2f} % test, {found['seconds']:.0f} s"
        )

    def export(self, name: str) -> str:
        """Export the first seed's network as float32 and int8 files, and measure their accuracy."""
        row, seed = self.row(name), self.seeds[0]
        data, texts = self.data(seed), []
        for dtype in ("float32", "int8"):
            if "size_bytes" not in row["files"].get(dtype, {}):  # a refused file is tried again
                row["files"][dtype] = self._export(name, dtype, data)
            found = row["files"][dtype]
            if "refused" in found:
                texts.append(f"{dtype} refused: {comparison_page.shortened(found['refused'])}")
            else:
                texts.append(f"{dtype} {100 * found['accuracy']:.2f} %, {found['size_bytes'] / 1024:.1f} KiB")
        return "; ".join(texts)

    def _export(self, name: str, dtype: str, data: DataBundle) -> dict[str, Any]:
        model = load_model(self._run(name, self.seeds[0]) / "model.keras")
        try:
            if dtype == "int8":
                model = self._quantized(name, model, data)
            images, _ = verification_images(data, 256)
            artifact = export(
                model,
                target=TARGET,
                dtype=dtype,
                images=images,
                class_names=data.class_names,
                crop_to_aspect_ratio=self.recipe.crop_to_aspect_ratio,
            )
        except (ExportError, UnsupportedLayerError) as error:
            return {"refused": str(error).splitlines()[0]}
        artifact.save(self._file(name, dtype), overwrite=True)
        images, labels = data.sample("test", 10_000)
        logits = run_file(artifact.content, images, XNNPACK, TEST_LIMIT_S)
        accuracy = float((logits.argmax(-1) == labels[: len(logits)]).mean())
        return {
            "accuracy": accuracy,
            "images": len(logits),
            "test_images": data.test_source.size,
            "size_bytes": artifact.size_bytes,
            "float_layers": list(artifact.float_layers),
        }

    def _quantized(self, name: str, model: Any, data: DataBundle) -> Any:
        """Return the quantization-aware model; layers without int8 support stay float, and the file lists them."""
        observer = self.recipe.qat_observer
        qat = quantize(model, data.calibration, observer=observer, skip="unsupported", target=TARGET)
        if not self.qat:
            return qat
        chosen = system_recipe(self.recipe, name, self.row(name).get("width"), self.seeds[0])
        return fit(chosen, model=qat, data=data, out=self._run(name, self.seeds[0]), stage="qat", verbose=0).model

    def time(self) -> None:
        """Time the files and a training step of all systems in turn, round after round.

        If one system is new, all are timed again: only times measured in turn can be compared.
        """
        rows = self.record["systems"].items()
        ready = {name: sorted(row["files"]) for name, row in rows if "failed" not in row and row["runs"]}
        ready = {name: [dtype for dtype in found if self._file(name, dtype).is_file()] for name, found in ready.items()}
        if self.record.get("timed") == ready:
            return
        headline("Time, all systems in turn")
        runners: dict[tuple[str, str], Callable[[], list[float]]] = {}
        for name, dtypes in ready.items():
            try:
                for dtype in dtypes:
                    runners[name, f"{dtype}_ms"] = self._latency(self._file(name, dtype))
                runners[name, "step_ms"] = self._training_step(name)
            except Exception as error:  # a row reports it, as in the other steps
                console.print(f"  {name}: failed: {self._fail(name, 'time', error)}", highlight=False)
                runners = {key: run for key, run in runners.items() if key[0] != name}
        found: dict[tuple[str, str], list[float]] = {key: [] for key in runners}
        for turn in range(ROUNDS):
            with console.status(f"  round {turn + 1} of {ROUNDS}"):
                for key, run in runners.items():
                    found[key].append(median(run()))
        for row in self.record["systems"].values():
            row.pop("times", None)  # measured in another turn
        for (name, kind), medians in found.items():
            times = {"median": median(medians), "least": min(medians), "most": max(medians)}
            self.row(name).setdefault("times", {})[kind] = times
        self.record["timed"] = {name: ready[name] for name, kind in runners if kind == "step_ms"}

    def _latency(self, path: Path) -> Callable[[], list[float]]:
        artifact = Artifact.load(path)
        image = self.data(self.seeds[0]).sample("validation", 1)[0]
        inputs = [to_input(read_file(artifact.content).inputs[0], image)]
        return lambda: times_ms(artifact.content, inputs, threads=1, warmup=3, runs=10_000, limit_s=LATENCY_S)

    def _training_step(self, name: str) -> Callable[[], list[float]]:
        """Return a function that times a few training steps at the recipe's batch size."""
        chosen = system_recipe(self.recipe, name, self.row(name).get("width"))
        model = build(chosen, self.classes)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.AdamW(1e-3), loss, jit_compile=chosen.jit_compile)
        shape = (chosen.step_images, *chosen.image_shape)
        images = np.random.default_rng(0).random(shape, "float32")
        labels = np.zeros(len(images), "int32")
        for _ in range(2):
            model.train_on_batch(images, labels)

        def run() -> list[float]:
            times = []
            for _ in range(STEPS):
                begun = time.perf_counter()
                model.train_on_batch(images, labels)
                times.append(1e3 * (time.perf_counter() - begun))
            return times

        return run

    def data(self, seed: int) -> DataBundle:
        """Return the images with a seed's validation split; only the last seed's data stay in memory."""
        if seed not in self._bundles:
            folder = self.out / DATA / f"seed{seed}"
            data = load_data(system_recipe(self.recipe, self.names[0], None, seed), folder)
            keep_first_data(data, folder, str(self.out))
            self._bundles = {seed: data}
        return self._bundles[seed]

    def _run(self, name: str, seed: int) -> Path:
        return self.out / "runs" / name / f"seed{seed}"

    def _file(self, name: str, dtype: str) -> Path:
        return self.out / "exports" / f"{name}-{TARGET}-{dtype}.tflite"


def _read_record(path: Path) -> dict[str, Any]:
    """Read the record of a comparison; DamagedFileError if the file is damaged."""
    remedy = "To start the comparison over: --overwrite."
    with reading(path, remedy):
        record = read_json(path, remedy, {"systems": dict, "seeds": list, "recipe": dict, "format": int})
        Recipe.from_json(json.dumps(record["recipe"]))
        for row in record["systems"].values():
            check_fields(row, {"runs": dict, "files": dict})
            for run in row["runs"].values():
                check_fields(run, dict.fromkeys(("validation", "test", "seconds"), float))
            for file in row["files"].values():
                check_fields(file, {"refused": str} if "refused" in file else {"accuracy": float, "size_bytes": int})
        if not all(type(seed) is int for seed in record["seeds"]):
            raise ValueError("the field 'seeds' must be a list of whole numbers")
        return dict(record)
