"""Let mkdocstrings read the packages under their installed names.

The reference pages are generated from source text, without imports.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".ci"))
from installed_layout import link_installed_layout


def on_startup(**_: Any) -> None:
    link_installed_layout()
