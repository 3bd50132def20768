"""A task's metric on the whole test set, of a Keras model or of a file: in parts, so that no set is too large.

(A classifier's outputs are few: ``measuring.measure`` keeps them all.)
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
from ..tflite.file.flatbuffer import from_output, read_file, to_input
from ..tflite.file.sampling_grid import file_sampling_grid
from ..tflite.graph.inputs import predict
from ..tflite.verification.verifier import open_raw
from ..tiling import predict_tiled
from ..training.data.bundle import DataBundle
from ..training.data.patches import enlarged
from ..training.data.sources import SAMPLE_SEED, epoch_order
from ..training.recipe import Recipe
from .networks import told_grid

BATCH = 8
SHOWN = 3  # pictures in the report
SHOWN_SIDE = 480  # pixels of the longer side of one
CROP = 96  # pixels a side of a detail of an enlarged image

Run = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Score:
    """What a model or file reached on the test set.

    Attributes:
        value: The task's metric.
        images: Images it was run on.
        details: JSON-able: "iou", one value a class; or "rows", one an image, with "ssim_y" and "official_psnr_y", the
            means.
    """

    value: float
    images: int
    details: dict[str, Any]


def keras_run(model: Any) -> Run:
    """A Keras model as a callable on batches."""
    return told_grid(lambda images: np.asarray(predict(model, images)), sampling_grid(model))


def file_run(content: bytes, runtime: str) -> Run:
    """A file in a runtime as a callable on batches; LiteRT's interpreter is made once."""
    info, run = read_file(content), open_raw(content, runtime)

    def computed(images: np.ndarray) -> np.ndarray:
        return np.asarray(from_output(info.outputs[0], run([to_input(info.inputs[0], images)])[0]))

    return told_grid(computed, file_sampling_grid(info))


def score(recipe: Recipe, data: DataBundle, run: Run, limit: int, limit_s: float | None = None) -> Score:
    """The metric of ``recipe.task`` on at most so many test images and for so many seconds (one image at least)."""
    scorer = _score_masks if recipe.task == "segmentation" else _score_enlarged
    return scorer(recipe, data, run, limit, limit_s)


def _score_masks(recipe: Recipe, data: DataBundle, run: Run, limit: int, limit_s: float | None) -> Score:
    classes, begun, images = len(data.class_names), time.perf_counter(), 0
    total = np.zeros((classes, classes), np.int64)
    for batch, masks in _batches(data.test_source, 1 if limit_s is not None else BATCH):
        batch, masks = batch[: limit - images], masks[: limit - images]
        total += confusion_matrix(masks, run(batch).argmax(-1), classes, recipe.void)
        images += len(batch)
        if images >= limit or (limit_s is not None and time.perf_counter() - begun > limit_s):
            break
    ious = [None if np.isnan(value) else float(value) for value in class_iou(total)]
    return Score(mean_iou(total), images, {"iou": ious, "pixels": total.sum(1).tolist()})


def _batches(source: Any, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(images, masks); in an order of which any first part is a fair sample, where the source can be put in one."""
    if hasattr(source, "take"):
        source = source.take(epoch_order(source.size, SAMPLE_SEED, 0))
    for images, masks in source.batches(size):
        yield np.asarray(images), np.asarray(masks)


def _score_enlarged(recipe: Recipe, data: DataBundle, run: Run, limit: int, limit_s: float | None) -> Score:
    begun, rows = time.perf_counter(), []
    for name, small, large in _mixed(data.test_source):
        rows.append({"name": name, **qualities(enlarge(run, small, recipe), large, recipe.scale)})
        if len(rows) >= limit or (limit_s is not None and time.perf_counter() - begun > limit_s):
            break
    return _means(rows)


def _means(rows: list[dict[str, Any]]) -> Score:
    means = {key: float(np.mean([row[key] for row in rows])) for key in ("psnr_y", "ssim_y", "official_psnr_y")}
    return Score(means["psnr_y"], len(rows), {"rows": rows, **means})


def _mixed(source: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, small, large) of the whole images, in an order of which any first part is a fair sample."""
    yield from source.pairs(epoch_order(len(source.pictures.names), SAMPLE_SEED, 0))


def on_common_images(scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Result rows of super-resolution, with the means of those images alone that every one of them got to.

    Images differ by ten decibels: a file that was too slow for all of them must not be compared on others.
    """
    count = min(len(row["rows"]) for row in scores)
    found = []
    for row in scores:
        part = _means(row["rows"][:count])
        found.append({**row, **part.details, "images": part.images})
    return found


def enlarge(run: Run, small: np.ndarray, recipe: Recipe) -> np.ndarray:
    """uint8 (h, w, 3) -> uint8 (s*h, s*w, 3), tile by tile of ``recipe.image_shape``."""
    height, width, _ = recipe.image_shape
    image = small.astype(np.float32) / np.float32(255)
    found = predict_tiled(run, image, (height, width), scale=recipe.scale)
    return np.round(255 * np.clip(found, 0, 1)).astype(np.uint8)


def qualities(image: np.ndarray, truth: np.ndarray, scale: int) -> dict[str, float]:
    """PSNR and SSIM of the luma by the field's protocol, and the official scripts' PSNR, of uint8 images."""
    return {
        "psnr_y": psnr_y(image, truth, scale),
        "ssim_y": ssim_y(image, truth, scale),
        "official_psnr_y": official_psnr_y(image, truth),
    }


def bicubic(recipe: Recipe, data: DataBundle, limit: int) -> Score:
    """What bicubic interpolation reaches: the row that every table of super-resolution begins with."""
    return _means(
        [
            {"name": name, **qualities(enlarged(small, recipe.scale), large, recipe.scale)}
            for name, small, large in itertools.islice(_mixed(data.test_source), limit)
        ]
    )


def pictures(recipe: Recipe, data: DataBundle, runs: dict[str, Run]) -> list[dict[str, Any]]:
    """Some test images and what each model or file makes of them, as uint8 arrays: [{"title", "image"}, ...] a row."""
    shower = _overlays if recipe.task == "segmentation" else _details
    return shower(recipe, data, runs)


def _overlays(recipe: Recipe, data: DataBundle, runs: dict[str, Run]) -> list[dict[str, Any]]:
    images, masks = data.sample("test", SHOWN)
    colours = palette(len(data.class_names))
    rows = []
    for image, mask in zip(images, masks, strict=True):
        pixels = np.round(255 * image).astype(np.uint8)
        cells = [
            {"title": "image", "image": pixels},
            {"title": "truth", "image": _painted(pixels, mask, colours, recipe)},
        ]
        for title, run in runs.items():
            found = run(image[None])[0].argmax(-1)  # also where the truth has no class, and nobody judges it
            cells.append({"title": title, "image": overlay(pixels, found, colours)})
        rows.append({"cells": cells})
    return rows


def _painted(pixels: np.ndarray, mask: np.ndarray, colours: np.ndarray, recipe: Recipe) -> np.ndarray:
    return overlay(pixels, mask, colours, ignore=recipe.void)


def _details(recipe: Recipe, data: DataBundle, runs: dict[str, Run]) -> list[dict[str, Any]]:
    """The part of each image that has the most detail, enlarged by each."""
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
    """Corner of the square of ``CROP`` pixels, away from the border, whose luma changes most."""
    grey = image.mean(-1)
    change = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    sums = np.pad(change.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    side = min(CROP, *change.shape)
    found = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(found.argmax(), found.shape)
    return int(top), int(left)
