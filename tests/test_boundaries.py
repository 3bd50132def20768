"""The direction of imports, the exports of the package, and the error of importing a mapped folder directly."""

import ast
import importlib
import os
import rlcompleter
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import wavemix_tf as wm

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"core": ROOT / "wavemix_tf", "training": ROOT / "training", "tflite": ROOT / "tflite"}
TENSORFLOW = {"tensorflow", "tensorflow_datasets", "tf_keras", "keras_tuner", "ai_edge_litert", "tflite_micro", "tfmot"}
# Imported inside a function and only if Keras runs on TensorFlow: the fused batch normalization kernel, and gradients,
# which `keras.ops` does not have.
MAY_USE_TENSORFLOW = {"keras_internals.py", "normalization.py", "inspection.py", "step_memory.py"}
# The command combines the packages: its verbs, and its folder.
JOINERS = {
    ROOT / "wavemix_tf" / "cli.py",
    ROOT / "wavemix_tf" / "__main__.py",
    *(ROOT / "wavemix_tf" / "command").rglob("*.py"),
}

# From bottom to top. For a folder that is not in the list, "top" or "" is the folder of the part itself.
ROOMS = {
    "core": ["", "layers", "networks", "checkpoints", "presets", "top"],
    "training": ["", "recipes", "data", "fitting", "searching", "top"],
    "tflite": [
        *("", "layers", "file", "targets", "c_source", "graph", "runtimes", "verification", "quantization", "per_op"),
        *("kit", "exporting", "measuring", "top"),
    ],
}
# Modules of a part's own folder that import its subfolders, instead of being imported by them.
ABOVE = {
    *("__init__", "metrics", "tiling", "inspection", "mac_counts", "profiler", "sampling_grid", "tracing"),
}

requires_checkout = pytest.mark.skipif(not FOLDERS["training"].is_dir(), reason="runs in a checkout")


def files(part):
    return sorted(
        path for path in FOLDERS[part].rglob("*.py") if path not in JOINERS and "__pycache__" not in path.parts
    )


def package_of(path):
    """wavemix_tf.training for training/recipe.py."""
    folder = next(folder for folder in FOLDERS.values() if path.is_relative_to(folder))
    head = ["wavemix_tf"] + ([] if folder.name == "wavemix_tf" else [folder.name])
    return head + list(path.parent.relative_to(folder).parts)


def imports(path):
    """Absolute dotted names of everything that the file imports, at its top or inside a function.

    Imports under `if TYPE_CHECKING:` are left out: they never run.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    skipped = {
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and getattr(test.test, "id", None) == "TYPE_CHECKING"
        for statement in test.body
        for node in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package_of(path)
            base = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def within(names, package):
    return sorted(name for name in names if name == package or name.startswith(package + "."))


@requires_checkout
@pytest.mark.parametrize("path", files("core"), ids=lambda path: path.name)
def test_core_imports_neither_tensorflow_nor_the_packages_above(path):
    names = imports(path)
    heavy = {name.split(".")[0] for name in names} & TENSORFLOW
    assert heavy <= ({"tensorflow"} if path.name in MAY_USE_TENSORFLOW else set())
    at_import = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.Import)]
    assert not any(alias.name.split(".")[0] in TENSORFLOW for node in at_import for alias in node.names)
    for above in ("training", "tflite", "cli", "command"):
        assert within(names, f"wavemix_tf.{above}") == []


@requires_checkout
@pytest.mark.parametrize(("part", "other"), [("training", "tflite"), ("tflite", "training")])
def test_training_and_tflite_never_import_each_other(part, other):
    for path in files(part):
        names = imports(path)
        assert within(names, f"wavemix_tf.{other}") + within(names, other) == [], path
        assert within(names, "wavemix_tf.cli") + within(names, "wavemix_tf.command") == [], path


@requires_checkout
@pytest.mark.parametrize("part", list(ROOMS))
@pytest.mark.slow
def test_rooms_import_from_the_rooms_before_them(part):
    order = ROOMS[part]
    folder = FOLDERS[part]
    found = {room_of(path, folder) for path in files(part)}
    assert found <= set(order), "a room that this list does not have"
    head = ".".join(package_of(folder / "x.py"))
    for path in files(part):
        here = order.index(room_of(path, folder))
        for name in imports(path):
            module = folder / Path(*name.removeprefix(f"{head}.").split("."))
            target = module.with_suffix(".py")
            if within([name], head) and target.is_file():
                assert order.index(room_of(target, folder)) <= here, f"{path} imports {name}"


def room_of(path, folder):
    """Name of the room; of a module of the top folder: "top" if it stands above the rooms, else ""."""
    inner = path.relative_to(folder).parts
    if len(inner) > 1:
        return inner[0]
    return "top" if path.stem in ABOVE else ""


@requires_checkout
@pytest.mark.parametrize("part", ["training", "tflite"])
@pytest.mark.slow
def test_mapped_packages_import_relatively_inside_themselves(part):
    """Absolutely they could only be named by the installed name, which a reader of the folder does not see."""
    for path in files(part):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        absolute = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
        assert within(absolute, f"wavemix_tf.{part}") + within(absolute, part) == [], path


@requires_checkout
@pytest.mark.slow
def test_warnings_name_the_callers_line():
    """By ``warn_user``: a stacklevel is wrong as soon as a frame lies between."""
    for path in (file for part in FOLDERS for file in files(part)):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        assert not [call.lineno for call in calls if ast.unparse(call.func) in ("warnings.warn", "warn")], path


@requires_checkout
def test_one_file_calls_the_converter():
    callers = {
        path.relative_to(ROOT).as_posix()
        for folder in (*FOLDERS.values(), ROOT / "benchmarks")
        for path in folder.rglob("*.py")
        if "TFLiteConverter" in path.read_text(encoding="utf-8")
    }
    assert callers == {"tflite/runtimes/converter.py", "benchmarks/export_time.py"}  # the latter times it as a peer


@requires_checkout
@pytest.mark.slow
def test_nothing_reads_pickles():
    """torch_weights may call torch.load with weights_only=True, which refuses code."""
    for path in (file for part in FOLDERS for file in files(part)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            assert not ast.unparse(call.func).startswith(("pickle.", "cloudpickle.", "joblib.", "dill.")), path
            if ast.unparse(call.func) in ("torch.load", "np.load", "numpy.load"):
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                assert options.get("weights_only", "True") == "True", path
                assert options.get("allow_pickle", "False") == "False", path
                assert ast.unparse(call.func) != "torch.load" or "weights_only" in options, path


@pytest.mark.parametrize("module", ["wavemix_tf", "wavemix_tf.training", "wavemix_tf.tflite"])
def test_all_lists_the_public_names(module):
    package = importlib.import_module(module)
    assert len(package.__all__) == len(set(package.__all__))
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("name", ["wm", "wm.training", "wm.tflite"])
def test_a_prompt_completes_the_public_names_alone(name):
    """As Python's own prompt does, and IPython: by ``dir``."""
    package = eval(name)
    completer = rlcompleter.Completer({"wm": wm})
    found = [completer.complete(f"{name}.", place) for place in range(len(package.__all__) + 2)]
    shown = [match.removeprefix(f"{name}.").rstrip("()") for match in found if match is not None]
    assert sorted(shown) == sorted(package.__all__)


@pytest.mark.parametrize("module", ["wavemix_tf", "wavemix_tf.training", "wavemix_tf.tflite"])
def test_an_editor_completes_the_public_names(module):
    """It reads the file and runs nothing: each name must be bound there, under TYPE_CHECKING where it loads later."""
    tree = ast.parse(Path(importlib.import_module(module).__file__).read_text(encoding="utf-8"))
    bound = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= {alias.asname or alias.name for alias in node.names}
    assert set(importlib.import_module(module).__all__) <= bound


@pytest.mark.parametrize("module", ["wavemix_tf", "wavemix_tf.training", "wavemix_tf.tflite"])
def test_no_module_bears_the_name_of_a_public_function(module):
    """Importing the submodule would put it in the place of the function."""
    package = importlib.import_module(module)
    modules = {path.stem for folder in package.__path__ for path in Path(folder).iterdir()}
    functions = {name for name in package.__all__ if not isinstance(getattr(package, name), type(sys))}
    assert modules & functions == set()


@pytest.mark.parametrize("name", ["training", "tflite"])
def test_bare_import_from_the_checkout_says_what_to_do(name):
    result = run(f"import {name}")
    assert result.returncode != 0
    assert f"import wavemix_tf.{name}" in result.stderr
    assert "ImportError" in result.stderr


def test_import_stays_light():
    # Keras on TensorFlow imports it; Keras's NumPy backend needs JAX, which a plain install does not have.
    heavy = sorted(TENSORFLOW if find_spec("jax") else TENSORFLOW - {"tensorflow"})
    result = run(
        f"import sys, wavemix_tf; print([m for m in {heavy} if m in sys.modules]);"
        "print([m for m in ('training', 'tflite', 'cli', 'command') if f'wavemix_tf.{m}' in sys.modules])",
        KERAS_BACKEND="numpy" if find_spec("jax") else "tensorflow",
    )
    assert result.stdout.split("\n")[:2] == ["[]", "[]"], result.stderr


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_thing"):
        wm.no_such_thing  # noqa: B018
    assert {"training", "tflite"} <= set(dir(wm))


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
