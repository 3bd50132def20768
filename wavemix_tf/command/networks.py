"""A trained network for `predict`, from a .keras or .tflite file; its shapes give the task. Loads no Keras itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import state_files
from ..preprocessing import Preprocessing, read_from_keras_file
from ..state_files import read_json, reading
from ..training.data.identity import LABELS_FILE, SplitList, read_labels
from ..training.tasks import TASKS, Classification, Segmentation, SuperResolution, Task
from .terminal import note

CLASSIFICATION, SEGMENTATION, SUPER_RESOLUTION = (task.name for task in (Classification, Segmentation, SuperResolution))
PROBE_SIDE = 256  # pixels, if a model takes any size
PROBABILITY_SLACK = 0.02  # an int8 softmax sums to one only within its steps


class NoNumbersError(ValueError):
    """A network's outputs are NaN or infinite."""


@dataclass(frozen=True)
class Network:
    """A network with one input and one output.

    Args:
        run: float32 (N, H, W, C) in [0, 1] -> float32 (N, ...).
        image_shape: (H, W, C) of the input; None for a side of any length.
        task: One of ``training.tasks.TASKS``.
        classes: Number of classes; 0 for super-resolution.
        scale: Side of the output over that of the input; 1 except for super-resolution.
        names: Names of the classes.
        preprocessing: How training resized images; None: unknown.
        mask_values: Pixel value of each class in a mask, see ``Recipe``; empty: class indices.
        most_images: Largest batch of ``run``.
        model: The Keras model; None for a .tflite file.
        named: Whether ``names`` were found; otherwise they are numbers.
        runtime: Key of ``tflite.names.RUNTIMES`` that runs a .tflite file; None for a .keras file.
    """

    run: Callable[[np.ndarray], np.ndarray]
    image_shape: tuple[int | None, int | None, int]
    task: str
    classes: int
    scale: int
    names: tuple[str, ...]
    preprocessing: Preprocessing | None
    mask_values: tuple[int | str, ...]
    most_images: int
    model: Any = None
    named: bool = True
    runtime: str | None = None

    @property
    def kind(self) -> type[Task]:
        """The class of the task."""
        return TASKS[self.task]

    @property
    def gives_masks(self) -> bool:
        """Whether the output is a class for each pixel."""
        return self.kind.large_outputs and self.kind.has_classes

    @property
    def fixed(self) -> bool:
        """Whether the network takes images of one size only."""
        return None not in self.image_shape


def task_by_shape(input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> str:
    """Return a network's task, by its shapes.

    Args:
        input_shape: (B, H, W, C).
        output_shape: (B, classes): classification; (B, H, W, classes): segmentation; (B, s*H, s*W, 3 or 1) with s > 1:
            super-resolution.

    Raises:
        ValueError: The shapes match none of these.
    """
    if len(input_shape) == 4 and input_shape[-1] in (1, 3):
        if len(output_shape) == 2:
            return CLASSIFICATION
        if len(output_shape) == 4:
            if tuple(output_shape[1:3]) == tuple(input_shape[1:3]):
                return SEGMENTATION
            scale = output_shape[1] // input_shape[1]
            enlarged = scale * input_shape[1], scale * input_shape[2]
            if scale > 1 and tuple(output_shape[1:3]) == enlarged and output_shape[3] in (1, 3):
                return SUPER_RESOLUTION
    raise ValueError(
        "A network must take images (B, H, W, 3 or 1) and return (B, classes), (B, H, W, classes) or enlarged images. "
        f"Received: {tuple(input_shape)} -> {tuple(output_shape)}"
    )


def load_network(path: Path, out: Path | None, images: int) -> Network:
    """Read a .keras or .tflite file.

    Args:
        path: The file.
        out: Run folder, if given; otherwise the run is searched beside the file.
        images: Number of images to run; a few run eagerly, as tracing a graph would take longer.
    """
    model = runtime = None
    if path.suffix == ".keras":
        model = load_keras(path)
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ValueError(
                f"A network must have one input and one output. Received: {len(model.inputs)} and {len(model.outputs)}"
            )
        given = tuple(model.inputs[0].shape)
        probe = (1, *(side or PROBE_SIDE for side in given[1:-1]), given[-1])
        computed = tuple(model.outputs[0].shape) if probe[1:] == given[1:] else model.compute_output_shape(probe)
        run, names, most = _keras_runner(model, images), None, 32
        preprocessing = read_from_keras_file(path)
    else:
        run, given, computed, names, preprocessing, most, runtime = _open_file(path)
        probe = given
    task = task_by_shape(probe, computed)
    kind = TASKS[task]
    classes = max(2, computed[-1]) if kind.has_classes else 0  # one output: two classes
    named = names is not None and len(names) == classes
    if names is None or not named:
        names, named = _names(path, out, classes)
    settings = run_settings(path, out)
    values = tuple(settings.get("mask_values") or ())
    if kind.large_outputs and kind.has_classes and not settings:
        note(f"there is no recipe.json for {path}: masks are written with class numbers")
    return Network(
        run=with_sampling_grid(lambda images: finite(run(images)), _usable_grid(run, given)),
        image_shape=(given[1], given[2], int(given[3])),
        task=task,
        classes=classes,
        scale=1 if kind.has_classes else computed[1] // probe[1],
        names=names,
        preprocessing=preprocessing or _by_recipe(settings),
        mask_values=values if len(values) == classes else (),
        most_images=most,
        model=model,
        named=named,
        runtime=runtime,
    )


def finite(outputs: np.ndarray) -> np.ndarray:
    """Return ``outputs``; NoNumbersError if they contain NaN or infinity."""
    if not np.isfinite(outputs).all():
        raise NoNumbersError(
            "A network's outputs must be finite; its weights are damaged, or its training diverged. "
            f"Received: NaN or infinity in {np.sum(~np.isfinite(outputs)):,} of {np.size(outputs):,} values"
        )
    return outputs


def load_keras(path: Path) -> Any:
    """Load a .keras file with the package's layers registered; a one-line ValueError if it is not a model."""
    from . import steps

    if (path.parent / "recipe.json").is_file():
        return steps.load_model(path)
    return state_files.load_keras(path, "Save it again with Keras: model.save(path).")


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of the classes, (..., classes), which sum to one.

    Args:
        logits: (..., K). With K = 1, the logit of the second of two classes. Probabilities stay unchanged.
    """
    values = np.asarray(logits, np.float64)
    if values.shape[-1] == 1:
        inside = values.min() >= 0 and values.max() <= 1
        second = values if inside else 1 / (1 + np.exp(-values))
        return np.concatenate([1 - second, second], axis=-1)
    if values.min() >= 0 and np.abs(values.sum(-1) - 1).max() < PROBABILITY_SLACK:
        return values / values.sum(-1, keepdims=True)
    shares = np.exp(values - values.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def _keras_runner(model: Any, images: int) -> Callable[[np.ndarray], np.ndarray]:
    import keras

    from ..sampling_grid import sampling_grid

    def eager(batch: np.ndarray) -> np.ndarray:
        return np.asarray(keras.ops.convert_to_numpy(model(batch, training=False)), np.float32)

    def traced(batch: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict_on_batch(batch), np.float32)

    return with_sampling_grid(eager if images < 8 else traced, sampling_grid(model))


def _open_file(
    path: Path,
) -> tuple[Callable[[np.ndarray], np.ndarray], Any, Any, tuple[str, ...] | None, Preprocessing | None, int, str]:
    """Open a .tflite file.

    Returns:
        (runner, input shape, output shape, class names and preprocessing of the card or file, largest batch, runtime).
    """
    from ..processor import usable_cores
    from ..tflite.errors import ExportError
    from ..tflite.exporting.artifact import Artifact
    from ..tflite.file.file_sampling_grid import file_sampling_grid
    from ..tflite.file.flatbuffer import from_output, read_file, to_input
    from ..tflite.file.metadata import read_metadata
    from ..tflite.file.model_cards import remedy
    from ..tflite.names import MICRO, XNNPACK
    from ..tflite.runtimes.running import open_raw, runtimes_of
    from ..tflite.targets.table import get_target

    artifact = Artifact.load(path) if path.with_suffix(".json").is_file() else None
    content = path.read_bytes()
    try:
        info = read_file(content, check_tensors=True)
    except ExportError as error:
        raise ExportError(f"{path}: {error}. {remedy(path)}") from error
    if len(info.inputs) != 1 or len(info.outputs) != 1:
        raise ValueError(
            f"A network must have one input and one output. Received: {len(info.inputs)} and {len(info.outputs)}"
        )
    source, sink = info.inputs[0], info.outputs[0]
    preprocessing, file_ranges = read_metadata(content)
    ranges = artifact.input_ranges if artifact else file_ranges
    if ranges and ranges[0] is None:
        note(f"{path} does not state the range of pixel values, only a measured one: black is 0, white is 1")
    low, high = (ranges[0] if ranges else None) or (0.0, 1.0)

    def to_network_input(images: np.ndarray) -> np.ndarray:
        if ranges is None and source.dtype in ("int8", "uint8"):
            # The range is unknown, but quantized pixels usually have black and white at the ends of the grid.
            return (np.round(255 * images) + np.iinfo(source.dtype).min).astype(source.dtype)
        return to_input(source, low + (high - low) * images)

    runtime = runtimes_of(get_target(artifact.target), info)[0] if artifact else XNNPACK
    run = open_raw(content, runtime, usable_cores())
    names = artifact.class_names if artifact else None
    runner = with_sampling_grid(
        lambda images: from_output(sink, run([to_network_input(images)])[0]), file_sampling_grid(info)
    )
    preprocessing = preprocessing or (artifact.preprocessing if artifact else None)
    # TensorFlow Lite Micro starts a process for every call; LiteRT keeps its interpreter.
    most = 64 if runtime == MICRO else 1
    return runner, source.shape, sink.shape, names, preprocessing, most, runtime


def _usable_grid(run: Any, given: Any) -> tuple[int, int] | None:
    """Return the network's grid; None if it was built for smaller images, which it pads itself."""
    grid, sides = run.sampling_grid, [side for side in given[1:3] if side is not None]
    return None if grid and sides and min(sides) < max(grid) else grid


def with_sampling_grid(run: Callable[[np.ndarray], Any], grid: tuple[int, int] | None) -> Any:
    """Set the attribute of ``run`` that ``predict_tiled`` reads."""
    run.sampling_grid = grid  # type: ignore[attr-defined]
    return run


def homes(path: Path, out: Path | None = None) -> list[Path]:
    """Return the folders that may hold a model's labels, recipe and list of images: its own and its run's."""
    return [path.parent, *([path.parent.parent] if path.parent.name == "exports" else []), *([out] if out else [])]


def _names(path: Path, out: Path | None, classes: int) -> tuple[tuple[str, ...], bool]:
    """Return class names from the first list of labels of the right length, and True; otherwise numbers, and False."""
    if not classes:
        return (), True
    lists = {path.with_suffix(".labels.txt"): _own_names, **dict.fromkeys(homes(path, out), read_labels)}
    for place, read in lists.items():
        names = read(place)
        if names is None:
            continue
        if len(names) == classes:
            return tuple(names), True
        labels = place / LABELS_FILE if read is read_labels else place
        note(f"{labels} names {len(names)} classes, the network has {classes}: it is not used")
    for home in homes(path, out):
        # Imported weights: the class names of the first data that was used with them.
        listed = SplitList.load(home)
        if listed is not None and len(listed.fingerprint["classes"]) == classes:
            return tuple(listed.fingerprint["classes"]), True
    return tuple(map(str, range(classes))), False


def _own_names(labels: Path) -> list[str] | None:
    """Read the list of labels beside a model file; None if there is none."""
    if not labels.is_file():
        return None
    with reading(labels, "It names the classes, one per line: copy it from another place, or delete it."):
        return labels.read_bytes().decode("utf-8").splitlines()


def run_settings(path: Path, out: Path | None = None) -> dict[str, Any]:
    """Return the recipe of the run that a file belongs to; empty if there is none."""
    for home in homes(path, out):
        path = home / "recipe.json"
        if path.is_file():
            return dict(read_json(path, "It states how images are resized: restore the run's recipe.", {}))
    return {}


def _by_recipe(settings: dict[str, Any]) -> Preprocessing | None:
    crop = settings.get("crop_to_aspect_ratio")
    return Preprocessing(crop_to_aspect_ratio=crop) if isinstance(crop, bool) else None
