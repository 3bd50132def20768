"""The files of `evaluate`: a network with all that its images must be read by, and the costs of its file."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..escaping import printable
from ..tflite.exporting.artifact import Artifact
from ..tflite.measuring.latency import alternating_times_ms, opened_run
from ..tflite.names import RUNTIMES, XNNPACK
from ..training.data.identity import SplitList
from ..training.recipe import Recipe
from ..training.recipes.table import RECIPES
from .arguments import READ_MASKS_BY
from .networks import Network, homes, load_network, run_settings

MANY_IMAGES = 1000  # a graph is traced


@dataclasses.dataclass(frozen=True)
class EvaluatedFile:
    """A network to evaluate.

    Attributes:
        path: The .keras or .tflite file.
        network: Its network.
        recipe: How to read images for it.
        artifact: The file and its model card; None where there is no card.
    """

    path: Path
    network: Network
    recipe: Recipe
    artifact: Artifact | None

    @property
    def is_keras(self) -> bool:
        """Whether Keras runs it."""
        return self.path.suffix == ".keras"

    def facts(self) -> dict[str, Any]:
        """Return the file's part of the report: name, size, arena."""
        content, card = self.path.read_bytes(), self.artifact
        runtime = "Keras" if self.is_keras else RUNTIMES[self.network.runtime or XNNPACK].title
        preprocessing = self.network.preprocessing
        return {
            "name": printable(self.path.name),
            "path": printable(str(self.path)),
            "sha256": hashlib.sha256(content).hexdigest(),
            "runtime": runtime,
            "target": None if card is None else card.target,
            "dtype": None if card is None else card.dtype,
            "size_bytes": len(content),
            "arena_bytes": None if card is None else card.arena_bytes,
            "image_shape": list(self.recipe.image_shape),
            "preprocessing": None if preprocessing is None else preprocessing.words,
        }


def open_file(path: Path, folder: Path, given: Mapping[str, Any]) -> EvaluatedFile:
    """Load a network and find how its images are read.

    Args:
        path: A .keras or .tflite file, with its card or labels beside it.
        folder: Folder of the images.
        given: From ``arguments.reading_settings``.

    Raises:
        ValueError: The classes' names or the preprocessing are unknown, or ``given`` contradicts the file.
    """
    network = load_network(path, None, MANY_IMAGES)
    if network.kind.has_classes and not network.named:
        raise ValueError(
            f"The names of the {network.classes} classes must be known: write them to "
            f"{path.with_suffix('.labels.txt')}, one per line, in the order of the outputs. Received: {path} without "
            "names"
        )
    twice = sorted({name for name in network.names if network.names.count(name) > 1})
    if twice:
        raise ValueError(f"Each class must have a name of its own. Received: {path} with {', '.join(twice[:8])} twice")
    artifact = Artifact.load(path) if path.suffix == ".tflite" and path.with_suffix(".json").is_file() else None
    return EvaluatedFile(path, network, _recipe(path, network, folder, given), artifact)


def _recipe(path: Path, network: Network, folder: Path, given: Mapping[str, Any]) -> Recipe:
    """Return the recipe that reads the images: its fields are those of the file, or else of ``given``."""
    kind = network.kind
    fields: dict[str, Any] = {"image_shape": _image_shape(path, network, given)}
    if not kind.keeps_size:
        fields["crop_to_aspect_ratio"] = _crop(path, network, given)
    if network.gives_masks:
        stated = run_settings(path)
        fields |= {key: stated[key] for key in READ_MASKS_BY if key in stated}
        fields["num_classes"] = network.classes
    if not kind.has_classes:
        fields["scale"] = network.scale
    fields |= {key: value for key, value in given.items() if key not in fields or key in READ_MASKS_BY}
    start = Recipe(name="evaluation", dataset="folder", image_shape=(1, 1, 3))
    if kind.folder_recipe:
        changes = {"ignore_index": None, **kind.folder_changes, "description": "", "name": "evaluation"}
        start = dataclasses.replace(RECIPES[kind.folder_recipe], **changes)
    return dataclasses.replace(start, data_dir=str(folder.resolve()), **fields)


def _image_shape(path: Path, network: Network, given: Mapping[str, Any]) -> tuple[int, int, int]:
    height, width, channels = network.image_shape
    stated = given.get("image_shape")
    if height is None or width is None:
        if stated is None and network.kind.keeps_size:
            return network.kind.default_shape
        if stated is None or stated[2] != channels:
            raise ValueError(
                f"{path} takes images of any size: --set image_shape=HEIGHTxWIDTHx{channels} states the size that they "
                f"are resized to. Received: image_shape={'x'.join(map(str, stated)) if stated else None}"
            )
        return (stated[0], stated[1], stated[2])
    if stated not in (None, (height, width, channels)):
        raise ValueError(
            f"{path} takes images of {height}x{width}x{channels}. Received: --set image_shape="
            f"{'x'.join(map(str, stated))}"
        )
    return height, width, channels


def _crop(path: Path, network: Network, given: Mapping[str, Any]) -> bool:
    stated = given.get("crop_to_aspect_ratio")
    if network.preprocessing is None:
        if stated is None:
            raise ValueError(
                "How training resized images must be known: --set crop_to_aspect_ratio=true (cropped) or "
                f"--set crop_to_aspect_ratio=false (stretched) states it. Received: {path} without this information"
            )
        return bool(stated)
    known = network.preprocessing.crop_to_aspect_ratio
    if stated not in (None, known):
        raise ValueError(
            f"{path} states how images are resized: crop_to_aspect_ratio={known}. Received: --set "
            f"crop_to_aspect_ratio={stated}"
        )
    return known


def trained_on(path: Path, digests: Sequence[str]) -> tuple[int, Path | None]:
    """Return how many images were used to train a network, and the list of its run that says so.

    Args:
        path: The network's file.
        digests: Digest of each image, see ``training.data.listing.digest``.
    """
    for home in homes(path):
        listed = SplitList.load(home)
        if listed is not None and listed.files is not None:
            used = set(listed.files.get("train", {}).values())
            return sum(digest in used for digest in digests), home
    return 0, None


def latencies(files: Sequence[EvaluatedFile]) -> list[dict[str, Any]]:
    """Time one image in each file, in turns: [{"p50", "p90", "runtime"}, ...] in milliseconds.

    A .tflite file runs under LiteRT with XNNPACK on one thread, a .keras file in Keras.
    """
    times = alternating_times_ms([_one_image(file) for file in files])
    return [
        {
            "p50": float(np.percentile(found, 50)),
            "p90": float(np.percentile(found, 90)),
            "runtime": "Keras" if file.is_keras else RUNTIMES[XNNPACK].title,
        }
        for file, found in zip(files, times, strict=True)
    ]


def _one_image(file: EvaluatedFile) -> Callable[[], Any]:
    if not file.is_keras:
        return opened_run(file.path.read_bytes())
    image = np.full((1, *file.recipe.image_shape), 0.5, np.float32)
    return lambda: file.network.run(image)
