"""Measure the matrix multiplication rate of this machine, the upper limit for the networks. Run by the benchmarks."""

from __future__ import annotations

import time
from typing import Any

from side_by_side import serve

SIDE = 1024
REPEATS = 20


def set_up(arguments: dict[str, Any]) -> Any:
    import torch

    torch.set_num_threads(arguments["threads"])

    def gmacs_per_s(dtype: torch.dtype) -> float:
        a, b = torch.rand(SIDE, SIDE).to(dtype), torch.rand(SIDE, SIDE).to(dtype)
        best = float("inf")
        for _ in range(REPEATS):
            start = time.perf_counter()
            torch.mm(a, b)
            best = min(best, time.perf_counter() - start)
        return SIDE**3 / best / 1e9

    peaks = {"float32": gmacs_per_s(torch.float32), "bfloat16": gmacs_per_s(torch.bfloat16)}
    return lambda request: {"gmacs_per_s": peaks}


if __name__ == "__main__":
    serve(set_up)
