"""Libraries of kernels that a program calls where it is compiled for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..program import Step
from . import cmsis_nn


@dataclass(frozen=True)
class Library:
    """One library.

    Args:
        name: C identifier.
        macro: That a build defines to call it.
        headers: That the source includes.
        translate: A step -> the same step by the library, or None.
        alignment_bytes: Of every feature map and array.
    """

    name: str
    macro: str
    headers: tuple[str, ...]
    translate: Callable[[Step], Step | None]
    alignment_bytes: int = 4


LIBRARIES = (Library("cmsis_nn", "WAVEMIX_CMSIS_NN", ("<stdlib.h>", '"arm_nnfunctions.h"'), cmsis_nn.translate),)
