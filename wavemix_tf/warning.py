"""Warnings that name the line of the caller's own code, however many frames of the package lie between."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

# Between a caller and a warning lie frames of the package, and of Keras where it calls the package in a training.
INNER = ("wavemix_tf", "keras", "tf_keras", "tensorflow")


class WavemixWarning(UserWarning):
    """A warning of this package."""


def warn_user(message: str) -> None:
    """Issue a ``WavemixWarning`` at the innermost line outside the package and Keras.

    Python shows a warning once for each such line, and filters by its module: one that pointed into the package would
    be shown once for all callers. A number of frames (``stacklevel``) would change with every decorator.

    Args:
        message: Plain sentences.
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
