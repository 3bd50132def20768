"""Errors of the path from a Keras model to a file for a device.

All are ``ValueError``: the model, the file or an option does not satisfy the rule that the message states.
"""

from __future__ import annotations


class ExportError(ValueError):
    """The model cannot become a verified file. Base class of the others."""


class UnsupportedLayerError(ExportError):
    """A layer has no rule here; the message names the layer and an alternative."""


class UnsupportedOpError(ExportError):
    """The converted file contains an op, or a form of an op, that the target does not run."""


class FidelityError(ExportError):
    """The file runs, but its outputs differ from the Keras model's by more than the tolerance."""


class CopyError(ExportError):
    """The copy of the model that is rounded or written computes something other than the model."""


class RuntimeFailureError(ExportError):
    """A runtime refused the file or ended abnormally while running it."""


class MemoryLimitError(ExportError):
    """The file needs more RAM for its tensors, or more flash, than allowed; the message states both numbers."""
