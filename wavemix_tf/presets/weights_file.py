"""The weights of a preset: an HDF5 file that Keras's ``load_weights`` reads, with float32 stored as float16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

FLOATS = ("float32", "float64")


def as_stored(value: np.ndarray, dtype: str) -> np.ndarray:
    """Return an array as a preset stores it.

    Args:
        value: Any array.
        dtype: "float16": floats are rounded to it, unless one is finite and beyond its range (65,504); "float32": all
            stay as they are.
    """
    if dtype != "float16" or value.dtype.name not in FLOATS:
        return value
    with np.errstate(over="ignore"):
        rounded = value.astype(np.float16)
    return rounded if np.array_equal(np.isfinite(rounded), np.isfinite(value)) else value


def round_weights(model: keras.Model, dtype: str = "float16") -> None:
    """Round a model's weights to what its preset stores, in place: so that a figure is that of the stored weights."""
    for variable in model.weights:
        value = np.asarray(keras.ops.convert_to_numpy(variable))
        variable.assign(as_stored(value, dtype).astype(value.dtype))


def write_weights(model: keras.Model, path: Path, dtype: str) -> None:
    """Write the weights of a model; the same weights give the same bytes.

    Args:
        model: Built model.
        path: New file, which ends in ``.weights.h5``.
        dtype: See ``as_stored``.
    """
    plain = path.with_name(f"plain.{path.name}")
    model.save_weights(plain)
    try:
        with h5py.File(plain) as source, _new_file(path) as file:
            _copy(source, file, dtype)
    finally:
        plain.unlink()


def _new_file(path: Path) -> Any:
    """Create an HDF5 file of the latest form, which takes half of the space, without the time of writing in it."""
    access, creation = h5py.h5p.create(h5py.h5p.FILE_ACCESS), h5py.h5p.create(h5py.h5p.FILE_CREATE)
    access.set_libver_bounds(h5py.h5f.LIBVER_LATEST, h5py.h5f.LIBVER_LATEST)
    creation.set_obj_track_times(False)
    return h5py.File(h5py.h5f.create(str(path).encode(), h5py.h5f.ACC_EXCL, creation, access))


def _new_group(parent: Any, name: str) -> Any:
    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(parent.id, name.encode(), gcpl=creation))


def _copy(source: Any, file: Any, dtype: str) -> None:
    for name, value in source.attrs.items():
        file.attrs[name] = value
    for name, part in source.items():
        if isinstance(part, h5py.Group):
            _copy(part, _new_group(file, name), dtype)
        else:
            stored = file.create_dataset(name, data=as_stored(part[()], dtype))
            for key, value in part.attrs.items():
                stored.attrs[key] = value


def load_weights(model: keras.Model, path: Path) -> None:
    """Read the weights of a model.

    Args:
        model: Built model.
        path: A file that ``write_weights`` wrote.

    Raises:
        ValueError: The file reaches into other files, unpacks to more than it holds, has other weights than the
            model, or some that are not finite.
    """
    with h5py.File(path) as file:
        count = _check(file)
    if not len(model.weights) <= count <= len(model.variables):  # Keras ignores more than it asks for
        raise ValueError(f"it has {count} arrays for a network of {len(model.weights)}")
    model.load_weights(path)
    broken = [one.path for one in model.weights if not np.isfinite(_floats(one)).all()]
    if broken:
        raise ValueError(f"the weights of {', '.join(broken[:4])} are not finite")


def _check(group: Any) -> int:
    """Count a group's arrays; ValueError unless all are in its own file, plain and not compressed."""
    count = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} in it is a link")
        part = group[name]
        if isinstance(part, h5py.Group):
            count += _check(part)
        elif part.external or part.is_virtual or part.chunks is not None or part.dtype.hasobject:
            raise ValueError(f"{name} in it is not a plain array")
        else:
            count += 1
    return count


def _floats(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32")))
