"""Whether this process is the command ``wavemix-tf``, which starts without Keras."""

from __future__ import annotations

import sys
from pathlib import PurePath


def is_command() -> bool:
    """True in the command's process.

    A library's import must register the layers, so that ``keras.saving.load_model`` knows them. The command answers
    ``--help``, ``list`` and mistakes before it spends the ten seconds that Keras and TensorFlow take to load; it
    imports the modules it needs by their names.
    """
    return PurePath(sys.argv[0] if sys.argv else "").stem == "wavemix-tf"
