"""The official PyTorch package, made importable."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np


def import_official() -> Any:
    """The official package's `wavemix.classification` module."""
    if "numpy.lib.function_base" not in sys.modules:  # gone in NumPy 2; the package imports it and uses nothing of it
        stand_in = types.ModuleType("numpy.lib.function_base")
        stand_in.hamming = np.hamming  # type: ignore[attr-defined]
        sys.modules["numpy.lib.function_base"] = stand_in
    import wavemix.classification

    return wavemix.classification
