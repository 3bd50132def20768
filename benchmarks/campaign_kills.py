"""Kill runs repeatedly, and check that they end like a run that was never killed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from campaign_process import Commands, Ended
from PIL import Image

COUNT = 100
KILLS_OF_A_CHAIN = 6  # maximum; then the run may end
TINY = {
    "image_shape": "8x8x1",
    "model_args": '{"width": 4, "depth": 1, "stem": "patchify", "patch_size": 2}',
    "batch_size": 32,
    "warmup_epochs": 0.5,
    "qat_epochs": 2,
    "calibration_images": 32,
    "rotation": 0,
    "shift": 0,
    "ema": 0.9,
}
BUDGET = ("--budget", "2k-parameters")
KINDS: dict[str, tuple[str, ...]] = {
    "fit": ("fit", "--set", "epochs=6"),
    "run": ("run", "--set", "epochs=3"),
    "tune": ("tune", "--set", "epochs=4", "--max-trials", "3", "--epochs", "2", "--budget", "mcu:64KB-ram"),
    "compare": ("compare", "--set", "epochs=3", "--systems", "wavemix,convmixer", "--seeds", "1", *BUDGET),
}
# Fields of tables and records that depend on time or a path.
MEASURED = ("seconds", "_ms", "time", "duration", "command", "created", "date", "resumed", "cpu", "machine", "fps")


def campaign(
    commands: Commands, work: Path, count: int, seed: int, kinds: Sequence[str], until: float
) -> tuple[list[list[Any]], list[str]]:
    """Run kill chains of each verb in turn until ``count`` kills are made; return (table, faults)."""
    data = _pictures(work / "data")
    rng = random.Random(seed)
    rows: dict[str, dict[str, int]] = {}
    faults: list[str] = []
    whole: dict[str, tuple[Path, float]] = {}
    for kind in kinds:
        out = work / f"{kind}_whole"
        ended = commands.run(_words(kind, data, out), work / f"{kind}_whole.log")
        rows[kind] = {"chains": 0, "kills": 0, "in a write": 0, "equal": 0}
        if ended.code:
            faults.append(f"{kind} without a kill: {ended.last_line}")
            continue
        whole[kind] = (out, ended.seconds)
        print(f"{kind}: whole in {ended.seconds:.0f} s", flush=True)
    chain = 0
    while whole and sum(row["kills"] for row in rows.values()) < count and time.monotonic() < until:
        kind = list(whole)[chain % len(whole)]
        out, log = work / f"{kind}_{chain}", work / f"{kind}_{chain}.log"
        kills, writes, ended = _chain(commands, _words(kind, data, out), out, log, whole[kind][1], rng)
        row = rows[kind]
        row["chains"] += 1
        row["kills"] += kills
        row["in a write"] += writes
        if ended.code or ended.hung:
            wrong = [f"ended with {ended.code}: {ended.last_line}"]
        else:
            wrong = list(differences(whole[kind][0], out))
        row["equal"] += not wrong
        faults += [f"{kind}, chain {chain}, {kills} kills: {text}" for text in wrong]
        found = "equal" if not wrong else f"{len(wrong)} differences, the first: {wrong[0]}"
        print(f"{kind}, chain {chain}: {kills} kills ({writes} in a write), {found}", flush=True)
        if not wrong:
            shutil.rmtree(out)
        chain += 1
    head = ["verb", "chains", "kills", "of these in a write", "equal to the whole run"]
    return [head, *([kind, *row.values()] for kind, row in rows.items())], faults


def _words(kind: str, data: Path, out: Path) -> list[object]:
    settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    return [*KINDS[kind], *settings, "--data", data, "--out", out]


def _chain(
    commands: Commands, words: Sequence[object], out: Path, log: Path, seconds: float, rng: random.Random
) -> tuple[int, int, Ended]:
    """(number of kills, number of kills with a half-written file, end of the last process)."""
    kills = writes = 0
    for _ in range(KILLS_OF_A_CHAIN):
        before = set(_temporary(out))
        ended = commands.run(words, log, _moment(out, seconds, rng))
        if ended.code != -9 or ended.hung:
            return kills, writes, ended
        kills += 1
        writes += bool(set(_temporary(out)) - before)
    return kills, writes, commands.run(words, log)


def _moment(out: Path, seconds: float, rng: random.Random) -> Callable[[float], bool]:
    """Choose when to kill: at a random time, after a random number of changes in the folder, or during a write."""
    manner = rng.choice(("time", "time", "change", "write"))
    limit = rng.uniform(0.02, 1.05) * seconds
    wanted = rng.randint(1, 12)
    old = set(_temporary(out))
    seen = {path: path.stat().st_mtime_ns for path in _files(out)}
    changes = 0

    def now(elapsed: float) -> bool:
        nonlocal changes
        if manner == "time":
            return elapsed > limit
        if manner == "write" and elapsed > limit / 2:
            return bool(set(_temporary(out)) - old) or elapsed > 2 * seconds
        if manner == "change" and out.is_dir():
            for path in _files(out):
                try:
                    stamp = path.stat().st_mtime_ns
                except OSError:  # deleted in the meantime
                    continue
                changes += seen.get(path) != stamp
                seen[path] = stamp
        return changes >= wanted

    return now


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.rglob("*") if path.is_file())
    except OSError:  # the folder was deleted while it was listed
        return


def _temporary(folder: Path) -> Iterator[Path]:
    return (path for path in _files(folder) if ".tmp" in path.name and path.name.startswith("."))


def differences(whole: Path, killed: Path) -> Iterator[str]:
    """Differences between the folder of a killed run and that of the whole run."""
    for path in _temporary(killed):
        yield f"{path.name} was left behind"
    mine, theirs = (_contents(folder) for folder in (killed, whole))
    for name in sorted(set(mine) ^ set(theirs)):
        yield f"{name} is only in the {'killed' if name in mine else 'whole'} run"
    for name in sorted(set(mine) & set(theirs)):
        if mine[name] != theirs[name]:
            yield f"{name} differs"


def _contents(folder: Path) -> dict[str, Any]:
    """Name -> content that must be equal, per file; without TensorBoard logs and plots of measured times."""
    found = {}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if "tensorboard" in name or path.suffix in (".html", ".png", ".log", ".md") or ".tmp" in name:
            continue
        if name.startswith("keras_tuner/") or name == "costs.json":  # bookkeeping: an order, and inspected candidates
            continue
        found[name] = _content(path, folder)
    return found


def _content(path: Path, folder: Path) -> Any:
    if path.suffix == ".keras":
        return _weights(path)
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        return [{key: value for key, value in row.items() if not _is_measured(key)} for row in rows]
    if path.suffix == ".json":
        return _plain(json.loads(path.read_text(encoding="utf-8")), str(folder))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _weights(path: Path) -> dict[str, str]:
    import h5py

    with zipfile.ZipFile(path) as file:
        content = io.BytesIO(file.read("model.weights.h5"))
    found: dict[str, str] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
            found[name] = hashlib.sha256(np.ascontiguousarray(item[()]).tobytes()).hexdigest()

    with h5py.File(content, "r") as weights:
        weights.visititems(visit)
    return found


def _plain(value: Any, folder: str) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item, folder) for key, item in value.items() if not _is_measured(key)}
    if isinstance(value, list):
        return [_plain(item, folder) for item in value]
    return value.replace(folder, "OUT") if isinstance(value, str) else value


def _is_measured(name: str) -> bool:
    return any(word in name.lower() for word in MEASURED)


def _pictures(folder: Path) -> Path:
    """Write images of three patterns, 8x8 pixels, one subfolder per class."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((8, 8)) // 2 % 2
    for label, (name, pattern) in enumerate({"rows": rows, "columns": columns, "checks": rows ^ columns}.items()):
        (folder / name).mkdir(parents=True)
        for index in range(100):
            image = 0.25 + 0.5 * pattern + rng.normal(0, 0.1, (8, 8))
            picture = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
            picture.save(folder / name / f"{label}_{index:03}.png")
    return folder
