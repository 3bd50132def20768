"""Parameters and multiply-accumulates of every named network, compared with its paper.

    python benchmarks/sizes.py [--only NAME ...]

Prints the table of docs/published.md; tests/test_published_sizes.py checks the counts against the published figures.
Only shapes are computed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """The figures of a network in a paper, or in its authors' code.

    Args:
        source: Source of the figures.
        parameters: Trainable parameters, as printed: an integer is exact, a string is in millions with the printed
            digits; None: not printed.
        giga_macs: As printed, with its digits, at the image size of ``VARIANTS``; None: not printed.
        arguments: Arguments in addition to the row's, for example the number of classes behind the figure.
    """

    source: str
    parameters: int | str | None = None
    giga_macs: str | None = None
    arguments: tuple[tuple[str, Any], ...] = ()


README = "official README"
SCRIPT = "counted in the authors' script"
TIMM = "the state dict of timm's network"
DYNAMIXER = "arXiv 2201.12083 and its code"
PUBLISHED: dict[str, Published] = {
    "wavemix_lite_8_10_up": Published(README, 3_566),
    "wavemix_lite_8_5": Published(README, 7_156),
    "wavemix_lite_32_7": Published("–"),
    "wavemix_lite_32_7_up": Published(README, 37_058),
    "wavemix_lite_64_6": Published(README, 520_106),
    "wavemix_lite_112_16": Published("–"),
    "wavemix_lite_128_7": Published("–"),
    "wavemix_lite_144_7": Published(README, 3_042_550),
    "wavemix_lite_256_8": Published(README, "10.95"),
    "wavemix_lite_256_10": Published(README, "13.61"),
    "wavemix_lite_256_12": Published(README, "16.29"),
    "wavemix_lite_320_8": Published(README, "17.07"),
    "wavemix_192_16_l1_p4": Published(README, "12.49"),
    "wavemix_192_16_l3_p4": Published(README, "27.86"),
    "wavemix_256_16_l3_p4": Published(README, "49.42"),
    "wavemix_256_16_l4_s2": Published(README, "62.76"),
    "wavemix_256_12_l2_p8": Published(README, "28.45"),
    "wavemix_v1_128_7": Published(SCRIPT, 14_241_130),
    "wavemix_v1_256_7": Published(SCRIPT, 57_154_728),
    "wavemix_v3_144_16": Published(SCRIPT, 4_748_464),
    "wavemix_seg_256_16_l4": Published("arXiv 2205.14375, table 3", "63.16"),
    "wavemix_seg_192_16_l3": Published(SCRIPT, 28_190_388),
    "wavemix_sisr_144_4": Published(SCRIPT, 1_944_867, arguments=(("image_shape", (64, 64, 3)),)),
    "wavemixsr_144_4": Published("arXiv 2307.00430, table 1", "1.7", arguments=(("image_shape", (64, 64, 3)),)),
    "wavemixsr_v2": Published(SCRIPT, 780_985, arguments=(("image_shape", (64, 64, 3)),)),
    "convmixer_256_8": Published("arXiv 2201.09792, appendix", "0.7"),
    "convmixer_768_32": Published("arXiv 2201.09792, table 1", "21.1"),
    "mlp_mixer_s16": Published(TIMM, 18_528_264),
    "mlp_mixer_b16": Published(TIMM, 59_880_472),
    "poolformer_s12": Published("arXiv 2111.11418, table 1", "11.9", "1.8"),
    "poolformer_s24": Published("arXiv 2111.11418, table 1", "21.4", "3.4"),
    "deit_tiny": Published(f"{TIMM}; products: arXiv 2111.15667", 5_717_416, "1.3"),
    "deit_small": Published(f"{TIMM}; products: arXiv 2111.15667", 22_050_664, "4.6"),
    "deit_base": Published(f"{TIMM}; products: arXiv 2012.12877", 86_567_656, "17.6"),
    "dynamixer_s": Published(DYNAMIXER, "26.27", "7.30"),
    "dynamixer_m": Published(DYNAMIXER, "57.13", "16.98"),
    "dynamixer_l": Published(DYNAMIXER, "97.82", "27.34"),
}


def as_printed(value: float, printed: str) -> str:
    """``value`` with as many decimals as ``printed`` has."""
    return f"{value:.{len(printed.partition('.')[2])}f}"


def agrees(found: Any, published: Published) -> bool:
    """Whether a profile equals the published figures to their last digit."""
    parameters, macs = published.parameters, published.giga_macs
    if isinstance(parameters, int):
        same = found.parameters == parameters
    else:
        same = parameters is None or as_printed(found.parameters / 1e6, parameters) == parameters
    return same and (macs is None or as_printed(found.macs / 1e9, macs) == macs)


def profile_of(name: str) -> tuple[Any, Any]:
    """(network, its profile) of a name, at the published image size."""
    import wavemix_tf as wm

    model = wm.build_model(name, **dict(PUBLISHED[name].arguments))
    return model, wm.profile(model)


def row(name: str) -> str:
    """One line of the table."""
    published = PUBLISHED[name]
    model, found = profile_of(name)
    parameters, macs = published.parameters, published.giga_macs
    printed = "–" if parameters is None else f"{parameters:,}" if isinstance(parameters, int) else f"{parameters} M"
    shape = "x".join(map(str, model.input_shape[1:]))
    return (
        f"| `{name}` | {shape} | {found.parameters:,} | {printed} | {found.macs / 1e9:.3f} | {macs or '–'} "
        f"| {published.source} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    arguments = parser.parse_args()
    print("| name | image | parameters | published | GMAC | published | source |\n|---|---|---|---|---|---|---|")
    for name in arguments.only:
        print(row(name), flush=True)


if __name__ == "__main__":
    sys.exit(main())
