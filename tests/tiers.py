"""Which tests run in the nightly tier alone, and why.

``pytest`` runs the tests of every change, ``pytest -m "not slow"`` the quick ones of these, ``pytest -m nightly`` the
tests named here, and ``pytest -m ""`` all of them. A test belongs here if it takes long and another test, which runs
with every change, takes the same path on a smaller case. ``tests/test_tiers.py`` checks that every entry names a test.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

# Pattern of test ids, relative to ``tests/`` -> the reason.
NIGHTLY: dict[str, str] = {}


def is_nightly(identifier: str) -> bool:
    """Whether a test id ("tests/test_x.py::test_y[z]") belongs to the nightly tier."""
    name = identifier.removeprefix("tests/").replace("[", "(").replace("]", ")")
    return any(fnmatchcase(name, pattern.replace("[", "(").replace("]", ")")) for pattern in NIGHTLY)
