"""Milliseconds of an inference on a microcontroller, as a range that published figures span. Loads no Keras.

Every row of ``PUBLISHED`` is a measured time of a network that is public. Its cycles, divided by the instructions that
this package estimates for the same network with CMSIS-NN, give cycles for each estimated instruction: the kernels, the
memories and the compiler of the published program are part of it. A core's range is from the least to the most of its
rows, so every published figure lies inside. It is an estimate and never one number, and rests on at least two boards.
Programs without CMSIS-NN have the range of the rows that ran CMSIS-NN, if those are of two boards.

``benchmarks/published_times.py`` builds the networks and compares their instructions with this table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..names import CMSIS_NN

TINY = "https://github.com/mlcommons/tiny_results_v{}/tree/main/closed/{}"
ZOO = "https://github.com/STMicroelectronics/stm32ai-modelzoo/blob/main/image_classification/{}/README.md"
PLUMERAI = "https://blog.plumerai.com/2021/10/cortex-m-inference-software/"
# Runtimes with CMSIS-NN, and with a vendor's own kernels.
WITH_CMSIS_NN = (TFLM, TVM, ONNC) = ("TensorFlow Lite Micro 2.5, CMSIS-NN", "microTVM, CMSIS-NN", "ONNC, CMSIS-NN")
CUBE = "X-CUBE-AI"
# Network -> million instructions of its int8 file on a Cortex-M4 with CMSIS-NN, as ``instructions`` estimates them. The
# first four are those of MLPerf Tiny.
NETWORKS: dict[str, float] = {
    "ResNet-8": 29.763,
    "DS-CNN": 7.735,
    "MobileNetV1 0.25, 96x96, two classes": 24.450,
    "autoencoder 640-128-8": 0.583,
    "MobileNetV1 0.25, 96x96, five classes": 24.733,
    "MobileNetV2 0.30, 80x80": 36.469,
}


@dataclass(frozen=True)
class Published:
    """A published time.

    Args:
        network: Key of ``NETWORKS``.
        core: Key of ``boards.CORES``.
        board: Board that was measured.
        clock_mhz: Its clock.
        runtime: What ran the network.
        latency_ms: Milliseconds of one inference.
        source: Address of the figure.
    """

    network: str
    core: str
    board: str
    clock_mhz: int
    runtime: str
    latency_ms: float
    source: str

    @property
    def cycles_per_instruction(self) -> float:
        """Cycles for each estimated instruction."""
        return self.latency_ms * 1e3 * self.clock_mhz / (1e6 * NETWORKS[self.network])


@dataclass(frozen=True)
class Range:
    """A range of published figures.

    Args:
        least: Smallest value.
        most: Largest value.
        figures: Number of published figures that it rests on.
    """

    least: float
    most: float
    figures: int

    @property
    def words(self) -> str:
        """Both ends with two digits, rounded outward: "8.1 to 24"."""
        return f"{_rounded(self.least, math.floor)} to {_rounded(self.most, math.ceil)}"


def _rounded(value: float, rounding: Callable[[float], int]) -> str:
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{rounding(round(value / unit, 6)) * unit:.12g}"


# MLPerf Tiny publishes inferences a second of the networks TINY_NETWORKS.
TINY_NETWORKS = tuple(NETWORKS)[:4]


def _tiny(core: str, board: str, clock_mhz: int, runtime: str, source: str, *rates: float) -> tuple[Published, ...]:
    """The rows of one submission to MLPerf Tiny, from its inferences a second."""
    pairs = zip(TINY_NETWORKS, rates, strict=True)
    return tuple(Published(name, core, board, clock_mhz, runtime, 1e3 / rate, source) for name, rate in pairs)


NUCLEO_L4 = "NUCLEO-L4R5ZI"
PUBLISHED: tuple[Published, ...] = (
    *_tiny("cortex-m4", NUCLEO_L4, 120, TVM, TINY.format("1.1", "Krai"), 2.567, 10.018, 3.324, 116.212),
    *_tiny("cortex-m4", NUCLEO_L4, 120, ONNC, TINY.format("1.1", "Skymizer"), 3.348, 12.195, 5.808, 123.875),
    *_tiny("cortex-m4", "NUMAKER-M467HJ", 200, ONNC, TINY.format("1.1", "Nuvoton"), 5.833, 21.651, 10.132, 204.866),
    *_tiny("cortex-m4", NUCLEO_L4, 120, CUBE, TINY.format("1.3", "STMicroelectronics"), 6.036, 23.016, 11.181, 208.608),
    *_tiny("cortex-m33", "nRF5340-DK", 128, TVM, TINY.format("1.1", "Krai"), 3.147, 13.072, 4.286, 158.957),
    *_tiny(
        "cortex-m33",
        "NUCLEO-U575ZI-Q",
        160,
        CUBE,
        TINY.format("1.3", "STMicroelectronics"),
        9.133,
        34.485,
        16.873,
        311.579,
    ),
    *_tiny(
        "cortex-m7",
        "NUCLEO-H7A3ZI-Q",
        280,
        CUBE,
        TINY.format("1.2", "STMicroelectronics"),
        24.483,
        88.345,
        42.010,
        816.004,
    ),
    Published("ResNet-8", "cortex-m7", "STM32H747I-DISCO", 400, CUBE, 28.67, ZOO.format("resnetv1")),
    Published(
        "MobileNetV1 0.25, 96x96, five classes",
        "cortex-m7",
        "STM32H747I-DISCO",
        400,
        CUBE,
        29.94,
        ZOO.format("mobilenetv1"),
    ),
    Published("MobileNetV2 0.30, 80x80", "cortex-m7", "STM32F746G-DISCO", 216, TFLM, 129.0, PLUMERAI),
)


def cycles_per_instruction(core: str, runtime: str) -> Range | None:
    """Cycles for each estimated instruction; None where no range was published.

    Args:
        core: Key of ``boards.CORES``.
        runtime: One of ``names.BOARD_RUNTIMES``.
    """
    rows = [row for row in PUBLISHED if row.core == core and (runtime == CMSIS_NN or row.runtime in WITH_CMSIS_NN)]
    found = [row.cycles_per_instruction for row in rows]
    return Range(min(found), max(found), len(found)) if len({row.board for row in rows}) > 1 else None


def latency_range(instructions: int | None, core: str, runtime: str, clock_mhz: int) -> Range | None:
    """Milliseconds of an inference; None without instructions or without published figures of the core.

    Args:
        instructions: As ``estimate_instructions`` returned them for this core and these kernels.
        core: Key of ``boards.CORES``.
        runtime: One of ``names.BOARD_RUNTIMES``.
        clock_mhz: The core's clock.
    """
    cycles = cycles_per_instruction(core, runtime)
    if instructions is None or cycles is None:
        return None
    each_ms = instructions / (1e3 * clock_mhz)
    return Range(each_ms * cycles.least, each_ms * cycles.most, cycles.figures)
