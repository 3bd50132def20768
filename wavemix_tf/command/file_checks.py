"""The checks of an exported file for the report and its page, and the images they used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..tflite.exporting.artifact import Artifact
from ..tflite.names import RUNTIMES
from ..tflite.verification.judgement import MIN_IMAGES, MIN_JUDGED, Bounds, least_images, passed
from ..tflite.verification.verifier import MIN_AGREEMENT, fault
from ..training.data.bundle import DataBundle
from .pages.formats import after_comma, snr_text

# Key in a file's verification: number of calibration images, which are the last images.
CALIBRATION_IMAGES = "calibration_images"


def verification_images(data: DataBundle, most: int) -> tuple[np.ndarray, int]:
    """Return validation images, followed by calibration images if there are too few to judge a file.

    Args:
        data: Data of the run.
        most: Largest number of images.

    Returns:
        (images, number of calibration images among them).
    """
    images, _ = data.sample("validation", most)
    missing = max(min(MIN_IMAGES, most) - len(images), 0)
    added = data.calibration[:missing]
    return (np.concatenate([images, added]) if missing else images), len(added)


def file_checks(artifact: Artifact, tested: dict[str, Any]) -> list[dict[str, Any]]:
    """Return [{"name", "measured", "bound", "passed"}, ...]: checks before the file was written, and on test images.

    Args:
        artifact: The file.
        tested: A ``VerifyReport`` on test images, as a dict.
    """
    card = artifact.to_dict()
    checks = [
        {
            "name": "operators",
            "measured": f"{len(artifact.ops)} of {len(card['ops'])} kinds, each in the target's table",
            "bound": "no float op" if artifact.dtype == "int8" else "",
            "passed": True,
        }
    ]
    before = artifact.verification["fidelity"]
    held_out = max((row["images"] for row in before["runtimes"]), default=0) - artifact.verification.get(
        CALIBRATION_IMAGES, 0
    )
    rows = [(row, before["degenerate"], _verified_on(row["images"], held_out)) for row in before["runtimes"]]
    rows += [(row, tested["degenerate"], f"{row['images']:,} test images") for row in tested["runtimes"]]
    for row, degenerate, which in rows:
        agreement, least = row["agreement"], MIN_AGREEMENT[row["runtime"]]
        bound = artifact.verification["error_bound_steps"][row["runtime"]]
        error = f"{row['mean_error_steps']:{'.2f' if row['mean_error_steps'] >= 0.1 else '.2g'}}"
        ratio = after_comma(snr_text(row.get("snr_db")))
        same = (
            ""
            if agreement is None
            else f", top-1 agreement on {round(agreement * row['counted']):,} of {row['counted']:,}"
        )
        checks.append(
            {
                "name": f"{RUNTIMES[row['runtime']].title}, {which}",
                "measured": f"mean error {error} steps (largest {row['max_error_steps']:.2g}){ratio}{same}",
                "bound": f"limits: {bound:g} steps, {least:.0%}",
                "passed": fault(row, bound, degenerate) is None,
            }
        )
    return checks + _float_checks(artifact)


def _verified_on(images: int, held_out: int) -> str:
    """Describe the images that a runtime ran before the file was written."""
    if images <= held_out:
        return f"{images:,} validation images"
    return f"{held_out:,} validation and {images - held_out:,} calibration images"


def _float_checks(artifact: Artifact) -> list[dict[str, Any]]:
    """Return the checks of a file that is not float32 against the float model, for each output and runtime."""
    found = artifact.verification.get("against_float_model")
    if found is None or artifact.dtype == "float32":
        return []
    held = dict(artifact.verification.get("float_model_bounds", {}))  # cards of 1.0 had none
    refuses = held.pop("refuses", True)
    bounds = Bounds(**held)
    least = f"{bounds.least_snr_db:g} dB, {bounds.least_agreement:.0%}"
    if not bounds.allow_unjudged:
        least += f", {MIN_JUDGED:.0%} of the images"
    least = f"limits: {least}" if refuses else f"{least} are not required: the model was fine-tuned"
    enough = least_images(found["runtimes"])
    return [
        {
            "name": f"float model, {RUNTIMES[row['runtime']].title}, {output['name']}",
            "measured": ", ".join(
                [
                    *_ratio(output),
                    *(
                        f"same {one['what']} for {one['share']:.1%} of {one['counted']:,}"
                        for one in output["agreements"]
                    ),
                    f"{output['judged']:,} of {row['images']:,} images counted",
                ]
            ),
            "bound": least if row["images"] >= enough else f"not judged: it ran fewer than {enough} images",
            "passed": passes,
        }
        for row, verdicts in zip(found["runtimes"], passed(found["runtimes"], bounds, refuses), strict=True)
        for output, passes in zip(row["outputs"], verdicts, strict=True)
    ]


def _ratio(output: Mapping[str, Any]) -> list[str]:
    """Return the SNR of an output; empty for indices and outputs that hardly depend on the image."""
    if output["snr_db"] is None:
        return [] if output["agreements"] else ["hardly depends on the image"]
    return [snr_text(output["snr_db"])]
