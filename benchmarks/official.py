"""Import the official PyTorch package, and timm, despite missing dependencies."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence
from typing import Any

import numpy as np


def import_official() -> Any:
    """Import the official package's `wavemix.classification` module."""
    if "numpy.lib.function_base" not in sys.modules:  # removed in NumPy 2; the package imports it but does not use it
        stand_in = types.ModuleType("numpy.lib.function_base")
        stand_in.hamming = np.hamming  # type: ignore[attr-defined]
        sys.modules["numpy.lib.function_base"] = stand_in
    import wavemix.classification

    return wavemix.classification


def import_timm() -> Any:
    """Import timm; the import needs torchvision, its networks do not.

    Raises:
        ImportError: TensorFlow is already loaded: PyTorch's compiler, which timm loads, would end the process.
    """
    if "timm" not in sys.modules and "tensorflow" in sys.modules:
        raise ImportError("timm must be imported before TensorFlow. Received: a process that has TensorFlow")
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_Torchvision())
    import timm

    return timm


class _AnyName(type):
    """A metaclass: each attribute of the class is its own name."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn(types.ModuleType):
    """A module that has a class for every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyName(name, (), {})


class _Torchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a stand-in for torchvision and all of its modules."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> Any:
        if fullname.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass
