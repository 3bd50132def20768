"""What the project says of itself in several places is one thing."""

import re
import tomllib
from pathlib import Path

import pytest

import wavemix_tf as wm

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "CITATION.cff").is_file(), reason="runs in a checkout")


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "wavemix_tf.__version__"}
    assert f"\nversion: {wm.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_dir_shows_the_public_names():
    assert [name for name in dir(wm) if not name.startswith("__")] == sorted(wm.__all__)


@pytest.mark.parametrize("page", sorted(path.name for path in ROOT.glob("*.md")))
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_every_module_that_architecture_names_is_there():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = re.findall(r"^\| `([a-z]+/)`", text, re.M)
    assert len(rooms) >= 15
    for room in rooms:
        assert any((ROOT / part / room).is_dir() for part in ("wavemix_tf", "training", "tflite")), room
