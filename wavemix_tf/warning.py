"""Warnings that point to the line of the caller's code, outside the package."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

# Frames between a caller and a warning: those of the package, and of Keras if it calls the package in training.
INNER = ("wavemix_tf", "keras", "tf_keras", "tensorflow")


class WavemixWarning(UserWarning):
    """A warning of this package."""


def warn_user(message: str) -> None:
    """Issue a ``WavemixWarning`` at the innermost line outside the package and Keras.

    Python shows a warning once per line, and filters by its module: a warning that pointed into the package would be
    shown once for all callers. A fixed ``stacklevel`` would change with every decorator.

    Args:
        message: Text of the warning.
    """
    here = sys._getframe(1)
    frame: FrameType | None = here
    while frame is not None and _is_inner(frame):
        frame = frame.f_back
    found = frame or here
    names = found.f_globals
    warnings.warn_explicit(
        message,
        WavemixWarning,
        found.f_code.co_filename,
        found.f_lineno,
        module=names.get("__name__"),
        registry=names.setdefault("__warningregistry__", {}),
    )


def _is_inner(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).split(".")[0] in INNER
