"""The verb `predict`: run images through any network, batch by batch, and write the outputs. Loads no Keras."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..colours import overlay, palette
from ..escaping import printable
from ..tiling import grid_multiple, predict_tiled
from ..training.images import nearly_black_text
from ..training.tasks import TASKS
from .image_files import ImageFile, PictureFolder
from .mask_files import class_colours, mask_picture
from .networks import Network, NoNumbersError, probabilities
from .terminal import console, note, one_line, print_to_stderr

TOO_LARGE = "The network's activations for an image must fit in memory: --tile runs masks and enlargements in tiles."
BATCH_PIXELS = 512 * 512  # pixels of the images that a network computes at once
TILE = 512  # pixels, side of a tile if the network takes any size
SHOWN_CLASSES = 3

Output = tuple[ImageFile, np.ndarray, Any, float]  # image, its pixels, result of `_compute`, seconds


def predict_images(
    images: Sequence[ImageFile],
    network: Network,
    pictures: PictureFolder,
    *,
    top: int | None = None,
    tile: bool = False,
    overlays: bool = False,
    as_json: bool = False,
) -> int:
    """Run a network over images, write its pictures and print one line per image as soon as it is done.

    An image that cannot be read, or whose outputs are not finite, is reported on standard error and skipped.

    Args:
        images: In this order.
        network: Any of the tasks.
        pictures: Folder for masks and enlarged images.
        top: Classes per line; None: three, or all classes of a mask.
        tile: Run tiles of the network's size instead of resizing images to it.
        overlays: Also write each image with its mask over it.
        as_json: Print lines of JSON, one object per image.

    Returns:
        Number of images that could not be read, or whose outputs are not finite.

    Raises:
        ValueError: An option that the network's task does not support.
    """
    large = [task for task in TASKS.values() if task.large_outputs]
    for option, given, tasks in (
        ("--tile", tile, large),
        ("--overlay", overlays, [task for task in large if task.has_classes]),
    ):
        if given and network.kind not in tasks:
            names = " and ".join(task.name for task in tasks)
            raise ValueError(f"{option} is for {names}. Received: a network for {network.task}")
    if network.gives_masks:
        palette(network.classes)  # refuse too many classes for a mask before the first image
    tiled = tile or (network.fixed and network.kind.keeps_size)
    failures: list[ImageFile] = []
    deep: dict[str, int] = {}
    # A reader that closes the pipe, such as `head`, ends the work without an error.
    with contextlib.suppress(BrokenPipeError), progress(len(images)) as advance:

        def failed(image: ImageFile, error: Exception) -> None:
            failures.append(image)
            print_to_stderr(f"wavemix-tf: {one_line(error)}")
            advance(1)

        for done in _computed(images, network, tiled, failed, deep):
            row, text = _write_output(done, network, pictures, top, overlays)
            print(json.dumps(row, allow_nan=False) if as_json else printable(text), flush=True)
            advance(1)
    note_nearly_black(deep)
    return len(failures)


def first_class(logits: np.ndarray) -> np.ndarray:
    """Return the uint8 class of each pixel, (..., K) -> (...); with K = 1 whether the logit is positive."""
    if logits.shape[-1] == 1:
        return (logits[..., 0] > 0).astype(np.uint8)
    return logits.argmax(-1).astype(np.uint8)


def note_nearly_black(deep: Mapping[str, int]) -> None:
    """Report images of more than 8 bits (name -> largest value) that are probably scaled wrongly."""
    text = nearly_black_text(deep)
    if text:
        note(text)


def _computed(
    images: Sequence[ImageFile],
    network: Network,
    tiled: bool,
    failed: Callable[[ImageFile, Exception], None],
    deep: dict[str, int],
) -> Iterator[Output]:
    """Read and run the images in order; consecutive images of one size form a batch."""
    waiting: list[tuple[ImageFile, np.ndarray, np.ndarray, float]] = []

    def run(rows: Sequence[tuple[ImageFile, np.ndarray, np.ndarray, float]]) -> Iterator[Output]:
        started = time.perf_counter()
        try:
            outputs = _compute(network, np.stack([fitted for *_, fitted, _ in rows]), tiled)
        except Exception as error:
            large = _is_out_of_memory(error)
            if not large and not isinstance(error, NoNumbersError):
                raise
            image, pixels = rows[0][:2]
            if len(rows) > 1:  # find the image that fails
                for row in rows:
                    yield from run([row])
            elif large:
                failed(image, ValueError(f"{image.name}: {TOO_LARGE} Received: {pixels.shape[0]} x {pixels.shape[1]}"))
            else:
                failed(image, NoNumbersError(f"{image.name}: {error}"))
            return
        share = (time.perf_counter() - started) / len(rows)
        for (image, pixels, _, seconds), output in zip(rows, outputs, strict=True):
            yield image, pixels, output, seconds + share

    def flush() -> Iterator[Output]:
        if waiting:
            yield from run(list(waiting))
            waiting.clear()

    for image in images:
        started = time.perf_counter()
        try:
            pixels = image.read(network.image_shape[2], deep)
        except (OSError, ValueError) as error:
            failed(image, error)
            continue
        fitted = pixels if tiled else fit_pixels(pixels, network)
        size = fitted.shape[0] * fitted.shape[1]
        most = 1 if tiled else max(1, min(network.most_images, BATCH_PIXELS // size))
        if waiting and waiting[0][2].shape != fitted.shape:
            yield from flush()
        waiting.append((image, pixels, fitted, time.perf_counter() - started))
        if len(waiting) >= most:
            yield from flush()
    yield from flush()


def fit_pixels(pixels: np.ndarray, network: Network) -> np.ndarray:
    """uint8 (H, W, C) of any size -> of the network's size, if that is fixed."""
    height, width, channels = network.image_shape
    if height is None or width is None or pixels.shape[:2] == (height, width):
        return pixels
    from ..training.images import fit_image

    if network.preprocessing is None:
        note(
            f"neither the model file nor a recipe.json beside it states how training resized images to {height} x "
            f"{width} pixels: they are stretched, not cropped"
        )
    # A mask must cover the whole image.
    crop = network.preprocessing is not None and network.preprocessing.crop_to_aspect_ratio
    return np.asarray(fit_image(pixels, (height, width, channels), crop and not network.kind.large_outputs))


def _compute(network: Network, batch: np.ndarray, tiled: bool) -> Any:
    """uint8 (N, H, W, C) -> the logits of each image; for a tiled segmentation, its mask."""
    images = batch.astype(np.float32) / 255
    if not tiled:
        return run_whole(network, images) if network.kind.large_outputs else network.run(images)
    if network.fixed and network.kind.keeps_size and batch.shape[1:] != network.image_shape:
        note(
            f"the network takes {network.image_shape[0]} x {network.image_shape[1]} pixels: other images are enlarged "
            "tile by tile"
        )
    tile = network.image_shape[0] or TILE, network.image_shape[1] or TILE
    finish = first_class if network.gives_masks else None
    multiple, overlap = grid_multiple(network.run, tile, None)
    batch_size = max(1, min(network.most_images, BATCH_PIXELS // (tile[0] * tile[1])))
    return [
        predict_tiled(network.run, image, tile, overlap, network.scale, multiple, batch_size, finish)
        for image in images
    ]


def run_whole(network: Network, images: np.ndarray) -> np.ndarray:
    """Run images at their size; pad them by mirroring, and crop the output, if the network cannot halve their sides."""
    height, width = images.shape[1:3]
    wanted = network.scale * height, network.scale * width
    extra = [(0, 0), (0, -height % 64), (0, -width % 64), (0, 0)]
    try:
        outputs = network.run(images)
        if outputs.shape[1:3] == wanted or extra[1:3] == [(0, 0), (0, 0)]:
            return outputs
    except Exception as error:
        if network.fixed or extra[1:3] == [(0, 0), (0, 0)] or _is_out_of_memory(error):
            raise
    return network.run(np.pad(images, extra, mode="symmetric"))[:, : wanted[0], : wanted[1]]


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether a backend ran out of memory; backends do not raise Python's MemoryError."""
    text = f"{type(error).__name__} {error}".lower().replace("_", "").replace(" ", "")
    return isinstance(error, MemoryError) or "resourceexhausted" in text or "outofmemory" in text


def _write_output(
    done: Output, network: Network, pictures: PictureFolder, top: int | None, overlays: bool
) -> tuple[dict[str, Any], str]:
    """Write the output of one image; return its line as an object and as text."""
    image, pixels, output, seconds = done
    started = time.perf_counter()
    row: dict[str, Any] = {"path": image.name, "task": network.task}
    more, text = WRITERS[network.kind.targets](image, pixels, output, network, pictures, top, overlays)
    row |= more
    row["seconds"] = round(seconds + time.perf_counter() - started, 4)
    return row, f"{image.name}: {text}"


def _write_classes(
    image: ImageFile,
    pixels: np.ndarray,
    output: np.ndarray,
    network: Network,
    pictures: PictureFolder,
    top: int | None,
    overlays: bool,
) -> tuple[dict[str, Any], str]:
    """Return the most probable classes; no file is written."""
    shares = probabilities(output)
    best = np.argsort(-shares, kind="stable")[: top or SHOWN_CLASSES]
    classes = [
        {"index": int(index), "name": network.names[index], "probability": float(shares[index])} for index in best
    ]
    return {"classes": classes}, ", ".join(f"{part['name']} {part['probability']:.1%}" for part in classes)


def _write_mask(
    image: ImageFile,
    pixels: np.ndarray,
    output: np.ndarray,
    network: Network,
    pictures: PictureFolder,
    top: int | None,
    overlays: bool,
) -> tuple[dict[str, Any], str]:
    """Write the mask; return the share of each of its classes."""
    mask = output if output.ndim == 2 else _first_class_at(output, pixels.shape[:2])
    row = _save_mask(image, pixels, mask, network, pictures, overlays)
    counts = np.bincount(mask.reshape(-1), minlength=network.classes)
    present = [index for index in np.argsort(-counts, kind="stable") if counts[index]]
    row["classes"] = [
        {
            "index": int(index),
            "name": network.names[index],
            "share": float(counts[index] / mask.size),
            **({"value": network.mask_values[index]} if network.mask_values else {}),
        }
        for index in present[:top]
    ]
    text = ", ".join(f"{part['name']} {part['share']:.1%}" for part in row["classes"])
    return row, f"{text} -> {', '.join(row[key] for key in ('mask', 'overlay') if key in row)}"


def _write_enlarged(
    image: ImageFile,
    pixels: np.ndarray,
    output: np.ndarray,
    network: Network,
    pictures: PictureFolder,
    top: int | None,
    overlays: bool,
) -> tuple[dict[str, Any], str]:
    """Write the enlarged image."""
    enlarged = np.round(255 * np.clip(output, 0, 1)).astype(np.uint8)
    (path,) = pictures.places(image.stem, [f"{{}}_x{network.scale}.png"])
    saved = pictures.save(path, enlarged[..., 0] if enlarged.shape[-1] == 1 else enlarged)
    text = f"{enlarged.shape[1]} x {enlarged.shape[0]} pixels -> {saved}"
    return {"picture": saved, "size": list(enlarged.shape[:2])}, text


# `Task.targets` -> function that writes an image's output and returns (row, text).
WRITERS = {"labels": _write_classes, "masks": _write_mask, "images": _write_enlarged}


def _first_class_at(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the top class of each pixel of an image of ``size``; the logits are interpolated one class at a time."""
    from PIL import Image

    if logits.shape[:2] == size:
        return first_class(logits)

    def resized(plane: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(np.ascontiguousarray(plane, np.float32))
        return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))

    best = resized(logits[..., 0])
    if logits.shape[-1] == 1:
        return (best > 0).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    for index in range(1, logits.shape[-1]):
        plane = resized(logits[..., index])
        mask[plane > best] = index
        best = np.maximum(best, plane)
    return mask


def _save_mask(
    image: ImageFile, pixels: np.ndarray, mask: np.ndarray, network: Network, pictures: PictureFolder, overlays: bool
) -> dict[str, Any]:
    """Write the mask, the overlay if chosen and, once, the legend; return their paths."""
    colours = class_colours(network.classes, network.mask_values)
    if not pictures.written:
        (path,) = pictures.places("legend", ["{}.png"])
        pictures.save(path, legend(network.names, colours))
    forms = ["{}_mask.png", "{}_overlay.png"][: 1 + overlays]
    paths = pictures.places(image.stem, forms)
    row = {"mask": pictures.save(paths[0], mask_picture(mask, colours, network.mask_values))}
    if overlays:
        row["overlay"] = pictures.save(paths[1], overlay(pixels, mask, colours))
    return {**row, "size": list(mask.shape)}


def legend(names: Sequence[str], colours: np.ndarray) -> np.ndarray:
    """Draw each class's color and name, in columns of 24: uint8 (H, W, 3)."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=15)
    rows = min(len(names), 24)
    texts = [name if len(name) <= 40 else name[:39] + "…" for name in names]
    wide = 60 + int(max(font.getlength(text) for text in texts))
    picture = Image.new("RGB", (wide * -(-len(names) // rows) + 8, 28 * rows + 16), "white")
    draw = ImageDraw.Draw(picture)
    for index, (text, colour) in enumerate(zip(texts, colours, strict=True)):
        left, top = 14 + wide * (index // rows), 10 + 28 * (index % rows)
        draw.rounded_rectangle((left, top, left + 22, top + 22), 4, fill=tuple(map(int, colour)))
        draw.text((left + 32, top + 11), text, fill="#1c2431", font=font, anchor="lm")
    return np.asarray(picture)


@contextlib.contextmanager
def progress(total: int, title: str = "images") -> Iterator[Callable[[int], None]]:
    """Show a progress bar below the lines, on a terminal and for several images."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    watched = console.is_terminal or sys.stderr.isatty()
    if total < 2 or not watched:
        yield lambda count: None
        return
    columns = (TextColumn(f"  {escape(title)}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # If standard output is a file or a pipe, it must get the lines and nothing else.
    where: dict[str, Any] = {"console": console} if console.is_terminal else {"redirect_stdout": False}
    where.setdefault("console", Console(stderr=True))
    with Progress(*columns, transient=True, **where) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)
