"""Official PyTorch checkpoints -> our weights.

The official package (`wavemix` 0.2.x on PyPI) and the scripts around it save plain state dicts under these names, with
`N` the block counted from 0:

    conv.{0,1}                   strided stem: two 3x3 convolutions
    conv.{0,1,2}, conv.4         patchify stem: 3x3, 3x3, patch convolution, BatchNorm (conv.3 is the GELU)
    layers.N.reduction           the 1x1 convolution in front of the wavelet transform
    layers.N.feedforward.*       the only feed-forward of a one-level block
    layers.N.feedforward{k}.*    the feed-forward of level k, k = 1 the finest
        .0 .3 .4 .5              1x1, 1x1, transposed convolution (or nothing: upsampling has no weights), BatchNorm
    pool.2  (or head.2)          the classifier's linear layer

Layouts differ in three ways and are converted here: convolutions are stored (out, in, h, w), transposed convolutions
(in, out, h, w), and the wavelet bands reach a feed-forward as all LL channels followed by [LH, HL, HH] interleaved
channel by channel, where ours are band-major [LL | LH | HL | HH].
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import keras
import numpy as np

from wavemix_tf.models import WaveMixClassifier

Array = np.ndarray
Convert = Callable[[Array], Array]
Entry = tuple[str, Convert]  # (official key, conversion to our layout)
ModelT = TypeVar("ModelT", bound=keras.Model)

# Under which of our variable names a PyTorch layer's tensors live.
_BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# Saved by PyTorch, without a counterpart in Keras.
_IGNORED_SUFFIXES = (".num_batches_tracked",)
# Wrappers that scripts put around the state dict, and the prefix that DataParallel adds to every key.
_CONTAINERS = ("state_dict", "model_state_dict", "model")
_PARALLEL_PREFIX = "module."


def load_torch_weights(model: ModelT, source: str | os.PathLike[str] | Mapping[str, Any]) -> ModelT:
    """Loads an official WaveMix checkpoint into `model`, in place.

    Nothing is changed unless every tensor fits: keys and shapes are checked first. A checkpoint trained on
    mean/std-normalised images needs a model built with the same `normalize`, which has no weights and so is not part
    of the file.

    Args:
        model: a `WaveMixClassifier` built with the checkpoint's arguments (`levels`, `stem`, `width`, `ff_dim`, ...).
        source: path of a `.pth` file holding a state dict (needs PyTorch; read with `weights_only=True`, so a file that
            would run code is refused), or a mapping from official key to array or tensor.

    Returns:
        `model`.

    Raises:
        ValueError: unknown kind of model or file, or keys that are missing, unexpected or of another shape (all named).
        ImportError: a path was given and PyTorch is not installed.

    Example:
        >>> model = wm.build_model("wavemix_lite_144_7")
        >>> wm.load_torch_weights(model, "cifar10_94.58.pth")
    """
    if not isinstance(model, WaveMixClassifier):
        raise ValueError(f"Official weights load into a WaveMixClassifier. Received: model={type(model).__name__}")
    state = _plain_keys(source if isinstance(source, Mapping) else _read(source))
    plan = _plan(model, linear="head.2" if "head.2.weight" in state else "pool.2")

    missing = sorted(key for key, _ in plan.values() if key not in state)
    known = {key for key, _ in plan.values()}
    unexpected = sorted(key for key in state if key not in known and not key.endswith(_IGNORED_SUFFIXES))
    variables = _variables(model)
    values: dict[str, Array] = {}
    misshapen = []
    for name, (key, convert) in plan.items():
        if key not in state:
            continue
        stored = _array(state[key])
        expected = tuple(variables[name].shape)
        try:
            values[name] = convert(stored)
        except (ValueError, IndexError):  # wrong rank, or too few channels to permute
            values[name] = stored
        if values[name].shape != expected:
            misshapen.append(f"{key} {stored.shape} for {name} {expected}")
    if missing or unexpected or misshapen:
        complaints = [
            f"{what}: {', '.join(names)}"
            for what, names in (("missing keys", missing), ("unexpected keys", unexpected), ("wrong shapes", misshapen))
            if names
        ]
        raise ValueError(
            "A checkpoint must hold exactly the tensors of the model "
            "(same width, depth, levels, stem, ff_dim, expansion, upsample, num_classes). "
            f"Received: {'; '.join(complaints)}"
        )
    for name, value in values.items():
        variables[name].assign(value)
    return model


def _read(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise ImportError("Reading a PyTorch checkpoint needs PyTorch: pip install 'wavemix-tf[torch]'") from error
    import pickle

    if not os.path.isfile(path):
        raise ValueError(f"A checkpoint is an existing .pth file. Received: source={os.fspath(path)!r}")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            "A checkpoint must be a state dict saved with torch.save(model.state_dict(), path); "
            "whole pickled modules and damaged files are refused. "
            f"Received: source={os.fspath(path)!r} ({(str(error) or type(error).__name__).splitlines()[0]})"
        ) from error
    if not isinstance(loaded, Mapping):
        raise ValueError(
            f"A checkpoint must hold a state dict. Received: {type(loaded).__name__} in source={os.fspath(path)!r}"
        )
    return loaded


def _plain_keys(state: Mapping[str, Any]) -> dict[str, Any]:
    for container in _CONTAINERS:
        if isinstance(state.get(container), Mapping):
            state = state[container]
            break
    return {str(key).removeprefix(_PARALLEL_PREFIX): value for key, value in state.items()}


def _array(value: Any) -> Array:
    if hasattr(value, "detach"):  # a torch tensor, perhaps bfloat16, which NumPy cannot hold
        value = value.detach().float().cpu().numpy()
    return np.asarray(value, dtype="float32")


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """`layer/variable` -> variable; sublayer names are unique in a model."""
    return {"/".join(variable.path.split("/")[-2:]): variable for variable in model.variables}


def _plan(model: WaveMixClassifier, linear: str) -> dict[str, Entry]:
    """Our `layer/variable` -> (official key, conversion), for every variable that the official model has too."""
    if model.upsample == "pixel_shuffle":
        raise ValueError(
            "The official package has no pixel-shuffle upsampler in this block. Received: upsample='pixel_shuffle'"
        )
    plan: dict[str, Entry] = {}
    stem_convs = 2 if model.stem == "strided" else 3
    for index in range(stem_convs):
        plan |= _conv(f"stem_conv{index + 1}", f"conv.{index}")
    if model.stem == "patchify":
        plan |= _batch_norm("stem_norm", "conv.4")

    band_width = model.width // 4
    for index in range(model.depth):
        block, official = f"block{index + 1}", f"layers.{index}"
        plan |= _conv(f"{block}_reduce", f"{official}.reduction")
        for level in range(1, model.levels + 1):
            feedforward = f"{official}.feedforward" + (str(level) if model.levels > 1 else "")
            plan |= _conv(f"{block}_expand{level}", f"{feedforward}.0", lambda kernel: _band_major(kernel, band_width))
            plan |= _conv(f"{block}_project{level}", f"{feedforward}.3")
            if model.upsample == "deconv":
                plan |= _conv(f"{block}_upsample{level}", f"{feedforward}.4")
            plan |= _batch_norm(f"{block}_norm{level}", f"{feedforward}.5")
    plan["head/kernel"] = (f"{linear}.weight", np.transpose)
    plan["head/bias"] = (f"{linear}.bias", np.asarray)
    return plan


def _conv(ours: str, official: str, then: Convert = np.asarray) -> dict[str, Entry]:
    # (out, in, h, w) -> (h, w, in, out), and a transposed convolution's (in, out, h, w) -> (h, w, out, in): the same
    # permutation of axes.
    return {
        f"{ours}/kernel": (f"{official}.weight", lambda kernel: then(np.transpose(kernel, (2, 3, 1, 0)))),
        f"{ours}/bias": (f"{official}.bias", np.asarray),
    }


def _batch_norm(ours: str, official: str) -> dict[str, Entry]:
    return {f"{ours}/{mine}": (f"{official}.{theirs}", np.asarray) for mine, theirs in _BATCH_NORM.items()}


def _band_major(kernel: Array, band_width: int) -> Array:
    """Reorders the input channels of a (1, 1, in, out) kernel from [LL | LH0 HL0 HH0 LH1 ...] to [LL | LH | HL | HH].

    Channels of a deeper level follow unchanged.
    """
    low, details, deeper = np.split(kernel, [band_width, 4 * band_width], axis=2)
    details = details.reshape(*kernel.shape[:2], band_width, 3, kernel.shape[3]).swapaxes(2, 3).reshape(details.shape)
    return np.concatenate([low, details, deeper], axis=2)
