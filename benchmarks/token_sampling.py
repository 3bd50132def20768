"""Adaptive token sampling on a small ViT trained here: accuracy against products, saved time, kept patches.

    python benchmarks/token_sampling.py --data-dir ~/tensorflow_datasets --out runs/benchmarks
    python benchmarks/token_sampling.py --out runs/benchmarks --stage speed      # again, on an idle machine

Runs all stages unless `--stage` names one. Finished parts are kept in OUT/token_sampling.json and OUT/token_sampling,
and the same command resumes:

- `accuracy`: trains a ViT on Fashion-MNIST without sampling (images that `fit` holds out choose the epoch). The same
  network then samples, off the shelf, with each budget of tokens. With some budgets it is fine-tuned for a few epochs;
  the plain network is fine-tuned as well, to show the gain of the additional epochs. The test images are read once per
  point; budgets are fixed beforehand. Products are counted for each image with its numbers of tokens, and averaged over
  the test images.
- `speed`: wall-clock time of the adaptive and the static form against the plain network, in turn in one process:
  forward with batch 1 and 64, and a training step of 64. Ratios are taken within a round. Also deit_tiny with random
  weights, on random images, at one budget, to measure 197 tokens.
- `draw`: writes OUT/token_sampling.{md,png} and OUT/token_sampling_patches.png from the record and the trained
  networks; `--doc docs/token_sampling.md` puts the tables there and the pictures next to it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from report import markdown_table, save_figure
from side_by_side import machine, warn_if_busy, write_atomically

STAGES = ("accuracy", "speed", "draw")
SHAPE, PATCH = (28, 28, 1), 4
BUDGETS = (None, 40, 32, 24, 20, 16, 12, 8)  # of 50 tokens
TUNED = (32, 20, 12)
DEIT_BLOCKS, DEIT_BUDGET = range(3, 12), 70
PLAIN, TUNED_PLAIN = "plain", "plain, trained on"
SETTINGS = ("width", "depth", "train_images", "epochs", "tuning_epochs", "seed")
PICTURES, REMOVED = 6, (0.45, 0.62, 0.85)  # and the color that covers a removed patch
MARK = "<!-- token_sampling -->"


def network(options: argparse.Namespace) -> Any:
    import wavemix_tf as wm

    return wm.ViT(10, SHAPE, PATCH, options.width, options.depth, options.width // 16)


def blocks_of(depth: int) -> range:
    """Blocks that sample: all but the first quarter, as for DeiT-S in the paper."""
    return range(depth // 4, depth)


def recipe(options: argparse.Namespace, name: str, tuning: bool) -> Any:
    import wavemix_tf as wm

    return wm.training.Recipe(
        name=name,
        dataset="fashion_mnist",
        data_dir=options.data_dir,
        image_shape=SHAPE,
        train_split=f"train[:{options.train_images}]",
        calibration_images=64,
        batch_size=64,
        epochs=options.tuning_epochs if tuning else options.epochs,
        learning_rate=2e-4 if tuning else 1e-3,
        warmup_epochs=0 if tuning else 1,
        weight_decay=0.02,
        clip_norm=1.0,
        flip=True,
        seed=options.seed,
    )


def trained(options: argparse.Namespace) -> Any:
    """The plain ViT; loaded from the run folder if it is trained already."""
    import keras

    import wavemix_tf as wm

    keras.utils.set_random_seed(options.seed)
    plan = recipe(options, "token_sampling", tuning=False)
    return wm.training.fit(plan, network(options), out=options.folder / "plain", verbose=2).model


def measure_accuracy(options: argparse.Namespace, results: dict[str, Any], keep: Any) -> None:
    import wavemix_tf as wm

    plain, blocks = trained(options), blocks_of(options.depth)
    images, labels = wm.training.load_data(recipe(options, "token_sampling", tuning=False)).test_arrays

    def score(model: Any) -> dict[str, Any]:
        found = np.concatenate([model.predict_on_batch(images[i : i + 250]) for i in range(0, len(images), 250)])
        counts = wm.count_tokens(model, images, 250)
        return {
            "accuracy": float((found.argmax(-1) == labels).mean()),
            "mmacs": counts.gmacs * 1e3,
            "kept": [round(float(count), 2) for count in counts.kept_per_block],
            "kept_range": [[int(part.min()), int(part.max())] for part in counts.kept.T],
        }

    rows = results["rows"]
    for budget in (PLAIN, *BUDGETS):
        key = PLAIN if budget == PLAIN else f"off the shelf/{budget}"
        if key not in rows:
            model = plain if budget == PLAIN else wm.with_token_sampling(plain, blocks, budget)
            rows[key] = score(model)
            keep()
            print(f"{key}: {rows[key]['accuracy']:.2%} at {rows[key]['mmacs']:.2f} MMAC", flush=True)
    for budget in (PLAIN, *TUNED):
        key = TUNED_PLAIN if budget == PLAIN else f"trained on/{budget}"
        if key in rows:
            continue
        # The plain network is also copied: the others start from the weights that were trained without sampling.
        model = wm.with_token_sampling(plain, () if budget == PLAIN else blocks, None if budget == PLAIN else budget)
        plan = recipe(options, f"token_sampling_{budget}", tuning=True)
        fitted = wm.training.fit(plan, model, out=options.folder / f"tuned_{budget}", verbose=2)
        rows[key] = score(fitted.model) | {"seconds": fitted.seconds}
        keep()
        print(f"{key}: {rows[key]['accuracy']:.2%} at {rows[key]['mmacs']:.2f} MMAC", flush=True)


# --- time -------------------------------------------------------------------------------------------------------------


def measure_speed(options: argparse.Namespace, results: dict[str, Any], keep: Any) -> None:
    import keras

    import wavemix_tf as wm

    warn_if_busy()
    random = np.random.default_rng(0)
    half = half_point(results)
    plain, blocks = trained(options), blocks_of(options.depth)
    images = wm.training.load_data(recipe(options, "token_sampling", tuning=False)).sample("test", 1024)[0]
    keras.utils.set_random_seed(0)
    static = [
        budget
        for budget in BUDGETS
        if budget
        and 2 * wm.profile(wm.with_token_sampling(plain, blocks, budget, "static")).macs <= wm.profile(plain).macs
    ]
    cases = {
        "small": (plain, blocks, half, max(static), images),
        "deit_tiny": (
            wm.build_model("deit_tiny"),
            DEIT_BLOCKS,
            DEIT_BUDGET,
            DEIT_BUDGET,
            random.uniform(size=(64, 224, 224, 3)).astype("float32"),
        ),
    }
    speed: dict[str, Any] = {"machine": machine(), "rounds": options.rounds}
    for name, (model, chosen, budget, fixed, data) in cases.items():
        models = {
            "plain": model,
            "adaptive": wm.with_token_sampling(model, chosen, budget),
            "static": wm.with_token_sampling(model, chosen, fixed, "static"),
        }
        counted = {form: wm.count_tokens(part, data[:256]).gmacs for form, part in models.items()}
        # The static form computes every place of the budget, used or not.
        counted["static"] = wm.profile(models["static"]).macs / 1e9
        case = {"budgets": [budget, fixed], "gmacs": counted}
        for job, batch, training in (("forward 1", 1, False), ("forward 64", 64, False), ("training 64", 64, True)):
            jobs = {form: job_of(part, data, batch, training) for form, part in models.items()}
            case[job] = race(jobs, options.rounds, options.seconds)
            print(f"{name}, {job}: {case[job]}", flush=True)
        speed[name] = case
    results["speed"] = speed
    keep()


def job_of(model: Any, data: np.ndarray, batch: int, training: bool) -> Any:
    """A function that runs one batch, a different one at each call."""
    import keras
    import tensorflow as tf

    parts = [tf.constant(data[start : start + batch]) for start in range(0, len(data) - batch + 1, batch)][:64]
    state = {"at": 0}

    def pick() -> Any:
        state["at"] = (state["at"] + 1) % len(parts)
        return parts[state["at"]]

    if training:
        model.compile(keras.optimizers.AdamW(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        labels = tf.constant(np.arange(batch) % 10)
        return lambda: model.train_on_batch(pick(), labels)
    forward = tf.function(lambda x: model(x, training=False))
    return lambda: forward(pick()).numpy()


def race(jobs: dict[str, Any], rounds: int, seconds: float) -> dict[str, Any]:
    """Median ms of each job, and its speed relative to the plain one: median and range over the rounds."""
    for job in jobs.values():
        for _ in range(3):  # compiles
            job()
    times: dict[str, list[float]] = {form: [] for form in jobs}
    for number in range(rounds):
        order = list(jobs)
        for form in order[number % 3 :] + order[: number % 3]:
            turn, end = [], time.perf_counter() + seconds
            while time.perf_counter() < end or len(turn) < 3:
                start = time.perf_counter()
                jobs[form]()
                turn.append(1e3 * (time.perf_counter() - start))
            times[form].append(median(turn))
    found: dict[str, Any] = {"ms": {form: round(median(turns), 3) for form, turns in times.items()}}
    for form in ("adaptive", "static"):
        ratios = [plain / mine for plain, mine in zip(times["plain"], times[form], strict=True)]
        found[form] = {"median": median(ratios), "min": min(ratios), "max": max(ratios)}
    return found


# --- tables and plots -------------------------------------------------------------------------------------------------


def half_point(results: dict[str, Any], kind: str = "off the shelf") -> int:
    """The largest budget that halves the products."""
    rows = {key.partition("/")[2]: row for key, row in results["rows"].items() if key.startswith(f"{kind}/")}
    budgets = {int(name): row["mmacs"] for name, row in rows.items() if name != "None"}
    below = [budget for budget, mmacs in budgets.items() if 2 * mmacs <= results["rows"][PLAIN]["mmacs"]]
    return max(below, default=min(budgets))


def title(key: str) -> str:
    """A key of the record as text for tables and plots."""
    return key.replace("trained on", "fine-tuned")


def table(results: dict[str, Any]) -> str:
    rows, settings = results["rows"], results["settings"]
    plain, blocks = rows[PLAIN]["mmacs"], blocks_of(settings["depth"])
    lines = []
    for key, row in rows.items():
        kind, _, budget = key.partition("/")
        mark = " (the first at half)" if budget and budget == str(half_point(results, kind)) else ""
        lines.append([
            title(key) + mark,
            f"{row['accuracy']:.2%}",
            f"{row['mmacs']:.2f}",
            f"{plain / row['mmacs']:.2f}",
            " ".join(f"{count:.0f}" for count in row["kept"]),
            "{}-{}".format(*row["kept_range"][-1]),
        ])  # fmt: skip
    header = ["network", "top-1", "MMAC per image", "times fewer", "tokens after each block", "after the last"]
    parts = [
        f"Fashion-MNIST, {settings['train_images']} training images, {settings['epochs']} epochs, fine-tuned "
        f"for {settings['tuning_epochs']}, seed {settings['seed']}; ViT of {settings['depth']} blocks, width "
        f"{settings['width']}, 50 tokens, sampling in blocks {blocks[0]} to {blocks[-1]} (from 0); 10,000 test images.",
        "",
        markdown_table(header, lines),
    ]
    if "speed" in results:
        parts += ["", speed_table(results["speed"])]
    return "\n".join([*parts, ""])


def speed_table(speed: dict[str, Any]) -> str:
    lines = []
    for name in ("small", "deit_tiny"):
        case = speed[name]
        for job in ("forward 1", "forward 64", "training 64"):
            row = case[job]
            lines.append([
                f"{name}, {job}",
                f"{row['ms']['plain']:.2f}",
                *(
                    f"**{row[form]['median']:.2f}** ({row[form]['min']:.2f}-{row[form]['max']:.2f})"
                    for form in ("adaptive", "static")
                ),
                *(f"{case['gmacs']['plain'] / case['gmacs'][form]:.2f}" for form in ("adaptive", "static")),
            ])  # fmt: skip
    host = speed["machine"]
    header = ["job and batch", "plain, ms", "adaptive, times as fast", "static, times as fast", "adaptive, times fewer "
              "products", "static, times fewer products"]  # fmt: skip
    return "\n".join([
        f"{host['cpu']}, {host['cores']} cores, load before the start {host['load_average']}, {speed['rounds']} "
        "rounds; budgets of the adaptive and the static form: {} and {} of 50 tokens, {} and {} of 197.".format(
            *speed["small"]["budgets"], *speed["deit_tiny"]["budgets"]
        ),
        "",
        markdown_table(header, lines),
    ])  # fmt: skip


def draw_curve(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = results["rows"]
    figure, axis = pyplot.subplots(figsize=(7.2, 4.2))
    for kind, color in (("off the shelf", "#9aa5b1"), ("trained on", "#1f8a70")):
        points = sorted(
            (row["mmacs"], 100 * row["accuracy"], key) for key, row in rows.items() if key.startswith(f"{kind}/")
        )
        label = f"sampling, {title(kind)}"
        axis.plot(*zip(*((x, y) for x, y, _ in points), strict=True), "o-", color=color, label=label)
        for x, y, key in points:
            budget = key.split("/")[1].replace("None", "50")
            below = kind == "off the shelf"
            axis.annotate(budget, (x, y), textcoords="offset points", xytext=(8, -5 if below else 5), fontsize=8)
            if budget == str(half_point(results, kind)):
                axis.plot(x, y, "o", ms=14, mfc="none", mec="#c8553d", mew=1.6)
    for key, size, color in ((PLAIN, 11, "#9aa5b1"), (TUNED_PLAIN, 6, "#1f8a70")):  # the two may coincide
        axis.plot(rows[key]["mmacs"], 100 * rows[key]["accuracy"], "s", ms=size, color=color, label=title(key))
    half = rows[PLAIN]["mmacs"] / 2
    axis.axvline(half, color="#c8553d", lw=1, ls="--")
    axis.annotate(
        "half the products", (half, axis.get_ylim()[0]), textcoords="offset points", xytext=(4, 4), fontsize=8,
        color="#c8553d",
    )  # fmt: skip
    axis.set_xlabel("MMAC per image, averaged over the test images (numbers: budget of tokens)")
    axis.set_ylabel("top-1 on the test images, %")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    save(figure, path)


def draw_patches(options: argparse.Namespace, results: dict[str, Any], path: Path) -> None:
    """Plot test images, and the remaining patches after every second sampling block."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    import wavemix_tf as wm

    budget, blocks = half_point(results), blocks_of(options.depth)
    model = wm.with_token_sampling(trained(options), blocks, budget)
    images, labels = wm.training.load_data(recipe(options, "token_sampling", tuning=False)).sample("test", 200)
    chosen = [int(np.flatnonzero(labels == label)[0]) for label in range(PICTURES)]
    images = images[chosen]
    left = wm.surviving_patches(model, images)
    shown = range(0, len(blocks), 2)
    figure, axes = pyplot.subplots(len(shown) + 1, PICTURES, figsize=(1.3 * PICTURES, 1.4 * (len(shown) + 1)))
    for column, image in enumerate(images):
        for row, index in enumerate((None, *shown)):
            mask = np.ones(image.shape[:2]) if index is None else np.kron(left[column, index], np.ones((PATCH, PATCH)))
            picture = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
            dimmed = 0.3 * picture + 0.7 * np.array(REMOVED)
            axes[row, column].imshow(np.where(mask[..., None] > 0, picture, dimmed), vmin=0, vmax=1)
            axes[row, column].set_xticks([])
            axes[row, column].set_yticks([])
            if column == 0:
                label = "image" if index is None else f"block {blocks[index]}"
                axes[row, column].set_ylabel(label, fontsize=8)
            if index is not None:
                axes[row, column].set_xlabel(f"{int(left[column, index].sum())} patches", fontsize=7, labelpad=2)
    save(figure, path)


def save(figure: Any, path: Path) -> None:

    figure.tight_layout()
    save_figure(figure, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for token_sampling.*")
    parser.add_argument("--stage", choices=STAGES, help="run only this stage")
    parser.add_argument("--data-dir", help="folder of prepared TFDS data; default: that of TFDS")
    parser.add_argument("--doc", type=Path, help=f"page whose lines between two {MARK} are replaced by the tables")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--train-images", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--tuning-epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each form's turn in a round")
    options = parser.parse_args()
    options.folder = options.out / "token_sampling"
    options.folder.mkdir(parents=True, exist_ok=True)
    record = options.out / "token_sampling.json"
    settings = {name: getattr(options, name) for name in SETTINGS}
    results: dict[str, Any] = {"settings": settings, "machine": machine(), "rows": {}}
    if record.exists():
        found = json.loads(record.read_text())
        if found["settings"] != settings:
            print(f"{record} holds a run with other settings: use another --out. Received: {settings}")
            return 1
        results = found

    def keep() -> None:
        write_atomically(record, json.dumps(results, indent=1))

    stages = STAGES if options.stage is None else (options.stage,)
    if "accuracy" in stages:
        measure_accuracy(options, results, keep)
    if "speed" in stages:
        measure_speed(options, results, keep)
    if "draw" in stages:
        write_atomically(options.out / "token_sampling.md", table(results))
        draw_curve(results, options.out / "token_sampling.png")
        draw_patches(options, results, options.out / "token_sampling_patches.png")
        if options.doc is not None:
            before, _, after = options.doc.read_text(encoding="utf-8").split(MARK)
            write_atomically(options.doc, f"{before}{MARK}\n{table(results)}{MARK}{after}")
            for name in ("token_sampling.png", "token_sampling_patches.png"):
                write_atomically(options.doc.parent / name, (options.out / name).read_bytes())
        print("\n" + table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
