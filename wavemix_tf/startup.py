"""Whether this process is the command ``wavemix-tf``, which starts without Keras."""

from __future__ import annotations

import sys

COMMAND_MODULE = "wavemix_tf.cli"


def is_command() -> bool:
    """True in a process whose main script began with the import of ``wavemix_tf.cli``, as the console script does.

    A library's import must register the layers, so that ``keras.saving.load_model`` knows them. The command answers
    ``--help``, ``list`` and mistakes before it spends the ten seconds that Keras and TensorFlow take to load; it
    imports the modules it needs by their names. What a script is called says nothing: "wavemix-tf.py" may be anyone's.
    """
    return _IS_COMMAND


def _imported_by_the_console_script() -> bool:
    """Whether the import under way is that of ``wavemix_tf.cli``, asked for by the main script itself."""
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
