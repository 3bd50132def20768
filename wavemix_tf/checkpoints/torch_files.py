"""Read a checkpoint file of PyTorch, and find a network's tensors in the dictionaries around them.

No code of a file is executed: PyTorch reads it with `weights_only=True`, which constructs only tensors and plain
containers, and the classes of `_safe_classes`, which training scripts often save and which only hold values.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..warning import warn_user

Leaves = dict[str, Any]
# In the names of parts with tensors of the same names as the network's: moving averages, optimizers.
ASIDE = re.compile(r"(^|[._])(ema|averaged?|shadow|target|teacher|optim\w*)([._]|$)")
LISTED = 6  # names in a message


def read_file(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read a checkpoint file.

    Args:
        path: A file written by `torch.save`.

    Raises:
        ValueError: No such file, or it is damaged, of another kind, or has objects of other classes (named).
        ImportError: PyTorch is not installed.
    """
    if not os.path.isfile(path):
        raise ValueError(f"A checkpoint is an existing .pth file. Received: source={os.fspath(path)!r}")
    _check_kind(path)
    torch = import_torch("Reading")
    try:
        with _safe_classes(torch):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may cause any error
        raise ValueError(
            "A checkpoint must be a state dict saved with torch.save(model.state_dict(), path), by itself or in a "
            f"training script's dictionary. Received: source={os.fspath(path)!r}, {_reason(error)}"
        ) from error
    if not isinstance(loaded, Mapping):
        raise ValueError(
            f"A checkpoint must be a state dict. Received: {type(loaded).__name__} in source={os.fspath(path)!r}"
        )
    return loaded


def import_torch(verb: str) -> Any:
    """Import PyTorch; the ImportError says how to install it."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{verb} a PyTorch checkpoint needs PyTorch: pip install 'wavemix-tf[torch]'") from error
    return torch


def _check_kind(path: str | os.PathLike[str]) -> None:
    """Raise a ValueError if the first bytes are not PyTorch's: its own error would not help."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head[:2] == b"PK" or head[:1] == b"\x80":  # a zip archive; a pickle, the form before PyTorch 1.6
        return
    if not head:
        found = "it is empty"
    elif re.match(rb'.{8}\{"', head, re.DOTALL):
        found = "a safetensors file: pass the mapping that safetensors.torch.load_file(path) returns"
    elif head[:8] == b"\x89HDF\r\n\x1a\n":
        found = "an HDF5 file, as written by Keras"
    elif all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        found = f"a text that begins with {head[:30].decode('latin-1').strip()!r}"
    else:
        found = "a file of another kind, or damaged"
    raise ValueError(
        f"A checkpoint must be a file written by torch.save. Received: source={os.fspath(path)!r}, {found}"
    )


def _safe_classes(torch: Any) -> contextlib.AbstractContextManager[Any]:
    """Allow classes that scripts save beside the weights: argparse options, NumPy scalars, paths."""
    if not hasattr(torch.serialization, "safe_globals"):  # PyTorch before 2.5
        return contextlib.nullcontext()
    scalar = getattr(np, "_core", None) or np.core  # the second name is NumPy 1's
    classes: list[Any] = [argparse.Namespace, np.dtype, np.ndarray]
    for home in ("numpy.core.multiarray", "numpy._core.multiarray"):
        for name in ("scalar", "_reconstruct"):
            classes.append((getattr(scalar.multiarray, name), f"{home}.{name}"))
    classes += [cls for cls in vars(getattr(np, "dtypes", np)).values() if isinstance(cls, type(np.dtype))]
    for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        classes.append((pathlib.PurePath, f"pathlib.{name}"))
    return torch.serialization.safe_globals(classes)


def _reason(error: Exception) -> str:
    """Return the reason of PyTorch's error as a phrase."""
    text = str(error)
    found = re.search(r"GLOBAL ([\w.]+)|Unsupported (?:class|global) ([\w.]+)", text)
    if found:
        name = found[1] or found[2]
        return (
            f"it has an object of the class {name}, whose code would run: save only the state dict (whole modules are "
            "refused)"
        )
    return (
        f"it is damaged, or not a checkpoint ({text.strip().splitlines()[0] if text.strip() else type(error).__name__})"
    )


# --- where the tensors are --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A possible place of a network's tensors in a file: inside wrappers, with a prefix.

    A wrapper is ``{"state_dict": ...}``; prefixes come from modules around the network, such as ``module.`` of
    DataParallel, ``_orig_mod.`` of torch.compile, ``model.`` of Lightning.

    Args:
        wrapper: Keys of the mappings around the tensors, joined by dots; "" for none.
        prefix: Common prefix of their names, including its dot; "" for none.
    """

    wrapper: str
    prefix: str

    def __str__(self) -> str:
        return ".".join(filter(None, (self.wrapper, self.prefix.rstrip(".")))) or "the top level"


def network_state(
    source: Mapping[str, Any], expected: Callable[[Mapping[str, Any]], Iterable[str]], entry: str | None = None
) -> Leaves:
    """Return the tensors of a network under their own names, without wrappers and prefixes.

    Args:
        source: Content of a checkpoint: a state dict, or dictionaries around one or several.
        expected: Tensors -> the expected names of the network's tensors.
        entry: Their place, e.g. "state_dict_ema" or "model.backbone"; None: the place with most of the expected names;
            of equal ones, not the moving average.

    Returns:
        Name -> tensor. Tensors of other modules are skipped, with a warning that names them.

    Raises:
        ValueError: Nothing at ``entry``, or several equally good places.
    """
    groups = dict(_groups(source))
    found: Counter[_Place] = Counter()
    wanted = 0
    for wrapper, leaves in groups.items():
        names = set(expected(leaves))
        wanted = len(names)
        for key in leaves:
            parts = key.split(".")
            for index in range(len(parts)):
                if ".".join(parts[index:]) in names:
                    prefix = "".join(f"{part}." for part in parts[:index])
                    found[_Place(wrapper, prefix)] += 1
    if entry is not None:
        places = [place for place in found if str(place) == entry]
        if not places:
            raise ValueError(
                f"entry must be a place of the network's tensors in the checkpoint. Received: entry={entry!r}; "
                f"places: {', '.join(map(str, found)) or 'none'}"
            )
        return _weights_in(groups, places[0])
    most = max(found.values(), default=0)
    if 2 * most < wanted:  # another network: the caller reports the names
        return max(groups.values(), key=len, default={})
    best = [place for place in found if found[place] == most]
    plain = [place for place in best if not ASIDE.search(str(place))]
    chosen = plain or best
    if len(chosen) > 1:
        raise ValueError(
            "A checkpoint must have the network once, or entry must name its place. Received: tensors at "
            f"{', '.join(map(str, chosen))}"
        )
    if len(best) > 1:
        others = ", ".join(f"entry={str(place)!r}" for place in best if place != chosen[0])
        warn_user(f"the checkpoint also has other weights of the network, such as a moving average, at {others}")
    return _weights_in(groups, chosen[0])


def _groups(source: Mapping[str, Any], wrapper: str = "", depth: int = 0) -> Iterator[tuple[str, Leaves]]:
    """Yield (keys of the mappings around it, tensors by name) of every mapping in a checkpoint that has tensors."""
    leaves = {str(key): value for key, value in source.items() if hasattr(value, "shape") and hasattr(value, "dtype")}
    if leaves or not wrapper:
        yield wrapper, leaves
    if depth < 4:
        for key, value in source.items():
            if isinstance(value, Mapping):
                yield from _groups(value, f"{wrapper}.{key}" if wrapper else str(key), depth + 1)


def _weights_in(groups: Mapping[str, Leaves], place: _Place) -> Leaves:
    leaves = groups[place.wrapper]
    inside = {key.removeprefix(place.prefix): leaf for key, leaf in leaves.items() if key.startswith(place.prefix)}
    # Scalars, such as AveragedModel's counter, belong to no other module.
    others = [key for key, leaf in leaves.items() if not key.startswith(place.prefix) and len(leaf.shape)]
    if others:
        more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
        warn_user(f"the checkpoint's network is at {place}; skipped: {', '.join(others[:LISTED])}{more}")
    return inside
