"""Inputs and outputs of a model in calibration and verification."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from wavemix_tf.progress import report
from wavemix_tf.warning import warn_user

from ..layers.whole_numbers import RANGES, is_whole
from .graph import is_functional, structures

BATCH = 16
ENDLESS = -1  # tf.data's cardinality of a dataset without an end
MOST_OF_DISK = 0.5  # of the free space that another part may take
MAX_PARTS = 65_536  # most parts of an iterable: an endless dataset must not hang
LEAST_FILLED = (
    0.5  # least share of an input's range that calibration images fill; below it every value loses a bit: a warning
)
EAGER_PIXELS = 256 * 32 * 32  # fewer run faster without tracing a graph, and fit in memory
MOST_BYTES = 256 << 20  # images in memory; more go to a temporary file
CHUNK_BYTES = 64 << 20  # images at a time: Keras would copy a longer array whole


Range = tuple[float, float] | None


def value_ranges(input_range: Any, inputs: Sequence[Any]) -> list[Range]:
    """One (low, high) or None for each of ``inputs``, from one for all of them or a list with one each.

    For an integer input, (0, 1), which means pixel / 255, becomes the range of its dtype.
    """
    several = isinstance(input_range, list)
    given = list(input_range) if several else [input_range] * len(inputs)
    if len(given) != len(inputs):
        raise ValueError(
            f"input_range must be one pair, or a list with one for each of {len(inputs)} inputs. "
            f"Received: input_range={input_range!r}"
        )
    ranges: list[Range] = []
    for part in given:
        if part is None:
            ranges.append(None)
            continue
        try:
            low, high = (float(end) for end in part)
        except (TypeError, ValueError):
            low = high = float("nan")
        if not (np.isfinite([low, high]).all() and low <= 0 <= high and low < high):
            raise ValueError(
                "input_range must be (low, high) with low <= 0 <= high, or None to measure it. "
                f"Received: input_range={part!r}"
            )
        ranges.append((low, high))
    if not several and input_range is not None and ranges and ranges[0] == (0.0, 1.0):
        return [RANGES.get(value.dtype) if is_whole(value) else (0.0, 1.0) for value in inputs]
    return ranges


def check_inputs(
    given: Any, inputs: Sequence[Any], input_range: Any = (0.0, 1.0), name: str = "calibration", least: int = 1
) -> list[np.ndarray]:
    """Return the inputs of a model as float32 arrays, one per input, or raise an error.

    Args:
        given: For one input as for ``check_images``; for several a dict of input name -> images, or a tuple or list.
        inputs: The model's inputs, or the file's: objects with a ``name`` and a ``shape``, batch axis first.
        input_range: (low, high), None, or a list, see ``value_ranges``.
        name: The argument's name, for the message.
        least: Least number of images.
    """
    ranges = value_ranges(input_range, inputs)
    labels = [value.name for value in inputs]
    if len(inputs) == 1:
        parts = [given[labels[0]] if isinstance(given, dict) and set(given) == set(labels) else given]
    elif isinstance(given, dict) and set(given) == set(labels):
        parts = [given[label] for label in labels]
    elif isinstance(given, (tuple, list)) and len(given) == len(inputs):
        parts = list(given)
    else:
        what = sorted(given) if isinstance(given, dict) else f"{type(given).__name__}"
        raise ValueError(
            f"{name} must be a dict or tuple of one array per input ({', '.join(labels)}). Received: {name}={what}"
        )
    arrays = [
        check_images(part, value.shape, limits, name, least, is_whole(value), label if len(labels) > 1 else None)
        for part, value, limits, label in zip(parts, inputs, ranges, labels, strict=True)
    ]
    if len({len(array) for array in arrays}) > 1:
        raise ValueError(f"{name} must have as many rows for each input. Received: {[len(a) for a in arrays]}")
    if name == "calibration":
        for array, limits in zip(arrays, ranges, strict=True):
            _warn_if_unfilled(array, limits)
    return arrays


def _warn_if_unfilled(array: np.ndarray, limits: Range) -> None:
    """Warn if calibration images leave half of the given range or more empty, because its levels are lost."""
    if limits is None:
        return
    low, high = float(array.min()), float(array.max())
    share = (high - low) / (limits[1] - limits[0])
    if share <= LEAST_FILLED:
        warn_user(
            "input_range must be the range of the model's inputs: an integer input has levels only in that range. "
            f"Received: input_range=({limits[0]:g}, {limits[1]:g}), calibration images from {low:.4g} to "
            f"{high:.4g}, which fill {share:.1%} of it; (0, 1) means pixel / 255, None measures the range",
        )


def check_images(
    images: Any,
    shape: tuple[int | None, ...],
    value_range: Range = (0.0, 1.0),
    name: str = "calibration",
    least: int = 1,
    whole: bool = False,
    label: str | None = None,
) -> np.ndarray:
    """Return ``images`` as one float32 array (N, H, W, C), or raise an error.

    Args:
        images: An array (N, H, W, C), or an iterable of such arrays or of single images.
        shape: The model's input shape, batch axis first.
        value_range: Smallest and largest value allowed; None: any finite.
        name: The argument's name, for the message.
        least: Least number of images.
        whole: Whether the input takes integers.
        label: Name of the images' input if there are several, for the message.
    """
    calibrates = name == "calibration"
    if label is not None:
        name = f"{name} of input {label!r}"
    wanted = tuple(shape[1:])
    array, dtype = (images, images.dtype) if isinstance(images, np.ndarray) else _joined(images, wanted, name)
    if array.ndim != len(wanted) + 1 or array.shape[1:] != wanted or not len(array):
        raise ValueError(f"{name} must be an array (N, {', '.join(map(str, wanted))}). Received: shape={array.shape}")
    low, high = (-np.inf, np.inf) if value_range is None else value_range
    meaning = " (pixel / 255)" if value_range == (0.0, 1.0) else ""
    # Bytes where [0, 1] is required are pixels without the division; for other ranges integers are valid.
    if dtype.kind not in ("f" if value_range == (0.0, 1.0) and not whole else "fiu"):
        raise ValueError(f"{name} must be float in [{low}, {high}]{meaning}. Received: dtype={dtype}")
    array = array if array.dtype == np.float32 else array.astype(np.float32)  # a file on disk is not copied
    slack = 1e-6 * (high - low) if value_range is not None else 0.0
    if not np.isfinite([array.min(), array.max()]).all() or array.min() < low - slack or array.max() > high + slack:
        advice = ""
        if calibrates and np.isfinite(array).all():
            several = "" if label is None else "a list with one for each input, "
            advice = f"; if other values are right, pass input_range=: {several}(low, high), or None to measure it"
        raise ValueError(
            f"{name} must be finite and in [{low}, {high}]{meaning}. "
            f"Received: minimum={array.min()}, maximum={array.max()}{advice}"
        )
    if whole and (array != np.round(array)).any():
        raise ValueError(f"{name} must contain whole numbers, as the model's input requires. Received: fractions")
    if len(array) < least:
        raise ValueError(f"{name} must contain at least {least} images. Received: {len(array)} images")
    return array


def _joined(images: Any, wanted: tuple[int | None, ...], name: str) -> tuple[np.ndarray, np.dtype[Any]]:
    """Join the parts of an iterable, each (N, ...) or one image: in memory, or in a temporary file if they are many.

    Args:
        images: The iterable, or a tensor of another library.
        wanted: Shape of an image.
        name: The argument's name, for the message.

    Returns:
        (the images, the dtype in which they were given).
    """
    if hasattr(images, "ndim"):
        array = np.asarray(images)
        return array, array.dtype
    if _is_endless(images):
        raise ValueError(
            f"{name} must end. Received: an endless {type(images).__name__}; .take(N) ends a tf.data.Dataset"
        )
    parts: list[np.ndarray] = []
    kinds, count, pending = set(), 0, 0
    with tempfile.TemporaryFile() as file:
        for number, given in enumerate(images if isinstance(images, Iterable) else ()):
            if number == MAX_PARTS:
                raise ValueError(f"{name} must end: at most {MAX_PARTS:,} parts. Received: more")
            if isinstance(given, (tuple, list, dict)):
                raise ValueError(
                    f"{name} must give only images, without labels. Received: a {type(given).__name__} of {len(given)}"
                )
            part = np.asarray(given)
            batch = part[None] if part.ndim == len(wanted) else part
            if batch.shape[1:] != wanted:
                raise ValueError(
                    f"{name} must contain images of shape {wanted}. Received: {name} of shape {part.shape}"
                )
            parts.append(batch)
            kinds.add(part.dtype)
            count += len(batch)
            pending += batch.nbytes
            if pending > MOST_BYTES:
                _write(file, parts, name)
                pending = 0
        if not kinds:
            raise ValueError(
                f"{name} must contain images of shape {wanted}. Received: {type(images).__name__} without images"
            )
        if file.tell() == 0:
            array = np.concatenate(parts)
            return array, array.dtype
        _write(file, parts, name)
        file.flush()
        array = np.memmap(file, np.float32, "r", shape=(count, *batch.shape[1:]))  # stays when the file closes
        return array, np.result_type(*kinds)


def _is_endless(images: Any) -> bool:
    """Whether a dataset states that it has no end, as after ``repeat()``; a generator cannot state it."""
    if isinstance(images, keras.utils.PyDataset):
        try:
            return images.num_batches is None
        except NotImplementedError:
            return True
    return callable(getattr(images, "cardinality", None)) and int(images.cardinality()) == ENDLESS


def _write(file: Any, parts: list[np.ndarray], name: str) -> None:
    """Append parts to a file of float32 numbers, and empty their list; ValueError if the disk would be full."""
    size, free = 4 * sum(one.size for one in parts), shutil.disk_usage(tempfile.gettempdir()).free
    if size > free * MOST_OF_DISK:
        raise ValueError(
            f"{name} must fit into {tempfile.gettempdir()}: pass fewer images, or set TMPDIR. "
            f"Received: {(file.tell() + size) / 2**30:.2f} GiB so far, {free / 2**30:.2f} GiB free"
        )
    for one in parts:
        file.write(np.ascontiguousarray(one, np.float32).data)
    parts.clear()


def predict(model: Any, images: Any, task: str = "", chosen: np.ndarray | None = None) -> Any:
    """A Keras model's outputs at inference: float32 (N, ...), or a list of such arrays for several outputs.

    Args:
        model: Functional Keras model, or another engine's with one input and one output.
        images: Array (N, ...), or a list with one per input.
        task: What it is for, see ``report``; "": nothing is reported.
        chosen: Indices of the images that count; None: all. They are copied part by part, never all at once.
    """
    arrays = list(images) if isinstance(images, (list, tuple)) else [images]
    if not isinstance(model, keras.Model):
        return np.asarray(model.predict(arrays[0], batch_size=BATCH, verbose=0), np.float32)
    count = len(arrays[0]) if chosen is None else len(chosen)

    def fed(parts: list[np.ndarray]) -> Any:
        return keras.tree.pack_sequence_as(structures(model)[0], parts)

    few = count * arrays[0][0][..., 0].size <= EAGER_PIXELS
    eager = few and keras.backend.backend() == "tensorflow"
    fitting = max(1, CHUNK_BYTES // (BATCH * sum(array[0].nbytes for array in arrays)))
    batches, size = [], BATCH if eager else fitting * BATCH
    for start in range(0, count, size):
        part: Any = slice(start, start + size)
        parts = fed([array[part if chosen is None else chosen[part]] for array in arrays])
        batch = model(parts, training=False) if eager else model.predict(parts, batch_size=BATCH, verbose=0)
        batches.append([np.asarray(part, np.float32) for part in keras.tree.flatten(batch)])
        if task:
            report(task, min(start + size, count), count)
    joined = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return joined[0] if len(joined) == 1 else joined


def output_names(model: Any) -> list[str]:
    """Names of a Keras model's outputs, in the order of ``predict``: keys of a dict, or layer names, or numbers."""
    names = list(getattr(model, "output_names", []))
    if is_functional(model) and isinstance(structures(model)[1], dict):
        paths = [path for path, _ in keras.tree.flatten_with_path(structures(model)[1])]
        names = ["/".join(map(str, path)) for path in paths]
    unique = len(set(names)) == len(names) == len(model.outputs)
    return names if unique else [f"output_{index}" for index in range(len(model.outputs))]


def generated_images(shape: tuple[int, ...], count: int = 64, seed: int = 0) -> np.ndarray:
    """Images to verify on if the caller gives none: coarse patches, smooth slopes and noise at varied brightness.

    Args:
        shape: (H, W, C).
        count: Number of images.
        seed: Seed of the generator.

    Returns:
        float32 (count, H, W, C) in [0, 1].
    """
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    images = np.empty((count, *shape), np.float32)
    for index in range(count):
        cells = rng.integers(1, 5)
        coarse = rng.uniform(0, 1, (cells, cells, channels))
        rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
        slope = np.linspace(-1, 1, width)[None, :, None] * rng.normal(0, 0.3, (1, 1, channels))
        noise = rng.normal(0, rng.uniform(0, 0.2), shape)
        images[index] = np.clip(coarse[rows][:, columns] * rng.uniform(0.2, 1.2) + slope + noise, 0, 1)
    return images


def generated_values(
    shape: tuple[int, ...], limits: Range, seed: int = 0, count: int = 64, whole: bool = False
) -> np.ndarray:
    """As ``generated_images`` for an input of any shape, in ``limits`` (None: about zero, deviation one).

    Whole numbers without limits may be indices of a table, where only 0 is certain to be valid.
    """
    if whole and limits is None:
        return np.zeros((count, *shape), np.float32)
    if len(shape) == 3:
        images = generated_images(shape, count, seed)
    else:
        images = np.random.default_rng(seed).uniform(0, 1, (count, *shape)).astype(np.float32)
    low, high = limits or (-1.7, 1.7)
    images = images * np.float32(high - low) + np.float32(low)
    return np.round(images) if whole else images
