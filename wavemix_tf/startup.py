"""Detect whether this process is the command ``wavemix-tf``, which starts without Keras."""

from __future__ import annotations

import sys

COMMAND_MODULE = "wavemix_tf.cli"
MODULES = ("wavemix_tf", "wavemix_tf.__main__", COMMAND_MODULE)  # modules that `python -m` runs as the command


def is_command() -> bool:
    """Return whether the process is the console script, or ``python -m wavemix_tf``.

    The console script is a main script that first imports ``wavemix_tf.cli``. Importing the library must register the
    layers, so that ``keras.saving.load_model`` finds them. The command answers ``--help``, ``list`` and wrong arguments
    before it spends ten seconds on loading Keras and TensorFlow; it imports the modules that it needs by name. The
    script's name is no criterion: any script may be called "wavemix-tf.py".
    """
    return _IS_COMMAND


def _started_by_the_command() -> bool:
    """Return whether the main script itself, or Python for ``-m wavemix_tf``, is importing this package."""
    frame, asked = sys._getframe(), False
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module == "importlib._bootstrap":
            asked = frame.f_locals.get("name") == COMMAND_MODULE
        elif module == "runpy" and frame.f_code.co_name == "_run_module_as_main":
            return frame.f_locals.get("mod_name") in MODULES  # Python imports the package to find this module
        elif module not in (__name__, __package__, "importlib._bootstrap_external", "runpy"):
            return asked and module == "__main__"
        frame = frame.f_back  # type: ignore[assignment]
    return False


_IS_COMMAND = _started_by_the_command()
