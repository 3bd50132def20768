"""The answer no: the command ran, and its file or model did not pass.

By the exit code a script tells it from an error, such as a folder that does not exist.
"""

from __future__ import annotations

from ..tflite.errors import FidelityError, MemoryLimitError, UnsupportedLayerError, UnsupportedOpError
from ..training.errors import BudgetError

VERDICT = 3  # exit code
OF_THE_LIBRARY = (BudgetError, FidelityError, MemoryLimitError, UnsupportedLayerError, UnsupportedOpError)


class VerdictError(ValueError):
    """A file was refused, exceeds a tolerance, or must not replace the one in use; the message says why."""


def is_verdict(error: Exception) -> bool:
    """Whether an error judges the file or the model, e.g. by a limit that it exceeds."""
    return isinstance(error, (VerdictError, *OF_THE_LIBRARY))
