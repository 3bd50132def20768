"""Convert PyTorch checkpoints to our weights, and back.

The names and layouts of a network's tensors are in the module of its plan: `wavemix` (the official package), `timm`
(ViT, ConvMixer, MLP-Mixer, PoolFormer), `dynamixer`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import keras
import numpy as np

from ..files import replacing
from ..networks.dynamixer import DynaMixer
from ..networks.token_mixers import ConvMixer, MLPMixer, PoolFormer
from ..networks.vit import ViT
from ..networks.wavemix import WaveMixClassifier, WaveMixSegmenter, WaveMixSuperResolver
from .dynamixer import dynamixer_plan
from .plans import HEAD, Array, Plan
from .timm import convmixer_plan, mlp_mixer_plan, poolformer_plan, vit_plan
from .torch_files import import_torch, network_state, read_file
from .wavemix import wavemix_plan

ModelT = TypeVar("ModelT", bound=keras.Model)
# Class -> its plan: (model, checkpoint or None) -> our `layer/variable` -> entry, for every variable that the official
# network has too. The checkpoint decides between several official names of a part.
PLANS: dict[type[keras.Model], Callable[[Any, Mapping[str, Any] | None], Plan]] = {
    WaveMixClassifier: wavemix_plan,
    WaveMixSegmenter: wavemix_plan,
    WaveMixSuperResolver: wavemix_plan,
    ViT: vit_plan,
    ConvMixer: convmixer_plan,
    MLPMixer: mlp_mixer_plan,
    PoolFormer: poolformer_plan,
    DynaMixer: dynamixer_plan,
}
# Saved by PyTorch, without a counterpart in Keras.
_COUNTER = ".num_batches_tracked"


def load_torch_weights(
    model: ModelT,
    source: str | os.PathLike[str] | Mapping[str, Any],
    new_head: bool = False,
    entry: str | None = None,
) -> ModelT:
    """Load an official checkpoint into `model`, in place.

    Nothing is changed unless every tensor fits: keys and shapes are checked first. A checkpoint trained on images
    normalized by mean and std needs a model built with the same `normalize` (see `CHECKPOINT_NORMALIZATION`), which has
    no weights and is not part of the file.

    Args:
        model: A network of a class in `PLANS`, built with the checkpoint's arguments (`levels`, `stem`, `width`, ...).
        source: Path of a `.pth` file with a state dict (needs PyTorch; read with `weights_only=True`, so a file that
            would run code is refused), or a mapping from official key to array or tensor. Wrappers around it are
            removed (a training script's dictionary, DataParallel, torch.compile, Lightning, a moving average).
        new_head: Keep the model's head and skip the checkpoint's, of any size or kind: to fine-tune on other classes,
            or to use a classifier's weights in a segmenter.
        entry: Place of the network in the checkpoint, e.g. "state_dict_ema"; None: found automatically. If there are a
            network and its moving average, the network is used, with a warning that names the other.

    Returns:
        `model`.

    Raises:
        ValueError: Unknown kind of model or file, keys that are missing, unexpected or of another shape, or weights
            that are not finite (all named).
        ImportError: A path is given and PyTorch is not installed.

    Example:
        >>> model = wm.build_model("wavemix_lite_144_7", normalize="cifar10")
        >>> wm.load_torch_weights(model, "cifar10_94.58.pth")
    """
    _plan(model)  # refuse an unknown kind of model before anything is read
    held = source if isinstance(source, Mapping) else read_file(source)
    state = network_state(held, lambda leaves: (entry.key for entry in _plan(model, leaves).values()), entry)
    plan = _plan(model, state)
    if new_head:
        plan = {name: one for name, one in plan.items() if not HEAD.match(one.key)}
        state = {key: value for key, value in state.items() if not HEAD.match(key)}

    missing = sorted(one.key for one in plan.values() if one.key not in state)
    known = {one.key for one in plan.values()}
    unexpected = sorted(key for key in state if key not in known and not key.endswith(_COUNTER))
    variables = _variables(model)
    values: dict[str, Array] = {}
    misshapen, no_numbers = [], []
    for name, one in plan.items():
        if one.key not in state:
            continue
        stored = _array(state[one.key])
        expected = tuple(variables[name].shape)
        values[name] = one.load(stored)
        if values[name].shape != expected:
            misshapen.append(f"{one.key} {stored.shape} for {name} {expected}{one.note}")
        if not np.isfinite(stored).all():
            no_numbers.append(one.key)
    if missing or unexpected or misshapen:
        complaints = [
            f"{what}: {', '.join(names)}"
            for what, names in (("missing keys", missing), ("unexpected keys", unexpected), ("wrong shapes", misshapen))
            if names
        ]
        raise ValueError(
            "A checkpoint must have exactly the tensors of the model "
            "(built with the same arguments, including num_classes; new_head=True skips the "
            f"head). Received: {'; '.join(complaints)}"
        )
    if no_numbers:
        raise ValueError(
            "A checkpoint's weights must be finite: its training diverged, or the file is damaged. Received: NaN or "
            f"infinity in {', '.join(no_numbers)}"
        )
    for name, value in values.items():
        variables[name].assign(value)
    return model


def export_torch_weights(
    model: keras.Model, path: str | os.PathLike[str] | None = None, overwrite: bool = False
) -> dict[str, Array]:
    """Return the weights of `model` with official names and PyTorch's layout: the inverse of `load_torch_weights`.

    The official network loads them with `load_state_dict(strict=True)`. `normalize` is not part of them.

    Args:
        model: A network of a class in `PLANS`.
        path: A `.pth` file to write (needs PyTorch); None: no file.
        overwrite: Whether to replace an existing file.

    Returns:
        Official key -> float32 array, and an int64 zero for BatchNorm's `num_batches_tracked`.

    Raises:
        ValueError: A model without an official counterpart, or an existing file.
        ImportError: A path is given and PyTorch is not installed.

    Example:
        >>> official.load_state_dict({k: torch.from_numpy(v) for k, v in wm.export_torch_weights(model).items()})
    """
    variables = _variables(model) if isinstance(model, tuple(PLANS)) else {}
    state: dict[str, Array] = {}
    for name, entry in _plan(model).items():
        value = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(variables[name], "float32")))
        state[entry.key] = np.ascontiguousarray(entry.save(value))
        if entry.key.endswith(".running_var"):
            state[entry.key.removesuffix(".running_var") + _COUNTER] = np.array(0, "int64")
    if path is not None:
        torch = import_torch("Writing")
        if os.path.exists(path) and not overwrite:
            raise ValueError(
                f"path must not exist without overwrite=True. Received: path={os.fspath(path)!r}, which exists"
            )
        with replacing(path) as temporary:
            torch.save({key: torch.from_numpy(value) for key, value in state.items()}, temporary)
    return state


def _array(value: Any) -> Array:
    if hasattr(value, "detach"):  # a torch tensor, perhaps bfloat16, which NumPy does not support
        value = value.detach().float().cpu().numpy()
    return np.asarray(value, dtype="float32")


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """`layer/variable` -> variable; sublayer names are unique in a model."""
    return {"/".join(variable.path.split("/")[-2:]): variable for variable in model.variables}


def _plan(model: Any, state: Mapping[str, Any] | None = None) -> Plan:
    """Return the plan of a model's class."""
    for cls, plan in PLANS.items():
        if isinstance(model, cls):
            return plan(model, state)
    known = ", ".join(cls.__name__ for cls in PLANS)
    raise ValueError(f"model must be one of {known}. Received: model={type(model).__name__}")
