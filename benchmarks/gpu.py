"""A training step on a GPU: Keras on JAX against the official PyTorch package, in under ten minutes.

    python benchmarks/gpu.py --peer-python .venv-peers/bin/python --out runs/benchmarks

This interpreter needs `pip install "jax[cuda12]" keras` and this package, and no TensorFlow; the peers' needs PyTorch
with CUDA, `wavemix==0.2.4` and einops. Every batch of every contender has a process of its own, alone on the GPU.
Reported are

- the throughput and the peak memory at one batch size that all contenders share (`--batch`);
- the largest batch, a power of two, that fits into the device's memory, with its throughput and memory.

The contenders are ours (mixed_bfloat16 and float32, each setting of `recompute`) and the official network
(`torch.compile` and eager, bfloat16 autocast and float32, and with `torch.utils.checkpoint`). float32 may use TF32 on
both sides. Both copy every batch from the host. Peak memory is what the frameworks' allocators count.

The most important contenders come first. When `--minutes` are over, the remaining ones are dropped and the table names
them. A second call with the same `--out` measures only what is missing. `--device cpu --tiny` tries the script itself
on a CPU in a few minutes; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nets import NETS
from report import markdown_table
from side_by_side import FOLDER, Contender, write_atomically

LEAST_SECONDS = 40.0  # a contender gets no less, and is not started for less
MEMORY_SHARE = 0.92  # of the device, for both sides: the rest is the context's
PEER = "official bfloat16 compiled"
# In order of importance: (passes of) name -> arguments of the worker.
PASSES: tuple[dict[str, dict[str, Any]], ...] = (
    {
        "ours bfloat16": {"policy": "mixed_bfloat16", "recompute": "none"},
        PEER: {"bfloat16": True, "compile": True},
    },
    {
        "ours bfloat16 block": {"policy": "mixed_bfloat16", "recompute": "block"},
        "ours bfloat16 elementwise": {"policy": "mixed_bfloat16", "recompute": "elementwise"},
    },
    {
        "official bfloat16 compiled checkpoint": {"bfloat16": True, "compile": True, "checkpoint": True},
        "official bfloat16": {"bfloat16": True},
    },
    {
        "ours float32": {"policy": "float32", "recompute": "none"},
        "official float32 compiled": {"bfloat16": False, "compile": True},
        "ours float32 block": {"policy": "float32", "recompute": "block"},
        "official float32": {"bfloat16": False},
        "ours float32 elementwise": {"policy": "float32", "recompute": "elementwise"},
    },
)
# `--tiny`: to try the script.
TINY = {"width": 8, "depth": 1, "image_shape": (32, 32, 3)}
TINY_OPTIONS = {"batch": 2, "largest_batch": 8, "seconds": 0.02}

Say = Callable[[str], None]


def contender(net: str, name: str, options: argparse.Namespace) -> Contender:
    arguments = {"net": net, "device": options.device, "channels_last": True, **arguments_of(name)}
    arguments |= {"side": name.split()[0], "memory_share": MEMORY_SHARE}
    if options.tiny:
        arguments["config"] = TINY
    python = options.peer_python if arguments["side"] == "official" else sys.executable
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "XLA_PYTHON_CLIENT_MEM_FRACTION": str(MEMORY_SHARE)}
    if options.device == "cpu":
        environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    else:  # a call that goes on need not compile again
        environment["JAX_COMPILATION_CACHE_DIR"] = str((options.out / "jax_cache").resolve())
    command = [python, str(FOLDER / "gpu_worker.py"), json.dumps(arguments)]
    return Contender(name, arguments["side"] == "ours", command, environment)


def arguments_of(name: str) -> dict[str, Any]:
    return next(names[name] for names in PASSES if name in names)


def measure(one: Contender, options: argparse.Namespace, deadline: float, log_path: Path, say: Say) -> dict[str, Any]:
    """Measure a contender at the shared batch, then at growing ones until one does not fit.

    Returns:
        {"batches": batch -> answer of the worker, "largest": batch or None, "too_large": batch or None, "failed": text
        or None, "stopped": why the search for the largest batch ended early, or None}.
    """
    row: dict[str, Any] = {"batches": {}, "largest": None, "too_large": None, "failed": None, "stopped": None}
    batch: int | None = options.batch
    with log_path.open("a") as log:
        try:
            while batch is not None:
                answer = _ask(one, batch, options, deadline, log)
                if answer.get("failed"):
                    late = time.monotonic() >= deadline - 0.5  # then it was ended
                    text = "time" if late else answer["failed"]
                    row["stopped" if late or row["batches"] else "failed"] = text
                    return row
                if answer.get("out_of_memory") or _over_limit(answer, options):
                    row["too_large"] = batch
                    say(f"  {one.name}: batch {batch:,} does not fit")
                else:
                    row["batches"][str(batch)] = answer
                    row["largest"] = batch
                    rate, mib = answer["images_per_s"], answer["peak_mib"]
                    say(f"  {one.name}: batch {batch:,}: {rate:,.0f} images/s, {mib:,.0f} MiB")
                # A process for every batch: JAX cannot reset its peak, and memory that was full is in pieces.
                one.stop()
                batch = next_batch(row, options)
                if batch is not None and time.monotonic() >= deadline:
                    row["stopped"] = "time"
                    return row
        finally:
            one.stop()
    if row["largest"] is None:
        row["failed"] = "not even one image fits"
    elif row["too_large"] is None:
        row["stopped"] = f"--largest-batch {options.largest_batch}"
    return row


def next_batch(row: dict[str, Any], options: argparse.Namespace) -> int | None:
    """The next batch size to try; None at the end.

    Memory grows at most in proportion to the batch, so that the search may skip what fits for certain.
    """
    good, bad = row["largest"], row["too_large"]
    if good is None:
        return bad // 2 or None
    if bad is not None:
        return bad // 2 if bad // 2 > good else None
    answer = row["batches"][str(good)]
    limit, following = options.memory_limit_mib or answer["limit_mib"], 2 * good
    while limit and 2 * following * answer["peak_mib"] / good <= limit:
        following *= 2
    following = min(following, options.largest_batch)
    return following if following > good else None


def _over_limit(answer: dict[str, Any], options: argparse.Namespace) -> bool:
    return bool(options.memory_limit_mib and answer["peak_mib"] > options.memory_limit_mib)


def _ask(one: Contender, batch: int, options: argparse.Namespace, deadline: float, log: Any) -> dict[str, Any]:
    if one.process is None:
        one.start(log)
        ready = one.receive(max(deadline - time.monotonic(), 0.01))
        if ready.get("failed"):
            return ready
    return one.ask({"batch": batch, "seconds": options.seconds}, max(deadline - time.monotonic(), 0.01))


def turns(options: argparse.Namespace) -> Iterator[list[tuple[str, str]]]:
    """The passes: lists of (network, contender)."""
    for names in PASSES:
        yield [(net, name) for net in options.nets for name in names if name in options.contenders]


def compete(results: dict[str, Any], options: argparse.Namespace, log: Path, save: Callable[[], None]) -> None:
    """Measure what `results` lacks, pass by pass, until the time is over."""
    end = time.monotonic() + 60 * options.minutes
    say = lambda line: print(line, flush=True)  # noqa: E731
    for turn in turns(options):
        missing = [(net, name) for net, name in turn if not _is_done(results["nets"][net].get(name))]
        for index, (net, name) in enumerate(missing):
            left = end - time.monotonic()
            if left < min(LEAST_SECONDS, 60 * options.minutes / 2):
                results["nets"][net].setdefault(name, {"batches": {}, "dropped": True})
                save()
                continue
            say(f"{NETS[net].title}, {left:.0f} s left")
            # An equal part of the rest of the time for every contender of this pass, if that is enough for one.
            deadline = time.monotonic() + max(left / (len(missing) - index), min(left, LEAST_SECONDS))
            found = measure(contender(net, name, options), options, deadline, log, say)
            if found["failed"] or found["stopped"]:
                say(f"  {name}: {found['failed'] or 'stopped: ' + found['stopped']}")
            earlier = results["nets"][net].get(name, {}).get("batches", {})
            if len(found["batches"]) >= len(earlier):  # of two searches that time ended, the longer one
                results["nets"][net][name] = found
            save()


def host() -> dict[str, Any]:
    """`machine`, from a process that leaves the GPU alone; this one must not import Keras, which might take it."""
    program = "import json; from side_by_side import machine; print(json.dumps(machine()))"
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=FOLDER, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def _is_done(row: dict[str, Any] | None) -> bool:
    return bool(row) and not (row.get("dropped") or row.get("failed") or row.get("stopped") == "time")


# --- tables ------------------------------------------------------------------------------------------------------


def tables(results: dict[str, Any]) -> str:
    shared = str(results["settings"]["batch"])
    summary, rows = [], []
    for net, found in results["nets"].items():
        title = NETS[net].title
        for names in PASSES:
            rows += [[title, *_cells(name, found[name], shared)] for name in names if name in found]
        summary += _summary(title, found, shared)
    device = next((a["device"] for row in _rows(results) for a in row["batches"].values()), "no device")
    versions = {k: v for row in _rows(results) for a in row["batches"].values() for k, v in a["versions"].items()}
    dropped = [f"{NETS[net].title}: {name}" for net, found in results["nets"].items()
               for name, row in found.items() if row.get("dropped")]  # fmt: skip
    lines = [
        f"Training step on {device}; {', '.join(f'{k} {v}' for k, v in sorted(versions.items()))}; "
        f"host {results['machine']['cpu']}.",
    ]
    if results["settings"]["tiny"]:
        lines.append("**Tiny networks, to try the script: these figures mean nothing.**")
    lines += [
        "",
        markdown_table(
            [
                "network",
                "ours",
                "times as fast as torch.compile with autocast, each at its largest batch",
                f"at batch {shared}",
                f"memory ratio at batch {shared}",
                "largest batch, theirs -> ours",
            ],
            summary or [["no pair was measured"]],
        ),
        "",
        "All contenders:",
        "",
        markdown_table(
            [
                "network",
                "contender",
                f"images/s at batch {shared}",
                "MiB",
                "largest batch",
                "images/s there (runs)",
                "MiB",
                "",
            ],
            rows,
        ),
        "",
        f"Dropped, because the time was over: {'; '.join(dropped) or 'nothing'}.",
        "",
    ]
    return "\n".join(lines)


def _rows(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for found in results["nets"].values():
        yield from found.values()


def _cells(name: str, row: dict[str, Any], shared: str) -> list[str]:
    if row.get("dropped"):
        return [name, "dropped"]
    if row["failed"]:
        return [name, f"failed: {row['failed']}"]
    at = row["batches"].get(shared)
    misses = "does not fit" if row["too_large"] else ""
    cells = [name, *((f"{at['images_per_s']:,.0f}", f"{at['peak_mib']:,.0f}") if at else (misses, ""))]
    if row["largest"] is None:
        return [*cells, "", "", "", f"stopped: {row['stopped']}"]
    best = row["batches"][str(row["largest"])]
    runs = f"{min(best['runs']):,.0f}-{max(best['runs']):,.0f}"
    note = f"search stopped: {row['stopped']}" if row["stopped"] else ""
    return [*cells, f"{row['largest']:,}", f"{best['images_per_s']:,.0f} ({runs})", f"{best['peak_mib']:,.0f}", note]


def _summary(title: str, found: dict[str, Any], shared: str) -> list[list[str]]:
    peer = found.get(PEER)
    if not (peer and peer.get("largest")):
        return []
    rows = []
    for name, row in found.items():
        if not name.startswith("ours") or not row.get("largest"):
            continue
        theirs, mine = (one["batches"][str(one["largest"])] for one in (peer, row))
        cells = [title, name.removeprefix("ours "), f"**{mine['images_per_s'] / theirs['images_per_s']:.2f}**"]
        if shared in peer["batches"] and shared in row["batches"]:
            theirs, mine = peer["batches"][shared], row["batches"][shared]
            cells.append(f"{mine['images_per_s'] / theirs['images_per_s']:.2f}")
            cells.append(f"{mine['peak_mib'] / theirs['peak_mib']:.2f}" if theirs["peak_mib"] > 0 else "")
        else:
            cells += ["", ""]
        # A search that time ended may have missed a larger batch.
        sizes = [f"{one['largest']:,}{' or more' if one['stopped'] else ''}" for one in (peer, row)]
        rows.append([*cells, " -> ".join(sizes)])
    return rows


# --- the script --------------------------------------------------------------------------------------------------


def read_results(path: Path, settings: dict[str, Any], nets: list[str]) -> dict[str, Any]:
    """Results of an earlier call with the same settings, or new ones.

    Raises:
        ValueError: the earlier call had other settings.
    """
    results: dict[str, Any] = {"settings": settings, "nets": {}}
    if path.is_file():
        results = json.loads(path.read_text())
        if results["settings"] != settings:
            raise ValueError(
                f"{path} must have been written with the same settings: choose another --out. Received: {settings}, "
                f"the file has {results['settings']}"
            )
    results["machine"] = host()
    for net in nets:
        results["nets"].setdefault(net, {})
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for gpu.{json,md}")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    names = [name for names in PASSES for name in names]
    parser.add_argument("--contenders", nargs="+", choices=names, default=names)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--minutes", type=float, default=9.0, help="contenders that do not fit into it are dropped")
    parser.add_argument("--batch", type=int, default=256, help="batch size that all contenders share")
    parser.add_argument("--largest-batch", type=int, default=65_536, help="the search for the largest batch ends here")
    parser.add_argument("--memory-limit-mib", type=float, help="a batch that takes more counts as too large")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each of the three runs of a batch")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch and wavemix")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and batches, to try the script")
    options = parser.parse_args()
    if options.tiny:
        vars(options).update(TINY_OPTIONS)
    options.out.mkdir(parents=True, exist_ok=True)
    name = "gpu" + ("_tiny" if options.tiny else "") + ("_cpu" if options.device == "cpu" else "")
    path = options.out / f"{name}.json"
    fields = ("device", "tiny", "batch", "largest_batch", "memory_limit_mib", "seconds")
    try:
        results = read_results(path, {field: getattr(options, field) for field in fields}, options.nets)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2

    def save() -> None:
        write_atomically(path, json.dumps(results, indent=1))
        write_atomically(path.with_suffix(".md"), tables(results))

    compete(results, options, options.out / f"{name}.log", save)
    save()
    print("\n" + tables(results))
    wanted = next(turn for turn in turns(options) if turn)
    return 0 if all(_is_done(results["nets"][net].get(one)) for net, one in wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
