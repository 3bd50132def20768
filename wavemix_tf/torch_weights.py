"""Official PyTorch checkpoints -> our weights, and back.

The official package (`wavemix` 0.2.x on PyPI) and the scripts around it save plain state dicts under these names, with
`N` the block counted from 0:

    conv.{0,1}                   strided stem: two 3x3 convolutions
    conv.{0,1,2}, conv.4         patchify stem: 3x3, 3x3, patch convolution, BatchNorm (conv.3 is the GELU)
    layers.N.reduction           the 1x1 convolution in front of the wavelet transform
    layers.N.feedforward.*       the only feed-forward of a one-level block
    layers.N.feedforward{k}.*    the feed-forward of level k, k = 1 the finest
        .0 .3 .4 .5              1x1, 1x1, transposed convolution (or nothing: upsampling has no weights), BatchNorm
        .0 .4 .5                 third version: 1x1, 3x3 behind the pixel shuffle, BatchNorm
        .0 .3 .5 .6              WaveMixSR-V2: 1x1, 1x1, 3x3 behind the pixel shuffle, BatchNorm
    layers.N.ff{k}, .depthconv.{0,2}   first version: transposed convolution of level k, depthwise 5x5, BatchNorm
    pool.2  (or head.2)          a classifier's linear layer
    expand.{0,1,2}  (or pool.*)  a segmenter's transposed convolutions and 1x1 convolution
    expand.{0,1}                 the same of `wavemix.sisr`
    path1.{1,2}, final.{0,1}     WaveMixSR's stem and head; WaveMixSR-V2 has all of it under SR_blocks.S

Layouts differ in four ways and are converted here: convolutions are stored (out, in, h, w), transposed convolutions
(in, out, h, w), the wavelet bands reach a feed-forward as all LL channels followed by [LH, HL, HH] interleaved
channel by channel, where ours are band-major [LL | LH | HL | HH], and a pixel shuffle takes channel c of place p of a
cell at 4c + p, where ours takes it at pC + c.

What other networks are saved under says the module that has their plan, `timm_weights`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import keras
import numpy as np

from wavemix_tf.files import replacing
from wavemix_tf.models import WaveMixClassifier, WaveMixSegmenter, WaveMixSuperResolver
from wavemix_tf.vit import ViT

Array = np.ndarray
ModelT = TypeVar("ModelT", bound=keras.Model)
MODELS = (WaveMixClassifier, WaveMixSegmenter, WaveMixSuperResolver, ViT)

# Under which of our variable names a PyTorch layer's tensors live.
_BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# Saved by PyTorch, without a counterpart in Keras.
_COUNTER = ".num_batches_tracked"
# Wrappers that scripts put around the state dict, and the prefix that DataParallel adds to every key.
_CONTAINERS = ("state_dict", "model_state_dict", "model")
_PARALLEL_PREFIX = "module."
# Official names of heads of every kind.
_HEAD = re.compile(r"(SR_blocks\.\d+\.)?(pool|head|expand|final)\.")
# Axes of a convolution: ours are (h, w, in, out), PyTorch's (out, in, h, w). A transposed convolution's (h, w, out, in)
# and (in, out, h, w) need the same permutation. Depthwise: (h, w, C, 1) and (C, 1, h, w).
_CONV, _DEPTHWISE, _LINEAR = (2, 3, 1, 0), (2, 3, 0, 1), (1, 0)


@dataclass(frozen=True)
class _Entry:
    """Where the values of one of our variables stand in a checkpoint, and how.

    Args:
        key: Official name.
        axes: The official axis of each of ours; None: the same.
        inputs: The official channel of each of ours along the last axis but one; None: the same.
        outputs: The same along the last axis.
        note: What to say of it where the shape does not fit.
    """

    key: str
    axes: tuple[int, ...] | None = None
    inputs: Array | None = None
    outputs: Array | None = None
    note: str = ""

    def load(self, stored: Array) -> Array:
        """Ours from the official array; of another shape than ours if that does not fit."""
        if self.axes is not None:
            if stored.ndim != len(self.axes):
                return stored
            stored = stored.transpose(self.axes)
        for order, axis in self._orders():
            if stored.ndim >= -axis and stored.shape[axis] == len(order):
                stored = stored.take(order, axis)
        return stored

    def save(self, value: Array) -> Array:
        """The official array from ours."""
        for order, axis in self._orders():
            value = value.take(np.argsort(order), axis)
        return value if self.axes is None else value.transpose(np.argsort(self.axes))

    def _orders(self) -> list[tuple[Array, int]]:
        return [(order, axis) for order, axis in ((self.inputs, -2), (self.outputs, -1)) if order is not None]


Plan = dict[str, _Entry]


def load_torch_weights(
    model: ModelT, source: str | os.PathLike[str] | Mapping[str, Any], new_head: bool = False
) -> ModelT:
    """Loads an official checkpoint into `model`, in place: WaveMix's, or timm's of a vision transformer.

    Nothing is changed unless every tensor fits: keys and shapes are checked first. A checkpoint trained on
    mean/std-normalised images needs a model built with the same `normalize` (see `CHECKPOINT_NORMALIZATION`), which has
    no weights and so is not part of the file.

    Args:
        model: a `WaveMixClassifier`, `WaveMixSegmenter`, `WaveMixSuperResolver` or `ViT` built with the checkpoint's
            arguments (`levels`, `stem`, `width`, `ff_dim`, ...).
        source: path of a `.pth` file holding a state dict (needs PyTorch; read with `weights_only=True`, so a file that
            would run code is refused), or a mapping from official key to array or tensor. Wrapped in a training
            checkpoint or by DataParallel, it is unwrapped.
        new_head: leave the model's head as it is and the checkpoint's out, whatever its size or kind: to fine-tune on
            other classes, or a classifier's weights in a segmenter.

    Returns:
        `model`.

    Raises:
        ValueError: unknown kind of model or file, or keys that are missing, unexpected or of another shape (all named).
        ImportError: a path was given and PyTorch is not installed.

    Example:
        >>> model = wm.build_model("wavemix_lite_144_7", normalize="cifar10")
        >>> wm.load_torch_weights(model, "cifar10_94.58.pth")
    """
    state = _plain_keys(source if isinstance(source, Mapping) else _read(source))
    plan = _plan(model, state)
    if new_head:
        plan = {name: entry for name, entry in plan.items() if not _HEAD.match(entry.key)}
        state = {key: value for key, value in state.items() if not _HEAD.match(key)}

    missing = sorted(entry.key for entry in plan.values() if entry.key not in state)
    known = {entry.key for entry in plan.values()}
    unexpected = sorted(key for key in state if key not in known and not key.endswith(_COUNTER))
    variables = _variables(model)
    values: dict[str, Array] = {}
    misshapen = []
    for name, entry in plan.items():
        if entry.key not in state:
            continue
        stored = _array(state[entry.key])
        expected = tuple(variables[name].shape)
        values[name] = entry.load(stored)
        if values[name].shape != expected:
            misshapen.append(f"{entry.key} {stored.shape} for {name} {expected}{entry.note}")
    if missing or unexpected or misshapen:
        complaints = [
            f"{what}: {', '.join(names)}"
            for what, names in (("missing keys", missing), ("unexpected keys", unexpected), ("wrong shapes", misshapen))
            if names
        ]
        raise ValueError(
            "A checkpoint must hold exactly the tensors of the model "
            "(built with the same arguments, num_classes among them; new_head=True leaves out the "
            f"head). Received: {'; '.join(complaints)}"
        )
    for name, value in values.items():
        variables[name].assign(value)
    return model


def export_torch_weights(
    model: keras.Model, path: str | os.PathLike[str] | None = None, overwrite: bool = False
) -> dict[str, Array]:
    """The weights of `model` under the official names and in PyTorch's layout: the inverse of `load_torch_weights`.

    The official network takes them with `load_state_dict(strict=True)`. What `normalize` does is not part of them.

    Args:
        model: a `WaveMixClassifier`, `WaveMixSegmenter`, `WaveMixSuperResolver` or `ViT`.
        path: of a `.pth` file to write (needs PyTorch); None: none.
        overwrite: whether an existing file may be replaced.

    Returns:
        Official key -> float32 array, and an int64 zero for BatchNorm's `num_batches_tracked`.

    Raises:
        ValueError: a model without an official counterpart, or a file that exists.
        ImportError: a path was given and PyTorch is not installed.

    Example:
        >>> official.load_state_dict({k: torch.from_numpy(v) for k, v in wm.export_torch_weights(model).items()})
    """
    variables = _variables(model) if isinstance(model, MODELS) else {}
    state: dict[str, Array] = {}
    for name, entry in _plan(model).items():
        value = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(variables[name], "float32")))
        state[entry.key] = np.ascontiguousarray(entry.save(value))
        if entry.key.endswith(".running_var"):
            state[entry.key.removesuffix(".running_var") + _COUNTER] = np.array(0, "int64")
    if path is not None:
        torch = _torch("Writing")
        if os.path.exists(path) and not overwrite:
            raise ValueError(
                f"A file is replaced only with overwrite=True. Received: path={os.fspath(path)!r}, which exists"
            )
        with replacing(path) as temporary:
            torch.save({key: torch.from_numpy(value) for key, value in state.items()}, temporary)
    return state


def _torch(verb: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{verb} a PyTorch checkpoint needs PyTorch: pip install 'wavemix-tf[torch]'") from error
    return torch


def _read(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    torch = _torch("Reading")
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


# --- which official tensor each variable is ---------------------------------------------------------------------------


def _plan(model: Any, state: Mapping[str, Any] | None = None) -> Plan:
    """Our `layer/variable` -> entry, for every variable that the official model has too.

    Args:
        model: ours.
        state: the checkpoint, where heads have been saved under several names; None: the name in use.
    """
    if not isinstance(model, MODELS):
        raise ValueError(
            f"Official weights belong to a {', '.join(cls.__name__ for cls in MODELS)}. "
            f"Received: model={type(model).__name__}"
        )
    if isinstance(model, ViT):
        from wavemix_tf.timm_weights import vit_plan  # here, because it imports this module

        return vit_plan(model)
    first = model.get_layer("stage1_block1" if getattr(model, "variant", "") == "wavemixsr_v2" else "block1")
    if getattr(first, "upsample", "") == "pixel_shuffle":
        raise ValueError(
            "The official package has no pixel-shuffle upsampler in this block. Received: upsample='pixel_shuffle'"
        )
    if isinstance(model, WaveMixSuperResolver):
        return _super_resolver(model, first)
    plan = _stem(model.stem) | _blocks(model.depth, first)
    if isinstance(model, WaveMixClassifier):
        head = _head_name(("pool.2", "head.2"), state)
        return plan | {"head/kernel": _Entry(f"{head}.weight", _LINEAR), "head/bias": _Entry(f"{head}.bias")}
    # The package's class has the strided stem alone; the other was made of its classifier.
    names = ("expand", "pool") if model.stem == "strided" else ("pool", "expand")
    return plan | _deconv_head(model, _head_name(names, state, ".0"))


def _head_name(names: tuple[str, ...], state: Mapping[str, Any] | None, first: str = "") -> str:
    """The name under which the checkpoint has a head, the first of ``names`` if under none."""
    return next((name for name in names if f"{name}{first}.weight" in (state or {})), names[0])


def _super_resolver(model: WaveMixSuperResolver, block: Any) -> Plan:
    if model.variant == "sisr":
        return _stem("strided") | _blocks(model.depth, block) | _deconv_head(model, "expand")
    plan: Plan = {}
    stages = int(np.log2(model.scale)) if model.variant == "wavemixsr_v2" else 1
    for stage in range(stages):
        ours, official = ("", "") if model.variant == "wavemixsr" else (f"stage{stage + 1}_", f"SR_blocks.{stage}.")
        plan |= _conv(f"{ours}stem_conv1", f"{official}path1.1") | _conv(f"{ours}stem_conv2", f"{official}path1.2")
        plan |= _blocks(model.depth, block, ours, official)
        plan |= _conv(f"{ours}head_conv", f"{official}final.0") | _conv(f"{ours}luma", f"{official}final.1")
    return plan


def _stem(stem: str) -> Plan:
    plan = _conv("stem_conv1", "conv.0") | _conv("stem_conv2", "conv.1")
    if stem == "patchify":
        plan |= _conv("stem_conv3", "conv.2") | _batch_norm("stem_norm", "conv.4")
    return plan


def _deconv_head(model: Any, official: str) -> Plan:
    count = sum(layer.name.startswith("head_deconv") for layer in model.layers)
    plan: Plan = {}
    for index in range(count):
        plan |= _conv(f"head_deconv{index + 1}", f"{official}.{index}")
    return plan | _conv("head", f"{official}.{count}")


def _blocks(depth: int, block: Any, ours: str = "", official: str = "") -> Plan:
    """``block`` is any one of them, for its options."""
    plan: Plan = {}
    for index in range(depth):
        mine, theirs = f"{ours}block{index + 1}", f"{official}layers.{index}"
        plan |= _conv(f"{mine}_reduce", f"{theirs}.reduction")
        plan |= _wavemix_block(block, mine, theirs) if hasattr(block, "upsample") else _v1_block(block, mine, theirs)
    return plan


def _wavemix_block(block: Any, ours: str, official: str) -> Plan:
    plan: Plan = {}
    for level in range(1, block.levels + 1):
        ff = f"{official}.feedforward" + (str(level) if block.levels > 1 else "")
        expand, project, up, norm = (f"{ours}_{role}{level}" for role in ("expand", "project", "upsample", "norm"))
        bands = _band_order(block.width // 4, block.width // 2 if level < block.levels else 0)
        if block.upsample != "pixel_shuffle_conv":
            plan |= _conv(expand, f"{ff}.0", inputs=bands) | _conv(project, f"{ff}.3")
            if block.upsample == "deconv":
                plan |= _conv(up, f"{ff}.4")
            plan |= _batch_norm(norm, f"{ff}.5")
        elif block.ff_dim is None:
            # Only elementwise steps stand between the shuffle and the convolution that makes its channels.
            shuffled = _shuffle_order(block.expansion * block.width)
            plan |= _conv(expand, f"{ff}.0", inputs=bands, outputs=shuffled)
            plan |= _conv(up, f"{ff}.4") | _batch_norm(norm, f"{ff}.5")
        else:
            plan |= _conv(expand, f"{ff}.0", inputs=bands)
            plan |= _conv(project, f"{ff}.3", outputs=_shuffle_order(block.ff_dim))
            plan |= _conv(up, f"{ff}.5") | _batch_norm(norm, f"{ff}.6")
    return plan


def _v1_block(block: Any, ours: str, official: str) -> Plan:
    plan = _conv(f"{ours}_expand", f"{official}.feedforward.0", inputs=_band_order(block.width // 4))
    plan |= _conv(f"{ours}_project", f"{official}.feedforward.3")
    for level in range(1, block.levels + 1):
        plan |= _conv(f"{ours}_upsample{level}", f"{official}.ff{level}")
    plan |= _conv(f"{ours}_depthwise", f"{official}.depthconv.0", axes=_DEPTHWISE)
    return plan | _batch_norm(f"{ours}_norm", f"{official}.depthconv.2")


def _conv(ours: str, official: str, axes: tuple[int, ...] = _CONV, **orders: Any) -> Plan:
    return {
        f"{ours}/kernel": _Entry(f"{official}.weight", axes, **orders),
        f"{ours}/bias": _Entry(f"{official}.bias", outputs=orders.get("outputs")),
    }


def _batch_norm(ours: str, official: str) -> Plan:
    return {f"{ours}/{mine}": _Entry(f"{official}.{theirs}") for mine, theirs in _BATCH_NORM.items()}


def _band_order(band_width: int, joined: int = 0) -> Array:
    """For each channel of [LL | LH | HL | HH] its place in [LL | LH0 HL0 HH0 LH1 ...]; ``joined`` more stay last."""
    low = np.arange(band_width)
    details = [band_width + 3 * low + band for band in range(3)]
    return np.concatenate([low, *details, 4 * band_width + np.arange(joined)])


def _shuffle_order(channels: int) -> Array:
    """For each channel ``p*C + c`` of place p of a 2x2 cell its place ``4*c + p``, where ``channels`` is 4C."""
    return np.arange(channels).reshape(channels // 4, 4).T.ravel()
