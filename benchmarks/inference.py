"""Latency of one image (batch 1, one thread): the fastest ways to run the official network, against our files.

    python benchmarks/inference.py --out runs/benchmarks --peer-python PATH

Peers, all made from the official PyTorch package: PyTorch eager (NCHW and channels_last, float32 and bfloat16), ONNX
Runtime float32, litert-torch float32, and litert-torch followed by ai-edge-quantizer in int8. Ours: `android-cpu`
exports in float32 and int8. All .tflite files run in the same LiteRT. Missing peers are named; benchmarks/README.md has
the line that installs them.

All have the same weights, and their logits are compared with those of the official package. The peers' files are kept
in OUT/models and reused; remove the folder to convert them again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from nets import NETS, PEAK_MACS, Net, forward_macs
from report import bars, markdown_table, spread
from side_by_side import FOLDER, Contender, compete, fastest, machine, ratio, warn_if_busy, write_atomically

MARKS = {"float32": 1.5, "int8": 2.2}
GAIN = 1.05  # int8 counts as faster than float32 from here on
PEER_KINDS = ("onnx", "litert_float32", "litert_int8")
OUR_KINDS = ("ours_float32", "ours_int8")
TITLES = {
    "onnx": "official, ONNX Runtime float32",
    "litert_float32": "official, litert-torch float32",
    "litert_int8": "official, litert-torch, ai-edge-quantizer int8",
    "ours_float32": "ours float32",
    "ours_int8": "ours int8",
}
MODEL_TIMEOUT_S = 900


def make_models(folder: Path, python: str, kinds: tuple[str, ...], nets: list[str], log: Path) -> dict[str, Any]:
    """kind -> net -> {"file": ...} or {"failed": ...}."""
    found: dict[str, Any] = {kind: {} for kind in kinds}
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    for net in nets:
        for kind in kinds:
            command = [python, str(FOLDER / "inference_models.py"), str(folder), kind, net]
            report = {"failed": f"not converted within {MODEL_TIMEOUT_S} s"}
            with log.open("a") as errors, contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=environment,
                    timeout=MODEL_TIMEOUT_S,
                    check=False,
                )
                lines = [
                    line for line in done.stdout.splitlines() if line.startswith('{"net": ')
                ]  # not converter output
                report = json.loads(lines[-1]) if lines else {"failed": f"exit code {done.returncode}"}
            found[kind][net] = report
            print(f"  {kind} {net}: {report.get('failed') or 'written'}", flush=True)
    return found


def contenders(net: str, models: dict[str, Any], threads: int, peer_python: str) -> list[Contender]:
    worker = str(FOLDER / "inference_worker.py")
    # Otherwise OpenMP's idle threads would spin during the turn of the next contender.
    environment = {"OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = []

    def add(name: str, python: str, arguments: dict[str, Any], failed: str | None = None) -> None:
        reference = models["reference"][net].get("file", "")
        command = [python, worker, json.dumps({"threads": threads, "reference": reference} | arguments)]
        found.append(Contender(name, name.startswith("ours"), command, environment, failed=failed))

    for channels_last in (False, True):
        for bfloat16 in (False, True):
            name = f"official, PyTorch {'channels_last' if channels_last else 'NCHW'}"
            name += " bfloat16" if bfloat16 else " float32"
            arguments = {"runtime": "official", "net": net, "channels_last": channels_last, "bfloat16": bfloat16}
            add(name, peer_python, arguments)
    for kind in (*PEER_KINDS, *OUR_KINDS):
        report = models[kind][net]
        python, runtime = (peer_python, "onnx") if kind == "onnx" else (sys.executable, "tflite")
        add(TITLES[kind], python, {"runtime": runtime, "file": report.get("file", "")}, report.get("failed"))
    return found


def summarize(net: Net, found: list[Contender], peaks: dict[str, float]) -> dict[str, Any]:
    gmacs = forward_macs(net.config) / 1e9
    summary: dict[str, Any] = {"title": net.title, "contenders": {}, "comparisons": {}}
    for contender in found:
        row: dict[str, Any] = {"ours": contender.ours, "failed": contender.failed}
        if not contender.failed:
            row |= {"ms": contender.median_ms, "rounds_ms": contender.rounds_ms, "cpu_ms": contender.cpu_ms}
            row["difference"] = contender.details["difference"]
            row["gmacs_per_s"] = gmacs / contender.median_ms * 1e3
            peak = (
                None if "bfloat16" in contender.name else peaks.get("int8" if "int8" in contender.name else "float32")
            )
            row["share_of_peak"] = row["gmacs_per_s"] / peak if peak else None
        summary["contenders"][contender.name] = row
    for dtype, kind in (("float32", "ours_float32"), ("int8", "ours_int8")):
        mine = next((c for c in found if c.name == TITLES[kind] and not c.failed), None)
        # int8 is compared with all peers, float32 with all that are not int8.
        peer = fastest([c for c in found if dtype == "int8" or "int8" not in c.name], ours=False)
        if mine and peer:
            summary["comparisons"][dtype] = {"peer": peer.name, "ours": mine.name, "speed_ratio": ratio(peer, mine)}
    return summary


def tables(results: dict[str, Any]) -> str:
    """Markdown: the comparison, then every contender."""
    rows = []
    for net in results["nets"].values():
        for dtype, versus in net["comparisons"].items():
            speed = versus["speed_ratio"]
            reached = "reached" if speed["median"] >= MARKS[dtype] else "missed"
            peer, mine = (net["contenders"][versus[side]] for side in ("peer", "ours"))
            rows.append(
                [
                    net["title"],
                    dtype,
                    f"{peer['ms']:.2f} ({versus['peer'].removeprefix('official, ')})",
                    f"{mine['ms']:.2f}",
                    f"**{speed['median']:.2f}** ({spread(speed)}), mark {MARKS[dtype]}: {reached}",
                ]
            )
    first = markdown_table(["network", "our dtype", "strongest peer, ms", "ours, ms", "times as fast"], rows)
    rows = []
    for net in results["nets"].values():
        for name, row in net["contenders"].items():
            if row["failed"]:
                rows.append([net["title"], name, f"missing: {row['failed']}"])
                continue
            share = row["share_of_peak"]
            times = f"{row['ms']:.2f} ({min(row['rounds_ms']):.2f}-{max(row['rounds_ms']):.2f})"
            speed = f"{row['gmacs_per_s']:.0f}" + (f" ({share:.0%})" if share else "")
            rows.append([net["title"], name, times, speed, f"{row['difference']:.1e}"])
    second = markdown_table(["network", "contender", "ms (rounds)", "GMAC/s (of peak)", "difference"], rows)
    host = results["machine"]
    peaks = ", ".join(f"{dtype} {value:.0f}" for dtype, value in results["peak_gmacs_per_s"].items())
    return "\n".join(
        [
            f"One image, {results['threads']} thread, on {host['cpu']}; {results['rounds']} rounds; load before the "
            f"start {host['load_average']}; peak of a large 1x1 convolution under LiteRT, GMAC/s: {peaks}.",
            "",
            first,
            "",
            int8_gain(results),
            "",
            "Every contender. All have the same weights; difference: the largest difference of a logit from the",
            "official package in float32, as a share of the spread of its logits.",
            "",
            second,
            "",
        ]
    )


def int8_gain(results: dict[str, Any]) -> str:
    """A sentence: how much faster our int8 files are than our float32 files, and which are not."""
    times = {
        net["title"]: [net["contenders"][TITLES[kind]].get("ms") for kind in OUR_KINDS]
        for net in results["nets"].values()
    }
    gains = {title: pair[0] / pair[1] for title, pair in times.items() if all(pair)}
    listed = ", ".join(f"{title} {gain:.2f}" for title, gain in gains.items())
    slow = [title for title, gain in gains.items() if gain < GAIN]
    said = f"Not faster in int8 on this processor: {'; '.join(slow)}." if slow else "All are faster in int8."
    return f"Our int8 file against our float32 file, times as fast: {listed}. {said}"


def measure_peaks(folder: Path, threads: int, log: Path) -> dict[str, float]:
    """dtype -> GMAC/s of the interpreter's matrix multiplication."""
    models = make_models(folder, sys.executable, ("peak",), ["float32", "int8"], log)["peak"]
    worker = str(FOLDER / "inference_worker.py")
    found = []
    for dtype, report in models.items():
        arguments = {"runtime": "tflite", "threads": threads, "file": report.get("file", "")}
        command = [sys.executable, worker, json.dumps(arguments)]
        found.append(Contender(dtype, False, command, failed=report.get("failed")))
    compete(found, 3, 0.5, log, lambda line: print(line, flush=True))
    return {c.name: PEAK_MACS / 1e6 / min(min(turn) for turn in c.turns_ms) for c in found if not c.failed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for inference.{json,md,png}")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of each contender's turn in a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has the peers")
    options = parser.parse_args()

    models_folder = options.out / "models"
    models_folder.mkdir(parents=True, exist_ok=True)
    log = options.out / "inference.log"
    log.unlink(missing_ok=True)
    warn_if_busy()
    print("Peak", flush=True)
    results: dict[str, Any] = {"machine": machine(), "threads": options.threads, "rounds": options.rounds, "nets": {}}
    results["peak_gmacs_per_s"] = peaks = measure_peaks(models_folder, options.threads, log)
    print("Models", flush=True)
    models = make_models(models_folder, options.peer_python, ("reference",), options.nets, log)
    models |= make_models(models_folder, sys.executable, OUR_KINDS, options.nets, log)
    models |= make_models(models_folder, options.peer_python, PEER_KINDS, options.nets, log)
    for net in options.nets:
        print(NETS[net].title, flush=True)
        found = contenders(net, models, options.threads, options.peer_python)
        compete(found, options.rounds, options.seconds, log, lambda line: print(line, flush=True))
        results["nets"][net] = summarize(NETS[net], found, peaks)
        write_atomically(options.out / "inference.json", json.dumps(results, indent=1))
        write_atomically(options.out / "inference.md", tables(results))
    draw(results, options.out / "inference.png")
    print("\n" + tables(results))
    return 0 if all(len(net["comparisons"]) == len(MARKS) for net in results["nets"].values()) else 1


def draw(results: dict[str, Any], path: Path) -> None:
    panels = []
    for dtype in MARKS:
        groups = []
        for net in results["nets"].values():
            if dtype in net["comparisons"]:
                versus = net["comparisons"][dtype]
                groups.append((net["title"], *(net["contenders"][versus[side]]["ms"] for side in ("peer", "ours"))))
        panels.append((f"ours in {dtype}: ms per image", groups))
    bars(panels, ("strongest peer", "ours"), path)


if __name__ == "__main__":
    sys.exit(main())
