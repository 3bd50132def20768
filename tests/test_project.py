"""Statements that the project repeats in several places agree."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Mapping
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


@pytest.mark.slow
def test_every_import_is_of_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [
        project["dependencies"],
        *(project["optional-dependencies"][extra] for extra in ("torch", "hub", "tfmot", "ethos")),
    ]
    declared = {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for part in lists for line in part}
    imported = set()
    for folder in ("wavemix_tf", "training", "tflite"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    imported.add(node.module.partition(".")[0])
    imported -= {*sys.stdlib_module_names, "wavemix_tf"}
    distributions = importlib.metadata.packages_distributions()
    missing = {
        name
        for name in imported & set(distributions)
        if not declared & {found.lower().replace("_", "-") for found in distributions[name]}
    }
    assert missing == set()
    assert {"tensorflow", "keras", "PIL"} <= imported & set(distributions)


def test_dir_shows_the_public_names():
    assert [name for name in dir(wm) if not name.startswith("__")] == sorted(wm.__all__)


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("examples/*.md")]


@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT)) for path in PAGES))
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_every_page_of_the_site_is_in_its_navigation():
    named = set(re.findall(r"([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    assert named == {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1000


def test_the_reference_has_every_public_name():
    reference = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").glob("*.md"))
    names = {name: getattr(wm, name) for name in set(wm.__all__) - {"training", "tflite"}}
    for part in ("training", "tflite"):
        module = getattr(wm, part)
        names |= {f"{part}.{name}": getattr(module, name) for name in module.__all__}
    for name, value in names.items():
        if isinstance(value, (Mapping, tuple)):
            assert f"- `wm.{name}`: " in reference, name
        elif not (isinstance(value, type) and issubclass(value, Exception) and name.startswith("tflite.")):
            assert f"::: wavemix_tf.{name}\n" in reference, name  # errors of tflite: as a module


def test_every_module_that_architecture_names_is_there():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = re.findall(r"^\| `([a-z]+/)`", text, re.M)
    assert len(rooms) >= 15
    for room in rooms:
        assert any((ROOT / part / room).is_dir() for part in ("wavemix_tf", "training", "tflite")), room
