"""What can go wrong between a Keras model and a file for a device, each with its own class.

All are ``ValueError``: the model, the file or an option does not satisfy the rule that the message states.
"""

from __future__ import annotations


class ExportError(ValueError):
    """The model cannot become a verified file. Base class of the others."""


class UnsupportedLayerError(ExportError):
    """A layer has no rule here; the message names it and what to do instead."""


class UnsupportedOpError(ExportError):
    """The converted file holds an op, or an op in a form, that the target does not run."""


class FidelityError(ExportError):
    """The file runs, but its outputs are further from the Keras model's than the stated bound."""


class CopyError(ExportError):
    """What stands for the model before it is rounded or written computes something else than the model."""


class RuntimeFailureError(ExportError):
    """A runtime refused the file or ended abnormally while running it."""


class MemoryLimitError(ExportError):
    """The file needs more RAM for its tensors, or more flash, than was allowed; the message has both numbers."""
