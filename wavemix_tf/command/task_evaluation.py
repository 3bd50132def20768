"""A task's metric on the whole test set, for a Keras model or a file, computed batch by batch to limit memory.

(A classifier's outputs are small: ``measuring.measure`` keeps them all.)
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..colours import overlay, palette
from ..metrics import class_iou, confusion_matrix, mean_iou, official_psnr_y, psnr_y, ssim_y
from ..sampling_grid import sampling_grid
from ..tflite.file.file_sampling_grid import file_sampling_grid
from ..tflite.file.flatbuffer import from_output, read_file, to_input
from ..tflite.graph.inputs import predict
from ..tflite.runtimes.running import open_raw
from ..tiling import predict_tiled
from ..training.data.bundle import DataBundle
from ..training.data.patches import enlarged
from ..training.data.sources import SAMPLE_SEED, epoch_order
from ..training.recipe import Recipe
from ..training.tasks import task_type
from .networks import with_sampling_grid

BATCH = 8
SHOWN = 3  # pictures in the report
SHOWN_SIDE = 480  # pixels, longer side of a picture
CROP = 96  # pixels, side of a crop of an enlarged image

Run = Callable[[np.ndarray], np.ndarray]
Advance = Callable[[int], None]  # takes the number of images that were just run


@dataclasses.dataclass(frozen=True)
class Score:
    """Score of a model or file on the test set.

    Attributes:
        value: The task's metric.
        images: Number of images that it ran.
        details: JSON-able: "iou", one value per class; or "rows", one per image, and the means "ssim_y" and
            "official_psnr_y".
    """

    value: float
    images: int
    details: dict[str, Any]


def keras_run(model: Any) -> Run:
    """Return a Keras model as a callable on batches."""
    return with_sampling_grid(lambda images: np.asarray(predict(model, images)), sampling_grid(model))


def file_run(content: bytes, runtime: str) -> Run:
    """Return a file in a runtime as a callable on batches; LiteRT's interpreter is created once."""
    info, run = read_file(content), open_raw(content, runtime)

    def computed(images: np.ndarray) -> np.ndarray:
        return np.asarray(from_output(info.outputs[0], run([to_input(info.inputs[0], images)])[0]))

    return with_sampling_grid(computed, file_sampling_grid(info))


def _ignored(count: int) -> None:
    """An ``Advance`` that shows nothing."""


def _score_masks(
    recipe: Recipe, data: DataBundle, run: Run, limit: int, limit_s: float | None, advance: Advance
) -> Score:
    classes, begun, images = len(data.class_names), time.perf_counter(), 0
    total = np.zeros((classes, classes), np.int64)
    for batch, masks in _batches(data.test_source, 1 if limit_s is not None else BATCH):
        batch, masks = batch[: limit - images], masks[: limit - images]
        total += confusion_matrix(masks, run(batch).argmax(-1), classes, recipe.void)
        images += len(batch)
        advance(len(batch))
        if images >= limit or (limit_s is not None and time.perf_counter() - begun > limit_s):
            break
    ious = [None if np.isnan(value) else float(value) for value in class_iou(total)]
    return Score(mean_iou(total), images, {"iou": ious, "pixels": total.sum(1).tolist()})


def _batches(source: Any, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (images, masks), shuffled if the source allows it, so that any first part is a fair sample."""
    if hasattr(source, "take"):
        source = source.take(epoch_order(source.size, SAMPLE_SEED, 0))
    for images, masks in source.batches(size):
        yield np.asarray(images), np.asarray(masks)


def _score_enlarged(
    recipe: Recipe, data: DataBundle, run: Run, limit: int, limit_s: float | None, advance: Advance
) -> Score:
    begun, rows = time.perf_counter(), []
    for name, small, large in _mixed(data.test_source):
        rows.append({"name": name, **qualities(enlarge(run, small, recipe), large, recipe.scale)})
        advance(1)
        if len(rows) >= limit or (limit_s is not None and time.perf_counter() - begun > limit_s):
            break
    return _means(rows)


def _means(rows: list[dict[str, Any]]) -> Score:
    means = {key: float(np.mean([row[key] for row in rows])) for key in ("psnr_y", "ssim_y", "official_psnr_y")}
    return Score(means["psnr_y"], len(rows), {"rows": rows, **means})


def _mixed(source: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (name, small, large) of the whole images, shuffled, so that any first part is a fair sample."""
    yield from source.pairs(epoch_order(len(source.pictures.names), SAMPLE_SEED, 0))


def on_common_images(scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return result rows of super-resolution with means over only the images that all models and files ran.

    PSNR differs by ten decibels between images, so that means over different images cannot be compared.
    """
    count = min(len(row["rows"]) for row in scores)
    found = []
    for row in scores:
        part = _means(row["rows"][:count])
        found.append({**row, **part.details, "images": part.images})
    return found


def enlarge(run: Run, small: np.ndarray, recipe: Recipe) -> np.ndarray:
    """uint8 (h, w, 3) -> uint8 (s*h, s*w, 3), in tiles of ``recipe.image_shape``."""
    height, width, _ = recipe.image_shape
    image = small.astype(np.float32) / np.float32(255)
    found = predict_tiled(run, image, (height, width), scale=recipe.scale)
    return np.round(255 * np.clip(found, 0, 1)).astype(np.uint8)


def qualities(image: np.ndarray, truth: np.ndarray, scale: int) -> dict[str, float]:
    """Return PSNR and SSIM of the luma by the usual protocol, and the official scripts' PSNR, of uint8 images."""
    return {
        "psnr_y": psnr_y(image, truth, scale),
        "ssim_y": ssim_y(image, truth, scale),
        "official_psnr_y": official_psnr_y(image, truth),
    }


def bicubic(recipe: Recipe, data: DataBundle, limit: int) -> Score:
    """Return the score of bicubic interpolation, the baseline of super-resolution."""
    return _means(
        [
            {"name": name, **qualities(enlarged(small, recipe.scale), large, recipe.scale)}
            for name, small, large in itertools.islice(_mixed(data.test_source), limit)
        ]
    )


def _overlays(recipe: Recipe, data: DataBundle, runs: dict[str, Run]) -> list[dict[str, Any]]:
    images, masks = data.sample("test", SHOWN)
    colours = palette(len(data.class_names))
    rows = []
    for image, mask in zip(images, masks, strict=True):
        pixels = np.round(255 * image).astype(np.uint8)
        cells = [
            {"title": "image", "image": pixels},
            {"title": "truth", "image": _overlaid(pixels, mask, colours, recipe)},
        ]
        for title, run in runs.items():
            found = run(image[None])[0].argmax(-1)  # also of pixels without a class in the truth
            cells.append({"title": title, "image": overlay(pixels, found, colours)})
        rows.append({"cells": cells})
    return rows


def _overlaid(pixels: np.ndarray, mask: np.ndarray, colours: np.ndarray, recipe: Recipe) -> np.ndarray:
    return overlay(pixels, mask, colours, ignore=recipe.void)


def _details(recipe: Recipe, data: DataBundle, runs: dict[str, Run]) -> list[dict[str, Any]]:
    """Return the most detailed part of each image, enlarged by each model or file."""
    rows = []
    for _, small, large in itertools.islice(data.test_source.pairs(), SHOWN):
        versions = {"truth": large, "bicubic": enlarged(small, recipe.scale)}
        versions |= {title: enlarge(run, small, recipe) for title, run in runs.items()}
        top, left = _busiest(large)
        cells = []
        for title, image in versions.items():
            quality = "" if title == "truth" else f", {psnr_y(image, large, recipe.scale):.2f} dB"
            cells.append({"title": f"{title}{quality}", "image": image[top : top + CROP, left : left + CROP]})
        rows.append({"cells": cells})
    return rows


def _busiest(image: np.ndarray) -> tuple[int, int]:
    """Return the corner of the square of ``CROP`` pixels, away from the border, whose luma changes most."""
    grey = image.mean(-1)
    change = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    sums = np.pad(change.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    side = min(CROP, *change.shape)
    found = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(found.argmax(), found.shape)
    return int(top), int(left)


class Evaluation:
    """Evaluation of networks with one kind of outputs; a class for each kind of ``Task.targets`` that is large.

    Attributes:
        example: Label of the example image in the report's wavelet figure.
    """

    example: str

    def score(
        self,
        recipe: Recipe,
        data: DataBundle,
        run: Run,
        limit: int,
        limit_s: float | None = None,
        advance: Advance = _ignored,
    ) -> Score:
        """Return the task's metric on at most ``limit`` test images and ``limit_s`` seconds (at least one image)."""
        raise NotImplementedError

    def pictures(self, recipe: Recipe, data: DataBundle, runs: dict[str, Run]) -> list[dict[str, Any]]:
        """Return some test images and the outputs of all models and files, as uint8: rows of {"title", "image"}."""
        raise NotImplementedError

    def baselines(self, recipe: Recipe, data: DataBundle, limit: int) -> list[tuple[str, str, Score]]:
        """Return (name, runtime, score) of baselines without a network."""
        return []

    def comparable(self, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return result rows that can be compared, although each may have run another number of images."""
        return results

    def report(self, recipe: Recipe, data: DataBundle) -> dict[str, Any]:
        """Return further fields of the report."""
        return {}


class MaskEvaluation(Evaluation):
    """Evaluation of masks: IoU, and the masks over their images."""

    example = "the first"

    def score(
        self,
        recipe: Recipe,
        data: DataBundle,
        run: Run,
        limit: int,
        limit_s: float | None = None,
        advance: Advance = _ignored,
    ) -> Score:
        return _score_masks(recipe, data, run, limit, limit_s, advance)

    def pictures(self, recipe: Recipe, data: DataBundle, runs: dict[str, Run]) -> list[dict[str, Any]]:
        return _overlays(recipe, data, runs)

    def report(self, recipe: Recipe, data: DataBundle) -> dict[str, Any]:
        colours = ("#" + bytes(row).hex() for row in palette(len(data.class_names)))
        return {"colours": dict(zip(data.class_names, colours, strict=True))}


class EnlargedEvaluation(Evaluation):
    """Evaluation of enlarged images: PSNR and SSIM, compared with bicubic interpolation, and crops of them."""

    example = "a patch"

    def score(
        self,
        recipe: Recipe,
        data: DataBundle,
        run: Run,
        limit: int,
        limit_s: float | None = None,
        advance: Advance = _ignored,
    ) -> Score:
        return _score_enlarged(recipe, data, run, limit, limit_s, advance)

    def pictures(self, recipe: Recipe, data: DataBundle, runs: dict[str, Run]) -> list[dict[str, Any]]:
        return _details(recipe, data, runs)

    def baselines(self, recipe: Recipe, data: DataBundle, limit: int) -> list[tuple[str, str, Score]]:
        return [("bicubic", "Pillow", bicubic(recipe, data, limit))]

    def comparable(self, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return on_common_images(results)

    def report(self, recipe: Recipe, data: DataBundle) -> dict[str, Any]:
        return {"scale": recipe.scale}


EVALUATIONS: dict[str, Evaluation] = {"masks": MaskEvaluation(), "images": EnlargedEvaluation()}


def evaluation_of(recipe: Recipe) -> Evaluation:
    """Return the evaluation of a task whose outputs are large."""
    return EVALUATIONS[task_type(recipe).targets]
