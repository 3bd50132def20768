"""Detect whether this process is the command ``wavemix-tf``, which starts without Keras."""

from __future__ import annotations

import sys

COMMAND_MODULE = "wavemix_tf.cli"


def is_command() -> bool:
    """Return whether the main script first imported ``wavemix_tf.cli``, as the console script does.

    Importing the library must register the layers, so that ``keras.saving.load_model`` finds them. The command answers
    ``--help``, ``list`` and wrong arguments before it spends ten seconds on loading Keras and TensorFlow; it imports
    the modules that it needs by name. The script's name is no criterion: any script may be called "wavemix-tf.py".
    """
    return _IS_COMMAND


def _imported_by_the_console_script() -> bool:
    """Return whether the main script itself is importing ``wavemix_tf.cli``."""
    frame, asked = sys._getframe(), False
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module == "importlib._bootstrap":
            asked = frame.f_locals.get("name") == COMMAND_MODULE
        elif module not in (__name__, __package__, "importlib._bootstrap_external"):
            return asked and module == "__main__"
        frame = frame.f_back  # type: ignore[assignment]
    return False


_IS_COMMAND = _imported_by_the_console_script()
