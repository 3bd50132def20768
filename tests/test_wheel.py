"""The wheel: its contents, and the command installed from it, outside the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Folder of the checkout -> folder of the wheel.
MAPPED = {"wavemix_tf": "wavemix_tf", "training": "wavemix_tf/training", "tflite": "wavemix_tf/tflite"}

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="runs in a checkout")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: setuptools writes into the folder it builds."""
    pytest.importorskip("build", reason="pip install -e '.[dev]'")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in MAPPED:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source])
    (path,) = out.glob("*.whl")
    return path


@pytest.mark.slow
def test_contents(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {name for name in names if ".dist-info/" not in name}
    expected = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in MAPPED.items()
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    }
    kernels = (ROOT / "tflite" / "c_source" / "kernels").glob("*.c")
    expected |= {f"wavemix_tf/tflite/c_source/kernels/{path.name}" for path in kernels}
    expected |= {f"wavemix_tf/tflite/kit/page/{path.name}" for path in (ROOT / "tflite/kit/page").iterdir()}
    shipped = ROOT / "wavemix_tf/presets/shipped"
    presets = {
        path.relative_to(shipped).as_posix(): path.stat().st_size for path in shipped.rglob("*") if path.is_file()
    }
    expected |= {f"wavemix_tf/presets/shipped/{name}" for name in presets}
    texts = ROOT / "tflite/kit/projects/files"
    expected |= {
        f"wavemix_tf/tflite/kit/projects/files/{path.relative_to(texts).as_posix()}"
        for path in texts.rglob("*")
        if path.is_file()
    }
    expected.add("wavemix_tf/py.typed")  # users' type checkers read its hints
    assert modules == expected  # a subpackage missing in pyproject.toml would be missing here


def test_metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    folder = next(name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name)

    def read(name):
        return archive.read(f"{folder}/{name}").decode()

    assert read("top_level.txt").split() == ["wavemix_tf"]
    assert "wavemix-tf = wavemix_tf.cli:script" in read("entry_points.txt")
    assert "License-Expression: Apache-2.0" in read("METADATA")
    assert "Apache License" in read("licenses/LICENSE")


def test_command_runs_outside_the_checkout(wheel, tmp_path):
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, wheel])
    command = target / "bin" / "wavemix-tf"
    environment = os.environ | {"PYTHONPATH": str(target)}
    shown = run([sys.executable, command, "--help"], cwd=elsewhere, env=environment)
    assert (
        run([sys.executable, "-m", "wavemix_tf", "--version"], cwd=elsewhere, env=environment).split()[0]
        == "wavemix-tf"
    )
    assert "run" in shown
    assert "quantize" in shown
    where = run([sys.executable, "-c", "import wavemix_tf.cli as c; print(c.__file__)"], cwd=elsewhere, env=environment)
    assert where.strip().startswith(str(target))
    listed = run([sys.executable, command, "list"], cwd=elsewhere, env=environment)
    assert "digits" in listed
    presets = json.loads(run([sys.executable, command, "list", "--presets", "--json"], cwd=elsewhere, env=environment))
    assert presets["presets"]["digits"]["from"] == "package"


def run(command, **options):
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
