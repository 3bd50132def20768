"""Images per second of the input pipeline: ours, tf.data written by hand, and PyTorch's DataLoader, side by side.

    python benchmarks/input_pipeline.py --peer-python .venv-peers/bin/python --out runs/benchmarks

Generates JPEG pictures with the spectrum of photographs (the same in every call), and the same files as a TFDS dataset
in TFRecord and in ArrayRecord. Every contender reads them, decodes, resizes with antialiasing, applies RandAugment (two
of 14 operations for each picture) and MixUp, and returns float32 batches; none trains. `input_peers.py` has the peers.
The DataLoader reads the folder. Its interpreter needs torchvision.

Every turn starts its iterator anew and does not count the first batches. CPU time includes the DataLoader's processes.
A contender that takes three times as long as the fastest peer is dropped after one turn.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import input_pictures
from report import markdown_table, spread
from side_by_side import FOLDER, Contender, compete, fastest, machine, ratio, warn_if_busy, write_atomically

SOURCES = ("folder", *input_pictures.FORMATS)
TITLES = {"folder": "JPEG folder", "tfrecord": "TFRecord", "array_record": "ArrayRecord"}
SLOWEST = 3.0  # times the fastest of its side: dropped after one turn
GOALS = {"tf.data": 1.0, "DataLoader": 0.8}


def contenders(source: str, options: argparse.Namespace, pictures: Path) -> list[Contender]:
    worker = str(FOLDER / "input_worker.py")
    common = {"source": source, "pictures": str(pictures), "side": options.side, "batch": options.batch}
    common |= {"threads": options.threads, "keras": False, "pil": False}
    found = []

    def add(name: str, side: str, **arguments: Any) -> None:
        python = options.peer_python if side == "DataLoader" else sys.executable
        command = [python, worker, json.dumps(common | {"side_of": side} | arguments)]
        found.append(Contender(name, side == "ours", command, {"TF_CPP_MIN_LOG_LEVEL": "3"}))

    add("ours", "ours")
    add("tf.data", "tf.data")
    add("tf.data, keras.layers.RandAugment", "tf.data", keras=True)
    if source == "folder":
        add("DataLoader, torchvision.io", "DataLoader")
        add("DataLoader, Pillow", "DataLoader", pil=True)
    return found


def summarize(found: list[Contender], batch: int) -> dict[str, Any]:
    summary: dict[str, Any] = {"contenders": {}, "ratios": {}}
    for one in found:
        row: dict[str, Any] = {"failed": one.failed, "dropped": one.dropped}
        if not one.failed:
            rates = [batch * 1e3 / ms for ms in one.rounds_ms]
            row |= {"images_per_s": batch * 1e3 / one.median_ms, "rounds": rates}
            row["cpu_ms_per_image"] = min(one.cpu_ms) / batch
        summary["contenders"][one.name] = row
    mine = fastest(found, ours=True)
    for kind in GOALS:
        peer = fastest([one for one in found if one.name.startswith(kind)], ours=False)
        if mine and peer:
            summary["ratios"][kind] = {"peer": peer.name, **ratio(peer, mine)}
    return summary


def tables(results: dict[str, Any]) -> str:
    ratios, rows = [], []
    for source, summary in results["sources"].items():
        for kind, row in summary["ratios"].items():
            reached = "yes" if row["median"] >= GOALS[kind] else "no"
            ratios.append(
                [TITLES[source], row["peer"], f"**{row['median']:.2f}** ({spread(row)})", f"{GOALS[kind]}", reached]
            )
        for name, row in summary["contenders"].items():
            if row["failed"]:
                rows.append([TITLES[source], name, f"failed: {row['failed']}"])
                continue
            turn = ", dropped after one turn" if row["dropped"] else ""
            rate = f"{row['images_per_s']:,.0f} ({min(row['rounds']):,.0f}-{max(row['rounds']):,.0f}){turn}"
            rows.append([TITLES[source], name, rate, f"{row['cpu_ms_per_image']:.2f}"])
    host, settings, pictures = results["machine"], results["settings"], results["pictures"]
    return "\n".join(
        [
            f"Input pipeline on {host['cpu']}, {settings['threads']} threads (processes), {settings['rounds']} rounds; "
            f"load before the start {host['load_average']}. {pictures['count']:,} JPEG pictures of "
            f"{pictures['side']}x{pictures['side']} ({pictures['bytes'] / pictures['count'] / 1024:.0f} KiB each), "
            f"to {settings['side']}x{settings['side']}, batch {settings['batch']}.",
            "",
            markdown_table(["pictures", "fastest of the peer", "ours, times as fast", "goal", "reached"], ratios),
            "",
            markdown_table(["pictures", "contender", "images/s (rounds)", "CPU ms per image"], rows),
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for input_pipeline.{json,md}")
    parser.add_argument("--pictures", type=Path, help="folder of the generated pictures (default: OUT/pictures)")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--stored-side", type=int, default=256, help="of the JPEG files, in pixels")
    parser.add_argument("--side", type=int, default=224, help="of the network's images, in pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each contender's turn in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch and torchvision")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warn_if_busy()
    host = machine()
    pictures = options.pictures or options.out / "pictures"
    made = input_pictures.make(pictures, options.count, options.stored_side)
    log = options.out / "input_pipeline.log"
    log.unlink(missing_ok=True)
    settings = {name: getattr(options, name) for name in ("side", "batch", "rounds", "seconds", "threads")}
    results: dict[str, Any] = {"machine": host, "settings": settings, "pictures": made, "sources": {}}
    for source in options.sources:
        print(TITLES[source], flush=True)
        found = contenders(source, options, pictures.resolve())
        say = lambda line: print(line, flush=True)  # noqa: E731
        compete(found, options.rounds, options.seconds, log, say, slowest=SLOWEST)
        results["sources"][source] = summarize(found, options.batch)
        # After every source: an interrupted run keeps what it has.
        write_atomically(options.out / "input_pipeline.json", json.dumps(results, indent=1))
        write_atomically(options.out / "input_pipeline.md", tables(results))
    print("\n" + tables(results))
    complete = all("tf.data" in summary["ratios"] for summary in results["sources"].values())
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
