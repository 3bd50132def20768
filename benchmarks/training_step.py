"""Time and peak memory of a training step: the official PyTorch package against ours, side by side.

    python benchmarks/training_step.py --out runs/benchmarks

Needs the official package (benchmarks/README.md has the install line). The official package runs a plain PyTorch loop
in each of its CPU settings: NCHW and channels_last, float32 and bfloat16 autocast (the wavelet transform is excluded
from autocast, because the unmodified package fails there), each also through `torch.compile`, and, for its memory, with
`torch.utils.checkpoint` on every block. Ours runs `model.fit` in float32 and mixed_bfloat16, with every setting of
`recompute`, and the same batch, optimizer, dropout and threads.

A setting that takes more than three times as long as the fastest of its side, such as bfloat16 on a processor that
emulates it, is dropped after one short turn. Compared are the fastest setting of each side, and the memory of the
settings of `recompute` in the dtype of our fastest. Peak memory is the peak resident size of the process minus its size
with the libraries and the images loaded, before the model is built.

`--max-isa AVX2` limits both sides to the instructions of a smaller processor, as far as oneDNN and ATen obey
(ONEDNN_MAX_CPU_ISA, ATEN_CPU_CAPABILITY); the tables are marked as limited. `--only PATTERN` runs the settings whose
name matches, such as the fastest ones of a complete run on the same machine; the tables say so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from nets import NETS, Net, forward_macs
from report import bars, markdown_table, spread
from side_by_side import (
    FOLDER,
    Contender,
    compete,
    fastest,
    machine,
    measure_peak,
    ratio,
    warn_if_busy,
    write_atomically,
)

SLOWEST = 3.0  # times the fastest of its side: dropped after one turn
RECOMPUTE = ("none", "elementwise", "block")
LIMITED = {"AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}}


def contenders(net: str, threads: int, peer_python: str, jit: bool, isa: dict[str, str]) -> list[Contender]:
    common = {"net": net, "batch": NETS[net].training_batch, "threads": threads}
    worker = str(FOLDER / "training_worker.py")
    found = []

    def add(name: str, **arguments: Any) -> None:
        side = {"side": "official" if name.startswith("official") else "ours"}
        python = peer_python if side["side"] == "official" else sys.executable
        command = [python, worker, json.dumps(common | side | arguments)]
        found.append(Contender(name, side["side"] == "ours", command, {"TF_CPP_MIN_LOG_LEVEL": "3", **isa}))

    for channels_last in (False, True):
        for bfloat16 in (False, True):
            setting = {"channels_last": channels_last, "bfloat16": bfloat16}
            name = f"official {'channels_last' if channels_last else 'NCHW'} {'bfloat16' if bfloat16 else 'float32'}"
            add(name, **setting)
            add(f"{name} compiled", **setting, compile=True)
            add(f"{name} checkpoint", **setting, checkpoint=True)
    for policy in ("float32", "mixed_bfloat16"):
        for recompute in RECOMPUTE:
            again = "" if recompute == "none" else f" {recompute}"
            add(f"ours {policy}{again}", policy=policy, jit=False, recompute=recompute)
        if jit:
            add(f"ours {policy} jit", policy=policy, jit=True)
    return found


def summarize(net: Net, found: list[Contender], peaks: dict[str, float]) -> dict[str, Any]:
    gmacs = 3 * forward_macs(net.config) * net.training_batch / 1e9  # backward: twice the forward pass
    summary: dict[str, Any] = {"title": net.title, "batch": net.training_batch, "contenders": {}}
    for contender in found:
        row: dict[str, Any] = {"ours": contender.ours, "failed": contender.failed, "dropped": contender.dropped}
        if not contender.failed:
            row |= {"ms": contender.median_ms, "rounds_ms": contender.rounds_ms, "cpu_ms": contender.cpu_ms}
            row |= {"memory": contender.details["memory"], "gmacs_per_s": gmacs / contender.median_ms * 1e3}
            peak = peaks.get("bfloat16" if "bfloat16" in contender.name else "float32")
            row["share_of_peak"] = row["gmacs_per_s"] / peak if peak and peak > 1 else None  # 0: not measured
        summary["contenders"][contender.name] = row
    plain = [contender for contender in found if "checkpoint" not in contender.name]
    official, mine = fastest(plain, ours=False), fastest(found, ours=True)
    if official and mine:
        policy = mine.name.split()[1]
        saving = fastest([contender for contender in found if "checkpoint" in contender.name], ours=False)
        ours = {c.name: c for c in found if c.name.split()[:2] == ["ours", policy] and c.turns_ms and not c.dropped}
        summary["comparison"] = {"official": official.name, "ours": mine.name, "settings": []}
        for name, contender in ours.items():
            row = {"name": name, "speed_ratio": ratio(official, contender), "memory_ratio": over(contender, official)}
            if saving:
                row |= {"checkpoint": saving.name, "checkpoint_speed_ratio": ratio(saving, contender)}
                row["checkpoint_memory_ratio"] = over(contender, saving)
            summary["comparison"]["settings"].append(row)
    return summary


def over(one: Contender, other: Contender) -> float:
    """Memory of one contender over its baseline, as a multiple of another's."""
    return one.details["memory"]["over_baseline_mib"] / other.details["memory"]["over_baseline_mib"]


def tables(results: dict[str, Any]) -> str:
    """Markdown: the comparison, then every contender."""
    rows = []
    for net in results["nets"].values():
        if "comparison" not in net:
            rows.append([net["title"], "a contender is missing, see below"])
            continue
        official = net["contenders"][net["comparison"]["official"]]
        for row in net["comparison"]["settings"]:
            mine, speed = net["contenders"][row["name"]], row["speed_ratio"]
            saving = net["contenders"].get(row.get("checkpoint"))
            cells = [
                net["title"],
                f"{official['ms']:.0f} ({net['comparison']['official'].removeprefix('official ')})",
                f"{mine['ms']:.0f} ({row['name'].removeprefix('ours ')})",
                f"**{speed['median']:.2f}** ({spread(speed)})",
                f"{official['memory']['over_baseline_mib']:.0f}",
                f"{mine['memory']['over_baseline_mib']:.0f}",
                f"**{row['memory_ratio']:.2f}**",
            ]
            if saving:
                speed = row["checkpoint_speed_ratio"]
                cells += [
                    f"{saving['ms']:.0f} ms, {saving['memory']['over_baseline_mib']:.0f} MiB",
                    f"{speed['median']:.2f} ({spread(speed)}), {row['checkpoint_memory_ratio']:.2f}",
                ]
            rows.append(cells)
    first = markdown_table(
        ["network", "official, ms", "ours, ms", "times as fast", "official, MiB", "ours, MiB", "memory ratio",
         "official with checkpoint", "speed and memory against that"],
        rows,
    )  # fmt: skip
    rows = []
    for net in results["nets"].values():
        for name, row in net["contenders"].items():
            if row["failed"]:
                rows.append([net["title"], name, f"failed: {row['failed']}"])
                continue
            memory, share = row["memory"], row["share_of_peak"]
            time = f"{row['ms']:.1f} ({min(row['rounds_ms']):.1f}-{max(row['rounds_ms']):.1f})"
            rows.append(
                [
                    net["title"],
                    name,
                    f"{row['ms']:.0f}, dropped after one turn" if row["dropped"] else time,
                    f"{min(row['cpu_ms']):.0f}",
                    f"{row['gmacs_per_s']:.0f}" + (f" ({share:.0%})" if share else ""),
                    f"{memory['over_baseline_mib']:.0f}",
                    f"{memory['peak_mib']:.0f}",
                ]
            )
    second = markdown_table(
        [
            "network",
            "contender",
            "ms per step (rounds)",
            "CPU ms",
            "GMAC/s (of peak)",
            "MiB over baseline",
            "total MiB",
        ],
        rows,
    )
    host = results["machine"]
    peaks = ", ".join(f"{dtype} {value:.0f}" for dtype, value in results["peak_gmacs_per_s"].items())
    limited = f" Limited to {results['max_isa']}, as far as oneDNN and ATen obey." if results["max_isa"] else ""
    return "\n".join(
        [
            f"Training step on {host['cpu']}, {results['threads']} threads, {results['rounds']} rounds; "
            f"load before the start {host['load_average']}; "
            f"matrix multiplication peak, GMAC/s: {peaks or 'not measured'}.{limited}",
            "The fastest setting of each side; memory is that over the libraries and the images."
            + (f" Only settings that match {results['only']}." if results["only"] else ""),
            "",
            first,
            "",
            "All settings:",
            "",
            second,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks"), help="folder for training_step.{json,md,png}"
    )
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of each contender's turn in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch and wavemix")
    parser.add_argument("--only", metavar="PATTERN", default="", help="regular expression for names of settings")
    parser.add_argument("--jit", action="store_true", help="also ours with jit_compile=True (minutes to compile)")
    parser.add_argument("--max-isa", choices=LIMITED, help="limit both sides to these instructions")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    name = "training_step" + (f"_{options.max_isa.lower()}" if options.max_isa else "")
    log = options.out / f"{name}.log"
    log.unlink(missing_ok=True)
    warn_if_busy()
    isa = LIMITED.get(options.max_isa, {})
    os.environ |= isa  # for the measurement of the peak
    results: dict[str, Any] = {"machine": machine(), "threads": options.threads, "rounds": options.rounds, "nets": {}}
    results |= {"max_isa": options.max_isa, "only": options.only}
    results["peak_gmacs_per_s"] = peaks = measure_peak(options.peer_python, options.threads, log)
    for net in options.nets:
        print(f"{NETS[net].title}, batch {NETS[net].training_batch}", flush=True)
        every = contenders(net, options.threads, options.peer_python, options.jit, isa)
        found = [contender for contender in every if re.search(options.only, contender.name)]
        say = lambda line: print(line, flush=True)  # noqa: E731
        compete(found, options.rounds, options.seconds, log, say, slowest=SLOWEST)
        results["nets"][net] = summarize(NETS[net], found, peaks)
        # After every network: an interrupted run keeps what it has.
        write_atomically(options.out / f"{name}.json", json.dumps(results, indent=1))
        write_atomically(options.out / f"{name}.md", tables(results))
    draw(results, options.out / f"{name}.png")
    print("\n" + tables(results))
    return 0 if all("comparison" in net for net in results["nets"].values()) else 1


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the fastest settings of both sides, and the memory of ours with the block computed again."""
    times, memory = [], []
    for net in results["nets"].values():
        if "comparison" not in net:
            continue
        official, found = net["contenders"][net["comparison"]["official"]], net["comparison"]["settings"]
        mine = net["contenders"][net["comparison"]["ours"]]
        least = min(
            (net["contenders"][row["name"]] for row in found), key=lambda row: row["memory"]["over_baseline_mib"]
        )
        times.append((net["title"], official["ms"], mine["ms"]))
        memory.append((net["title"], *(row["memory"]["over_baseline_mib"] for row in (official, least))))
    panels = [("ms per step", times), ("peak MiB, ours in its most frugal setting", memory)]
    bars(panels, ("official PyTorch, fastest setting", "ours"), path)


if __name__ == "__main__":
    sys.exit(main())
