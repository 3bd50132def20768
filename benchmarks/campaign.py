"""Kills and damaged inputs: every verb resumes after ``kill -9``, and no broken file is accepted without a message.

    python benchmarks/campaign.py kills --count 100      # fit, run, tune, compare, killed at random, against whole runs
    python benchmarks/campaign.py damage --count 2000    # images, recipes, checkpoints, .tflite and state files, names

``--count`` bounds the campaign. ``--seed`` makes it repeatable: it decides what is damaged and when a process is killed
(its progress by then depends on the machine). The script prints a line per chain and a table at the end, writes both as
JSON and Markdown into ``--out``, and ends with exit code 1 if anything was wrong. Each command is a separate process,
forked from this one, which has loaded but not used TensorFlow; ``--fresh`` starts a new Python for each. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import campaign_damage
import campaign_kills
from campaign_process import Commands
from report import markdown_table
from side_by_side import write_atomically


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "damage"))
    parser.add_argument("--count", type=int, help="kills, or damaged inputs  [default: 100, or 2000]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="verbs, or kinds of inputs")
    parser.add_argument("--minutes", type=float, help="start no new case after this time")
    parser.add_argument("--out", type=Path, default=Path("runs/campaign"))
    parser.add_argument("--fresh", action="store_true", help="start a new Python per process instead of forking")
    options = parser.parse_args()
    part: Any = {"kills": campaign_kills, "damage": campaign_damage}[options.what]
    names = tuple(part.KINDS)
    for name in options.only or ():
        if name not in names:
            parser.error(f"--only takes {', '.join(names)}. Received: {name}")
    work = options.out.resolve() / options.what
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    until = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    commands = Commands(fresh=options.fresh)
    count = options.count or part.COUNT
    table, faults = part.campaign(commands, work, count, options.seed, options.only or names, until)

    text = markdown_table(table[0], [[str(cell) for cell in row] for row in table[1:]])
    print(f"\n{text}\n")
    for fault in faults:
        print(f"WRONG: {fault}")
    found = {"what": options.what, "seed": options.seed, "count": count, "table": table, "faults": faults}
    write_atomically(options.out / f"{options.what}.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomically(options.out / f"{options.what}.md", f"{text}\n".encode())
    print(f"{len(faults)} wrong. {options.out / options.what}.md and .json have the counts.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
