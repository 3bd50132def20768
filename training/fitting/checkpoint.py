"""The state of an unfinished stage in one file, which is written atomically.

A checkpoint is an .npz of plain arrays (no pickles) written under a temporary name, flushed to disk and renamed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from wavemix_tf.files import replacing

from ..run_files import CHECKPOINT_FORMAT, read_checkpoint


@dataclasses.dataclass
class TrainingState:
    """The state of a stage after its last finished epoch.

    Args:
        epoch: Finished epochs of the stage, all phases together.
        phase: Index of the current phase.
        phase_epoch: Finished epochs of that phase.
        waited: Epochs since the phase's last gain.
        best_epoch: Number (from 1) of the epoch with the best validation, over all phases.
        best: Its (metric, negative loss).
        phase_best: The best of this phase; patience counts from it.
        history: One row per epoch.
        fingerprint: Fingerprint of the data; a resumed run must have the same.
    """

    epoch: int = 0
    phase: int = 0
    phase_epoch: int = 0
    waited: int = 0
    best_epoch: int | None = None
    best: tuple[float, float] | None = None
    phase_best: tuple[float, float] | None = None
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    fingerprint: dict[str, Any] = dataclasses.field(default_factory=dict)


def save(path: Path, state: TrainingState, groups: dict[str, list[np.ndarray]]) -> None:
    """Write state and arrays ("model", "optimizer", "best" -> list of arrays)."""
    header = json.dumps({"format": CHECKPOINT_FORMAT, **dataclasses.asdict(state)})
    arrays: dict[str, Any] = {
        f"{group}/{index:05d}": array for group, items in groups.items() for index, array in enumerate(items)
    }
    with replacing(path) as temporary:
        np.savez(temporary, header=np.array(header), **arrays)


def load(path: Path) -> tuple[TrainingState, dict[str, list[np.ndarray]]]:
    """Read what `save` wrote.

    Raises:
        DamagedFileError: the file is truncated or not a checkpoint.
    """
    header, groups = read_checkpoint(path)
    known = {field.name for field in dataclasses.fields(TrainingState)}
    state = TrainingState(**{name: value for name, value in header.items() if name in known})
    for name in ("best", "phase_best"):
        if getattr(state, name) is not None:
            setattr(state, name, tuple(getattr(state, name)))  # JSON has no tuples
    return state, groups


def state_variables(model: Any) -> list[Any]:
    """All variables of a model except its metrics: weights, batch norm statistics, states of the random generators."""
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics]


def seed(model: Any, number: int) -> None:
    """Set the states of a model's random generators (dropout, noise) to values that depend only on ``number``.

    A ``.keras`` file does not store them: a layer that was loaded, or copied in another process, would draw other
    numbers.
    """
    generators = [variable for variable in state_variables(model) if variable.name == "seed_generator_state"]
    for index, variable in enumerate(generators):
        drawn = int(np.random.SeedSequence([number, index]).generate_state(1)[0]) & 0x7FFFFFFF
        variable.assign(np.asarray([drawn, 0]))


def values(variables: Iterable[Any]) -> list[np.ndarray]:
    """Copies of the variables' values; bfloat16, which .npz does not support, is converted to float32 losslessly."""
    arrays = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    return [array if array.dtype.kind in "biuf" else array.astype(np.float32) for array in arrays]


def assign(variables: list[Any], arrays: list[np.ndarray], where: Any) -> None:
    """Assign `arrays` to `variables`; their numbers and shapes must agree."""
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [array.shape for array in arrays]:
        raise ValueError(
            f"The model must match the training state in {where}. Received: a model of {len(shapes)} variables "
            f"{shapes[:4]}..., the file has {len(arrays)} {[array.shape for array in arrays][:4]}..."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
