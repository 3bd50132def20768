"""Warm start: a trial begins with the weights of a smaller network that the search has already trained.

The larger network computes what the smaller one did, as in Chen et al., "Net2Net: Accelerating Learning via Knowledge
Transfer" (arXiv 1511.05641): the weights that read new channels begin at zero, and the last norms of new blocks scale
by zero. Unlike there, new channels have weights of their own instead of copies. Equal shapes do not suffice: a layer
norm or a Fourier transform over more channels computes something else, and so does another activation or stride. A
trial whose network cannot be continued exactly is therefore not taken; both networks are run to see it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from wavemix_tf.files import write_text
from wavemix_tf.keras_internals import flatten_layers
from wavemix_tf.layers.residual_block import ChannelParts, ResidualBlock
from wavemix_tf.state_files import load_keras, read_json

from ..run_files import BEGIN_ANEW, RunFiles
from .search_result import COMPLETED, OUTCOME_FILE, Trial

CHOICE_FILE = "warm_start.json"  # in a trial's folder: from which trial it began, or null; a resumed one does as well
# Axis of a kernel that reads the channels of the layer's input.
INPUT_AXES = {"Conv1D": -2, "Conv2D": -2, "Dense": -2, "Conv2DTranspose": -1}
PROBES = 4  # random images on which two networks are compared
# Largest difference of two networks that compute the same, as a share of their outputs' spread.
MAX_DIFFERENCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}


@dataclass(frozen=True)
class Donor:
    """A trained network from which a larger one may begin."""

    trial: str
    weights: Mapping[str, np.ndarray]  # path of a variable -> value
    parts: Mapping[str, ChannelParts]  # of layers, by name
    model: Any = None  # the network itself

    @classmethod
    def load(cls, trials: Path, trial_id: str) -> Donor:
        """Read the network of a trial."""
        model = load_keras(RunFiles(trials / trial_id, "float").model, f"{BEGIN_ANEW}.")
        return cls(trial_id, weights_of(model), parts_of(model), model)


def weights_of(model: Any) -> dict[str, np.ndarray]:
    """Path of each variable that is saved -> its value; the paths of two networks of one kind agree."""
    return {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.weights}


def parts_of(model: Any) -> dict[str, ChannelParts]:
    """``ResidualBlock.channel_parts`` of all blocks."""
    blocks = [layer for layer in model.layers if isinstance(layer, ResidualBlock)]
    return {name: parts for block in blocks for name, parts in block.channel_parts().items()}


def begin_from_best(model: Any, trials: Path, own: str, sign: float) -> Donor | None:
    """Begin from the best completed trial that ``model`` can continue, and return it; None if there is none.

    Args:
        model: The untrained network; unchanged if there is none.
        trials: Folder of the trials.
        own: Id of this trial.
        sign: 1 if a larger score is better, -1 otherwise.
    """
    found = [Trial.load(path) for path in trials.glob(f"*/{OUTCOME_FILE}") if path.parent.name != own]
    done = [trial for trial in found if trial.status == COMPLETED and trial.score is not None]
    for trial in sorted(done, key=lambda trial: (-sign * (trial.score or 0.0), trial.trial_id)):
        donor = Donor.load(trials, trial.trial_id)
        if fits(donor, model):
            initial = [keras.ops.convert_to_numpy(variable) for variable in model.weights]
            begin_from(model, donor)
            if computes_the_same(model, donor.model):
                return donor
            for variable, value in zip(model.weights, initial, strict=True):
                variable.assign(value)
    return None


def computes_the_same(model: Any, other: Any) -> bool:
    """Whether two networks have the same outputs, up to rounding, on random images."""
    if model.input_shape != other.input_shape:
        return False
    images = np.random.default_rng(0).random((PROBES, *model.input_shape[1:]), "float32")
    found, expected = (np.asarray(keras.ops.convert_to_numpy(one(images)), np.float32) for one in (model, other))
    if found.shape != expected.shape:
        return False
    dtypes = {layer.compute_dtype for layer in flatten_layers(model)}
    tolerance = max(MAX_DIFFERENCE.get(dtype, MAX_DIFFERENCE["float32"]) for dtype in dtypes)
    return bool(np.abs(found - expected).max() <= tolerance * np.std(expected) + 1e-6)


def fits(donor: Donor, model: Any) -> bool:
    """Whether every weight of the donor is one of ``model``, with kernels as large and no fewer channels."""
    larger = weights_of(model)
    return all(
        name in larger
        and value.ndim == larger[name].ndim
        and value.shape[:-2] == larger[name].shape[:-2]
        and all(side <= other for side, other in zip(value.shape, larger[name].shape, strict=True))
        for name, value in donor.weights.items()
    )


def begin_from(model: Any, donor: Donor) -> None:
    """Give ``model`` the weights of a donor that ``fits``; see the module for those that the donor does not have."""
    parts = parts_of(model)
    for layer in flatten_layers(model, include_self=False):
        for variable in layer.weights if not flatten_layers(layer, include_self=False) else ():
            if variable.path not in donor.weights:
                continue
            old, new = donor.weights[variable.path], np.array(keras.ops.convert_to_numpy(variable))
            places = [np.arange(side) for side in old.shape]
            before, after = (known.get(layer.name, ChannelParts()) for known in (donor.parts, parts))
            if after.written:
                places[-1] = _joined_places(before.written, after.written)
            axis = INPUT_AXES.get(type(layer).__name__)
            if axis is not None and variable is layer.kernel:
                if after.read:
                    places[axis] = _joined_places(before.read, after.read)
                unread = list(places)
                unread[axis] = np.setdiff1d(np.arange(new.shape[axis]), places[axis])
                new[np.ix_(*unread)] = 0.0  # channels that the donor has do not read those that are new
            new[np.ix_(*places)] = old
            variable.assign(new)
        if isinstance(layer, ResidualBlock) and not any(one.path in donor.weights for one in layer.weights):
            norm = layer.last_norm()
            if norm is not None:
                norm.gamma.assign(keras.ops.zeros_like(norm.gamma))


def _joined_places(before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """Return the places of the donor's channels among those of a larger network: the first of each part."""
    starts = np.cumsum([0, *after[:-1]])
    # A network of more levels joins one part more, behind those of the donor.
    return np.concatenate([start + np.arange(size) for start, size in zip(starts, before, strict=False)])


def begin_trial(model: Any, folder: Path, sign: float) -> str | None:
    """Start the network of a trial from the best one that fits into it; return that trial's id, or None.

    An interrupted trial starts as before, whatever has been trained since.

    Args:
        model: The untrained network.
        folder: The trial's folder.
        sign: As for ``begin_from_best``.
    """
    path = folder / CHOICE_FILE
    if path.is_file():
        before: str | None = read_json(path, f"{BEGIN_ANEW}.", {"trial": (str, type(None))})["trial"]
        if before is not None:
            begin_from(model, Donor.load(folder.parent, before))
        return before
    donor = begin_from_best(model, folder.parent, folder.name, sign)
    chosen = None if donor is None else donor.trial
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"trial": chosen}) + "\n")
    return chosen
