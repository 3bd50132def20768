"""Libraries of kernels that a program calls where it is compiled for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..program import Step
from . import cmsis_nn, esp_nn


@dataclass(frozen=True)
class Library:
    """One library, or its form for some cores.

    Args:
        name: C identifier.
        macro: That a build defines to call it.
        condition: Of the preprocessor, under which this form is compiled.
        title: For comments.
        headers: That the source includes.
        translate: A step -> the same step by the library, or None where the own kernel needs fewer instructions.
        alignment_bytes: Of every feature map and array.
    """

    name: str
    macro: str
    condition: str
    title: str
    headers: tuple[str, ...]
    translate: Callable[[Step], Step | None]
    alignment_bytes: int = 4


CMSIS_NN_HEADERS = ("<stdlib.h>", '"arm_nnfunctions.h"')
LIBRARIES = (
    Library(
        "cmsis_nn_helium",
        "WAVEMIX_CMSIS_NN",
        "defined(WAVEMIX_CMSIS_NN) && defined(__ARM_FEATURE_MVE)",
        "CMSIS-NN on cores with Helium",
        CMSIS_NN_HEADERS,
        cmsis_nn.translate_helium,
    ),
    Library(
        "cmsis_nn",
        "WAVEMIX_CMSIS_NN",
        "defined(WAVEMIX_CMSIS_NN)",
        "CMSIS-NN on other cores",
        CMSIS_NN_HEADERS,
        cmsis_nn.translate,
    ),
    Library(
        "esp_nn",
        "WAVEMIX_ESP_NN",
        "defined(WAVEMIX_ESP_NN)",
        "ESP-NN",
        ('"esp_nn.h"',),
        esp_nn.translate,
        esp_nn.KERNELS_ALIGNMENT,
    ),
)
