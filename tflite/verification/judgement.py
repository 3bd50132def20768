"""Comparison of a file's outputs with those of the float model, in measures without a scale.

``verifier.py`` checks whether a file computes what it should, in steps of its own output; a file whose steps are too
coarse for the network passes that check. Here each output is compared with the float network, whatever the output is:
logits of classes, a single logit, a number, a mask, a map of peaks, a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FidelityError

MIN_SNR_DB = 10.0  # an error of a third of the output's spread
WARN_SNR_DB = 20.0  # 20 dB: an error of a tenth
MIN_AGREEMENT = 0.9
WARN_AGREEMENT = 0.98
MIN_IMAGES = 32
MIN_JUDGED = 0.5  # share of the images that must be conclusive
MAX_SNR_DB = 200.0  # also the value for equality
MARGIN_STEPS = 2.0  # the effect of rounding, in steps of 1/255 of the output's range
RARE = 0.05  # share of the images that differ most; ``typical_db`` excludes them
PEAK_RADIUS = 3  # pixels: a peak is the largest value of a window of 7 x 7
# Share of the map's range by which a peak must exceed the map's minimum, and all values but its 8 neighbors.
PEAK_HEIGHT, PEAK_MARGIN = 0.5, 0.25
MAX_PEAKS = 20_000


@dataclass(frozen=True)
class Agreement:
    """Agreement of a file with the model in one kind of decision.

    Args:
        what: "top-1 class", "sign" (on which side of 0, or of 0.5 for an output that is a share), "peaks" (of a
            map: found again within a pixel) or "index" (of an integer output: the same number).
        share: Share of the counted places where both agree.
        counted: Places where the model's own margin exceeds the rounding: images, pixels or peaks.
    """

    what: str
    share: float
    counted: int


@dataclass(frozen=True)
class OutputReport:
    """One output of a file in one runtime against a Keras model.

    Args:
        name: Of the output.
        snr_db: Power of the output's variation over the images (the model's, less its mean over them), divided by that
            of the difference, each a mean (of the difference over those that ran), in dB: 20 dB is an error of a tenth
            of the spread, and 6 dB less doubles the error. At most 200; None where the model's output hardly depends on
            the image, and for integers.
        typical_db: The same without the 5 % of images that differ most from the mean; None in the same cases, and where
            no other image ran.
        least_channel_db: The same for the channel of the last axis where it is least; None where there is one channel,
            where all values lie in [0, 1], and as above.
        least_channel: Its index.
        agreements: Agreement in decisions; empty where the output has none.
        judged: Conclusive images: those whose margin of the top-1 class exceeds rounding, or all; 0 where the model's
            output hardly depends on the image.
    """

    name: str
    snr_db: float | None
    typical_db: float | None
    least_channel_db: float | None
    least_channel: int | None
    agreements: tuple[Agreement, ...]
    judged: int


def measure(
    name: str,
    expected: np.ndarray,
    found: np.ndarray,
    decides: bool = False,
    certain: np.ndarray | None = None,
    margin: float = 0.0,
    integer: bool = False,
) -> OutputReport:
    """Compare one output.

    Args:
        name: Of the output.
        expected: (N, ..., C) of the Keras model.
        found: (M, ..., C) of the file, its first M <= N images.
        decides: Whether the last axis is classes, or the logit or share of one; False for a picture, for example.
        certain: (N, ...) whether the top-1 class has a margin above rounding; needed where there are several classes.
        margin: Largest change of a logit or share by rounding.
        integer: Whether the numbers are indices, which are either equal or different.
    """
    if expected.ndim == 1:
        expected, found = expected[:, None], found[:, None]
    count, several = len(found), expected.shape[-1] > 1
    judged = count
    if decides and several and certain is not None:
        judged = int(certain[:count].reshape(count, -1).any(1).sum())
    if integer and (expected != expected[:1]).any():
        same = found == expected[:count]
        return OutputReport(name, None, None, None, None, tuple(_share("index", same, same | True)), count)
    if integer or not depends_on_the_image(expected):
        return OutputReport(name, None, None, None, None, (), 0)
    # The signal is that of all images: a single one, or a few similar ones, do not show the spread.
    signal, noise = _signal(expected), _power(found - expected[:count])
    snr = _decibels(signal.mean(0).sum(), noise.mean(0).sum())
    kept = np.sort(np.argsort(signal.sum(1), kind="stable")[: max(1, int(np.ceil(len(expected) * (1 - RARE))))])
    ran = kept[kept < count]
    typical = None
    if len(ran):
        typical = _decibels(_signal(expected[kept]).mean(0).sum(), noise[ran].mean(0).sum())
    least, channel = None, None
    if signal.shape[1] > 1 and not _are_shares(expected):
        channels = [_decibels(*pair) for pair in zip(signal.mean(0), noise.mean(0), strict=True)]
        channel = int(np.argmin(channels))
        least = channels[channel]
    agreements: list[Agreement] = []
    if decides and several and certain is not None:
        same = found.argmax(-1) == expected[:count].argmax(-1)
        agreements += _share("top-1 class", same, certain[:count])
    elif decides and not several:
        agreements += _signs(expected, found, margin)
    if expected.ndim == 4:
        agreements += _peaks(expected, found)
    return OutputReport(name, snr, typical, least, channel, tuple(agreements), judged)


def snr_db(expected: np.ndarray, found: np.ndarray) -> float | None:
    """``OutputReport.snr_db`` of two arrays (N, ...)."""
    if not depends_on_the_image(expected):
        return None
    count = len(expected)
    wanted, given = (part.reshape(count, -1, 1) for part in (expected, found))
    return _decibels(_signal(wanted).sum(), _power(given - wanted).sum())


def depends_on_the_image(expected: np.ndarray) -> bool:
    """Whether some value varies between images by more than the finest 8-bit rounding of the output."""
    step = max(float(np.ptp(expected)) / 255, 1e-5 * float(np.abs(expected).max()), 1e-12)
    return float(np.ptp(expected, axis=0).max()) > MARGIN_STEPS * step


def _power(values: np.ndarray) -> np.ndarray:
    """(N, channels): summed over all axes between the image and the channel."""
    return np.square(values.reshape(len(values), -1, values.shape[-1]), dtype=np.float64).sum(1)


def _signal(expected: np.ndarray) -> np.ndarray:
    """(N, channels): power of the difference from the mean over the images."""
    return _power(expected - expected.mean(0, dtype=np.float64).astype(np.float32))


def _decibels(signal: float, noise: float) -> float:
    if not np.isfinite(noise):
        return -MAX_SNR_DB
    if noise <= signal * 10 ** (-MAX_SNR_DB / 10):
        return MAX_SNR_DB
    return float(10 * np.log10(max(signal / noise, 10 ** (-MAX_SNR_DB / 10))))


def _are_shares(expected: np.ndarray) -> bool:
    """Whether an output is probabilities: a class that hardly ever occurs needs no SNR."""
    return bool(expected.min() >= 0 and expected.max() <= 1)


def _share(what: str, same: np.ndarray, counted: np.ndarray) -> list[Agreement]:
    return [Agreement(what, float(same[counted].mean()), int(counted.sum()))] if counted.any() else []


def _signs(expected: np.ndarray, found: np.ndarray, margin: float) -> list[Agreement]:
    centre = 0.5 if _are_shares(expected) else 0.0
    if not expected.min() < centre < expected.max():
        return []
    wanted = expected[: len(found)] - centre
    return _share("sign", (wanted > 0) == (found > centre), np.abs(wanted) > margin)


def _peaks(expected: np.ndarray, found: np.ndarray) -> list[Agreement]:
    """Share of the peaks of maps (N, H, W, C) that are found again, each within a pixel.

    Plateaus, which clipping produces, have no peak.
    """
    side = 2 * PEAK_RADIUS + 1
    if min(expected.shape[1:3]) < side + 1:
        return []
    wanted = expected[: len(found)]
    low, high = expected.min((0, 1, 2)), expected.max((0, 1, 2))
    reach = np.maximum(high - low, 1e-12)
    high_enough = wanted >= low + PEAK_HEIGHT * reach
    places = np.argwhere(high_enough & (wanted == _largest_around(wanted)))
    if not len(places):
        return []
    places = places[:: -(-len(places) // MAX_PEAKS)]
    windows = _windows(wanted, places)
    centre = windows[:, PEAK_RADIUS, PEAK_RADIUS].copy()
    inner = slice(PEAK_RADIUS - 1, PEAK_RADIUS + 2)
    windows[:, inner, inner] = -np.inf
    sharp = centre - windows.max((1, 2)) >= PEAK_MARGIN * reach[places[:, 3]]
    if not sharp.any():
        return []
    again = _windows(found, places[sharp])
    top = again.reshape(len(again), -1).argmax(1)
    rows, columns = np.divmod(top, side)
    near = (np.abs(rows - PEAK_RADIUS) <= 1) & (np.abs(columns - PEAK_RADIUS) <= 1)
    return [Agreement("peaks", float(near.mean()), len(near))]


def _largest_around(maps: np.ndarray) -> np.ndarray:
    """The largest value in the window around each pixel, (N, H, W, C)."""
    for axis in (1, 2):
        wide = np.pad(maps, [(PEAK_RADIUS,) * 2 if a == axis else (0, 0) for a in range(4)], constant_values=-np.inf)
        length = maps.shape[axis]
        parts = [np.take(wide, range(k, k + length), axis) for k in range(2 * PEAK_RADIUS + 1)]
        maps = np.maximum.reduce(parts)
    return maps


def _windows(maps: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(K, 7, 7): the values around K places (image, row, column, channel), -inf beyond the border."""
    wide = np.pad(maps, [(0, 0), (PEAK_RADIUS,) * 2, (PEAK_RADIUS,) * 2, (0, 0)], constant_values=-np.inf)
    offsets = np.arange(2 * PEAK_RADIUS + 1)
    image, row, column, channel = places.T
    return wide[
        image[:, None, None],
        row[:, None, None] + offsets[:, None],
        column[:, None, None] + offsets,
        channel[:, None, None],
    ].astype(np.float32)


@dataclass(frozen=True)
class Bounds:
    """Required quality of a file that rounds against the float model.

    Args:
        min_snr_db: Least SNR of an output; None: ``MIN_SNR_DB``, and a warning below ``WARN_SNR_DB``.
        min_agreement: Least share of agreement; None: ``MIN_AGREEMENT``, and a warning below ``WARN_AGREEMENT``.
        allow_unjudged: Whether a file passes if the check is inconclusive.
    """

    min_snr_db: float | None = None
    min_agreement: float | None = None
    allow_unjudged: bool = False

    @property
    def least_snr_db(self) -> float:
        """The bound that applies."""
        return MIN_SNR_DB if self.min_snr_db is None else self.min_snr_db

    @property
    def least_agreement(self) -> float:
        """The bound that applies."""
        return MIN_AGREEMENT if self.min_agreement is None else self.min_agreement

    def __post_init__(self) -> None:
        if self.min_snr_db is not None and not np.isfinite(self.min_snr_db):
            raise ValueError(f"min_snr_db must be a finite number of dB. Received: min_snr_db={self.min_snr_db!r}")
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise ValueError(f"min_agreement must lie in [0, 1]. Received: min_agreement={self.min_agreement!r}")


def check_count(images: int, source: str, bounds: Bounds, required: int = MIN_IMAGES) -> None:
    """FidelityError if there are too few images to check a file on."""
    if images < required and not bounds.allow_unjudged:
        raise FidelityError(
            f"A file that rounds is verified on at least {required} images. Received: {images} images ({source}). Pass "
            "more, or accept an inconclusive check with allow_unjudged=True."
        )


def least_images(runtimes: Sequence[Mapping[str, Any]], required: int = MIN_IMAGES) -> int:
    """Number of images that a runtime must have run to be judged, see ``judge_outputs``."""
    return min(required, max((row["images"] for row in runtimes), default=0))


def judge_outputs(
    runtimes: Sequence[Mapping[str, Any]],
    model: str,
    bounds: Bounds,
    refuses: bool = True,
    required: int = MIN_IMAGES,
) -> list[str]:
    """Refuse a file whose outputs are too far from the float model's, whatever the outputs are.

    Args:
        runtimes: The rows of a report against the float model: each a ``RuntimeReport`` as a dict.
        model: Name of that model in messages: "the given float model".
        bounds: Required quality.
        refuses: False: violations become warnings. For a fine-tuned model: it was trained with its rounding, and may
            differ from the network without it.
        required: Least number of images on which a runtime is judged. A slower runtime is reported but not judged,
            because the machine's load would decide; if none ran so many, those that ran most are judged.

    Returns:
        Warnings, a sentence each; none about a bound that the caller set.

    Raises:
        FidelityError: an output violates a bound.
    """
    notes: dict[str, str] = {}
    enough = least_images(runtimes, required)
    for row in (row for row in runtimes if row["images"] >= enough):
        for output in row["outputs"]:
            who = f"output {output['name']!r}, {row['images']} images, {row['runtime']}"
            try:
                _judge_snr(output, who, model, bounds, notes)
                for found in output["agreements"]:
                    _judge_agreement(found, who, model, bounds, notes)
            except FidelityError as error:
                if refuses:
                    raise
                notes[output["name"]] = f"{error} The accuracy of a fine-tuned model decides: evaluate it."
    return list(notes.values())


def _judge_snr(output: Mapping[str, Any], who: str, model: str, bounds: Bounds, notes: dict[str, str]) -> None:
    snr, least_db = output["snr_db"], bounds.least_snr_db
    if snr is None:
        return
    if snr < least_db:
        raise FidelityError(
            f"The file is too far from {model}: SNR {snr:.1f} dB, required is {least_db:g} dB (an error of "
            f"{10 ** (-snr / 20):.0%} of the output's spread; {who}). Check layer_errors and the ranges, quantize "
            "and fine-tune, or accept it with min_snr_db."
        )
    if bounds.min_snr_db is not None:
        return
    name, channel, typical = output["name"], output["least_channel_db"], output["typical_db"]
    if snr < WARN_SNR_DB:
        notes[name] = (
            f"The file has an SNR of {snr:.1f} dB against {model} (an error of {10 ** (-snr / 20):.0%} of the output's "
            f"spread; {who}); good int8 files have {WARN_SNR_DB:g} dB or more. Fine-tuning usually repairs it."
        )
    elif channel is not None and channel < least_db:
        notes[name] = (
            f"One channel of the file differs much from {model}: channel {output['least_channel']} has an SNR of "
            f"{channel:.1f} dB, all together {snr:.1f} dB ({who}). All channels of an output share one step: give a "
            "quantity with smaller values a separate output, or scale it."
        )
    elif typical is not None and typical < least_db:
        notes[name] = (
            f"On most images the file differs much from {model}: SNR {typical:.1f} dB without the {RARE:.0%} of images "
            f"that differ most from the mean, {snr:.1f} dB with them ({who})."
        )


def _judge_agreement(found: Mapping[str, Any], who: str, model: str, bounds: Bounds, notes: dict[str, str]) -> None:
    least = bounds.least_agreement
    what, share, counted = found["what"], found["share"], found["counted"]
    wrong = round((1 - share) * counted)
    if wrong > max(1.0, (1 - least) * counted + 1e-6):  # one wrong case is always accepted
        raise FidelityError(
            f"The file and {model} have the same {what} in {share:.1%} of {counted} cases that rounding cannot change; "
            f"required is {least:.0%} ({who}). Calibrate with more images, quantize and fine-tune, or accept it with "
            "min_agreement."
        )
    if bounds.min_agreement is None and wrong > max(1.0, (1 - WARN_AGREEMENT) * counted + 1e-6):
        notes.setdefault(
            f"{what} {who}",
            f"The file and {model} differ in the {what} in {1 - share:.1%} of {counted} cases that rounding cannot "
            f"change ({who}); fine-tuning usually repairs it.",
        )


def check_judged(runtimes: Sequence[Mapping[str, Any]], model: str, bounds: Bounds, required: int = MIN_IMAGES) -> None:
    """FidelityError if too few images are conclusive; arguments as above.

    Args:
        runtimes: As for ``judge_outputs``.
        model: As for ``judge_outputs``.
        bounds: As for ``judge_outputs``.
        required: Images that must have run in some runtime.
    """
    if bounds.allow_unjudged:
        return
    best = max(runtimes, key=lambda row: row["images"])
    check_count(best["images"], f"within the time for {best['runtime']}", bounds, required)
    for output in best["outputs"]:
        name, judged = output["name"], output["judged"]
        if not judged and output["snr_db"] is None:
            raise FidelityError(
                f"Output {name!r} of {model} hardly depends on the image (the model looks untrained, or the images are "
                "alike), so the file cannot be judged. Received: no value that varies by more than rounding. "
                "Train the model, pass other images, or accept an inconclusive check with allow_unjudged=True."
            )
        if judged < MIN_JUDGED * best["images"]:
            raise FidelityError(
                f"Too few images are conclusive for output {name!r}: the margin of the top-1 class of {model} exceeds "
                f"rounding on {judged} of {best['images']} images; required is half of them. Pass other images, "
                "class_names=() if the output is not classes, or accept an inconclusive check with "
                "allow_unjudged=True."
            )


def passed(runtimes: Sequence[Mapping[str, Any]], bounds: Bounds, refuses: bool = True) -> list[list[bool]]:
    """Whether each output of each row passes ``judge_outputs`` and ``check_judged``; arguments as above.

    The number of conclusive images is checked only in the runtime that ran most of them.
    """
    most = max(row["images"] for row in runtimes)

    def passes(row: Mapping[str, Any]) -> bool:
        if row["images"] < least_images(runtimes):
            return True  # reported, not judged
        try:
            judge_outputs([row], "the float model", bounds, refuses)
            if refuses and row["images"] == most:
                check_judged([row], "the float model", bounds, required=1)
        except FidelityError:
            return False
        return True

    return [[passes({**row, "outputs": [output]}) for output in row["outputs"]] for row in runtimes]
