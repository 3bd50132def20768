"""Turn the words of a command line into a checked recipe, without reading data or loading Keras."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..presets.authors_table import AUTHORS
from ..presets.folder import CONFIG, WEIGHTS
from ..presets.places import find
from ..state_files import check_keras_file, reading
from ..training.data.listing import list_files
from ..training.recipe import Recipe, parse_field
from ..training.recipes.table import RECIPES
from ..training.run_files import RunFiles
from ..training.tasks import EXPORTS, MASK_FIELDS, TASKS, Classification
from ..variants import NETWORKS, VARIANTS

COUNTED = ("calibration_images", "batch_size")  # defaults for own images that depend on their number
RECORDS = ("comparison.json", "search.json")  # files of `compare` and `tune` that contain the recipe
READ_MASKS_BY = (*MASK_FIELDS, "ignore_index")
READ_BY = ("on_bad_image", "crop_to_aspect_ratio", "image_shape", *READ_MASKS_BY)  # fields of `evaluate --set`
SAVE_AGAIN = "Save the model again."
START_FILE = "start.keras"  # in a run folder: the weights that training starts from
START_RECORD = "start.json"  # the digest of the --from that it was made of, written last


def choose_recipe(
    name: str | None, data: Path | None, settings: Sequence[str] | None, begun: Path | None = None
) -> Recipe:
    """Return the recipe that RECIPE and --data name, with --set applied.

    Args:
        name: Name of a recipe, or path of its JSON file; None: the defaults for own images.
        data: Folder of own images; with ``name``, that recipe on these images.
        settings: KEY=VALUE texts.
        begun: A folder that may hold a run, a comparison or a search of these defaults. Its name and the numbers that
            were counted in its images are kept: the image folder may have been moved, and its images may have changed.
    """
    if data is not None and not data.is_dir():
        raise FileNotFoundError(f"--data must be a folder of images. Received: {data}")
    if name is None and data is None:
        raise ValueError(
            f"Name one of the recipes {', '.join(RECIPES)}, a JSON file, or own images with --data FOLDER."
        )
    if name is None:
        recipe = folder_recipe(Path(str(data)), _task_in(settings))
        recipe = recipe if begun is None else _as_begun(recipe, begun)
    elif name in RECIPES:
        recipe = RECIPES[name]
    elif name.endswith(".json"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"There is no recipe file {name}")
        recipe = Recipe.from_json(Path(name))
    else:
        near = difflib.get_close_matches(name, RECIPES, n=3)
        meant = f". Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(
            f"RECIPE must be one of {', '.join(RECIPES)} or the path of a .json file. Received: {name}{meant}"
        )
    if name is not None and data is not None:
        # Own images have other classes; `--set data_dir=` gives the place of the recipe's own data.
        recipe = dataclasses.replace(recipe, dataset="folder", data_dir=str(data.resolve()), num_classes=None)
    recipe = apply_settings(recipe, settings)
    trained = begun is not None and (begun / "training.json").is_file()  # the training may be finished
    there = recipe.data_dir is not None and Path(recipe.data_dir).expanduser().is_dir()
    if recipe.dataset == "folder" and not there and not trained:
        received = f"data_dir={recipe.data_dir!r}"
        raise FileNotFoundError(
            f"{recipe.name} reads a folder of images: give it with --data FOLDER or, if it was moved, with "
            f"--set data_dir=FOLDER. Received: {received}"
        )
    return recipe


def start_weights(start: str) -> Path:
    """Return the file with the weights of --from: the .keras file itself, or the weights of a preset's folder.

    Args:
        start: Path of a .keras file, or a preset as of ``wm.from_preset``, whose files are checked.
    """
    if start.endswith(".keras"):
        if not Path(start).is_file():
            raise FileNotFoundError(f"--from must be a preset or a .keras file. Received: {start}")
        check_keras_file(Path(start), SAVE_AGAIN)
        return Path(start)
    if start in AUTHORS:
        raise ValueError(
            f"A checkpoint of the authors is read by `wavemix-tf import-torch --new-head`. Received: {start}"
        )
    try:
        folder = find(start)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"--from must be a preset or a .keras file. {error}") from None
    folder.checked(CONFIG)
    return folder.checked(WEIGHTS)


def start_from(recipe: Recipe, file: Path, settings: Sequence[str] | None) -> Recipe:
    """Return a recipe with the network of a file, with --set applied, without loading Keras.

    Args:
        recipe: The recipe of the data and the training.
        file: Of ``start_weights``.
        settings: KEY=VALUE texts; those of ``model_args`` must not change the shapes of weights.
    """
    remedy = SAVE_AGAIN
    with reading(file, remedy):
        if file.suffix == ".keras":
            with zipfile.ZipFile(file) as archive:
                stored = json.loads(archive.read(CONFIG))
        else:
            stored = json.loads(file.with_name(CONFIG).read_bytes())
        kind, config = str(stored.get("class_name")), dict(stored.get("config") or {})
    if kind not in NETWORKS or not str(stored.get("registered_name", "")).startswith("wavemix_tf>"):
        raise ValueError(
            f"--from must be a network of this package ({', '.join(NETWORKS)}); train another with "
            f"`wm.load_weights` and `fit`. Received: {file} with a {kind}"
        )
    special = {task.network_name for task in TASKS.values()} - {Classification.network_name}
    suits = kind not in special if recipe.task == Classification.name else kind == TASKS[recipe.task].network_name
    if not suits:
        raise ValueError(f"--from must be a network for {recipe.task}. Received: {file} with a {kind}")
    with reading(file, remedy):
        shape = tuple(config.pop("image_shape"))
    arguments = {
        key: value for key, value in config.items() if key not in ("name", "trainable", "num_classes", "dtype")
    }
    changes: dict[str, Any] = {"model": kind, "model_args": arguments}
    if None not in shape:
        changes["image_shape"] = shape
    return apply_settings(dataclasses.replace(recipe, **changes), settings)


def _as_begun(recipe: Recipe, begun: Path) -> Recipe:
    """Return the defaults for own images with the numbers and the name of the run begun in the same folder."""
    there = _recipe_of(begun)
    if there is None:
        return recipe
    if there.dataset != "folder" or dataclasses.replace(there, data_dir=recipe.data_dir).differences(there):
        return recipe
    # The name too: it is that of the image folder, which may have been moved.
    return dataclasses.replace(recipe, **{name: getattr(there, name) for name in (*COUNTED, "name")})


def _recipe_of(begun: Path) -> Recipe | None:
    """Return the recipe of a run folder, a comparison or a search; None where there is none."""
    if (begun / "recipe.json").is_file():
        return RunFiles(begun, "float").read_recipe()
    for name in RECORDS:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a later reader reports damage
            return Recipe.from_json(json.dumps(json.loads((begun / name).read_bytes())["recipe"]))
    return None


def variant_recipe(name: str, settings: Sequence[str] | None) -> Recipe:
    """Return the recipe of a published network on own images, with --set applied.

    Args:
        name: A key of ``VARIANTS``.
        settings: KEY=VALUE texts.
    """
    if name not in VARIANTS:
        raise ValueError(f"--model must be one of {', '.join(VARIANTS)}. Received: {name}")
    row = VARIANTS[name]
    task = next((one for one in TASKS.values() if one.network_name == row.get("model")), Classification)
    recipe = Recipe(
        name=name,
        dataset="folder",
        task=task.name,
        image_shape=row.get("image_shape", task.default_shape),
        num_classes=row.get("num_classes", task.default_classes),
        model=name,
        learning_rate=3e-4,
        ema=0.99,
        flip=True,
    )
    return apply_settings(recipe, settings)


def _task_in(settings: Sequence[str] | None) -> str:
    """Return the value of --set task=, or "classification"."""
    given = [text.strip() for key, _, text in (one.partition("=") for one in settings or ()) if key.strip() == "task"]
    return given[-1] if given else "classification"


def folder_recipe(folder: Path, task: str = "classification") -> Recipe:
    """Return the defaults for own images: a small WaveMix that a CPU trains in minutes."""
    like = TASKS[task].folder_recipe if task in TASKS else ""  # an unknown task is refused by `--set task=` later
    if like:
        there = folder.resolve()
        changes = TASKS[task].folder_changes
        return dataclasses.replace(RECIPES[like], name=there.name, data_dir=str(there), description="", **changes)
    train = folder / "train"
    count = len(list_files([train if train.is_dir() else folder])[0].images)
    return Recipe(
        name=folder.resolve().name,
        dataset="folder",
        data_dir=str(folder.resolve()),
        image_shape=(64, 64, 3),
        model_args={"width": 64, "depth": 5, "stride": 2, "dropout": 0.1},
        calibration_images=max(32, min(256, count // 10)),
        batch_size=max(4, min(64, count // 20)),
        epochs=40,
        learning_rate=3e-3,
        warmup_epochs=2,
        label_smoothing=0.1,
        ema=0.99,
        flip=True,
        shift=6,
        policy="trivial_augment",
        qat_epochs=6,
    )


def apply_settings(recipe: Recipe, settings: Sequence[str] | None) -> Recipe:
    """Apply every KEY=VALUE of --set to ``recipe``; ``model_args.KEY=VALUE`` sets one entry of ``model_args``."""
    changes: dict[str, Any] = {}
    for setting in settings or ():
        key, equals, text = setting.partition("=")
        field, dot, inner = key.strip().partition(".")
        known = [f.name for f in dataclasses.fields(Recipe)]
        if not equals or field not in known or (dot and field != "model_args"):
            raise ValueError(f"--set takes KEY=VALUE{_suggestion(key.strip(), known)} Received: {setting}")
        if dot:
            arguments = changes.setdefault("model_args", dict(recipe.model_args))
            arguments[inner] = _json_or_text(text)
        else:
            changes[field] = read_value(field, text.strip())
    epochs = changes.get("epochs", recipe.epochs)
    if "warmup_epochs" not in changes and recipe.warmup_epochs >= epochs > 0:
        changes["warmup_epochs"] = epochs / 4  # so that a short trial need not set the warm-up
    return dataclasses.replace(recipe, **changes)


def reading_settings(settings: Sequence[str] | None) -> dict[str, Any]:
    """Return the values of --set, which may state how images are read; field -> value.

    Raises:
        ValueError: Another field, or a value of another type.
    """
    found = {}
    for setting in settings or ():
        key, equals, text = setting.partition("=")
        if not equals or key.strip() not in READ_BY:
            raise ValueError(f"--set takes only {', '.join(READ_BY)} here. Received: {setting}")
        found[key.strip()] = read_value(key.strip(), text.strip())
    return found


def _suggestion(key: str, known: Sequence[str]) -> str:
    """Suggest keys similar to a mistyped one; otherwise list all keys."""
    field, dot, _ = key.partition(".")
    if dot and field in known:
        return " with KEY a field of the recipe; only model_args has parts, e.g. model_args.width."
    near = difflib.get_close_matches(field, known, n=3)
    if near:
        return f" with KEY a field of the recipe: did you mean {' or '.join(near)}?"
    return f" with KEY one of {', '.join(known)}."


def read_value(field: str, text: str) -> Any:
    """Parse ``text`` as the type that Recipe declares for ``field``."""
    try:
        return parse_field(field, text)
    except ValueError as error:
        raise ValueError(f"--set {field} takes {error}. Received: {text!r}") from None


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def check_export(
    target: str | None,
    dtype: str | None,
    io_dtype: str | None = None,
    of_run: Sequence[tuple[str, str]] = EXPORTS,
) -> list[tuple[str, str]]:
    """Return the (target, dtype) pairs that --target and --dtype select; by default those that `run` writes.

    Args:
        target: --target.
        dtype: --dtype.
        io_dtype: --io-dtype, which every pair must allow.
        of_run: ``Task.exports``.
    """
    from ..tflite.names import IO_DTYPES
    from ..tflite.targets.table import get_target

    chosen = _selected(target, dtype, of_run)
    if io_dtype is not None and io_dtype not in IO_DTYPES:
        raise ValueError(f"--io-dtype must be {' or '.join(IO_DTYPES)}. Received: {io_dtype}")
    for name, kind in chosen:
        allowed = get_target(name).io_dtypes_of(kind)
        if io_dtype not in (None, *allowed):
            raise ValueError(
                f"{name}-{kind} has {' or '.join(allowed)} inputs and outputs. Received: --io-dtype {io_dtype}"
            )
    return chosen


def check_name_option(name: str | None, chosen: Sequence[tuple[str, str]], names_folder: bool = False) -> None:
    """Raise a ValueError unless --name can name the code of the one file that --target and --dtype select.

    Args:
        name: --name; None: nothing to check.
        chosen: (target, dtype) pairs.
        names_folder: Whether a kit or a project is written, whose files it names for every target.
    """
    from ..tflite.file.identifiers import C_NAME_RULE, is_c_name
    from ..tflite.targets.table import TARGETS

    if name is None:
        return
    if not is_c_name(name):
        raise ValueError(f"--name {C_NAME_RULE}. Received: {name!r}")
    if len(chosen) != 1:
        files = ", ".join("-".join(pair) for pair in chosen)
        raise ValueError(f"--name names the code of one file: choose it with --target and --dtype. Received: {files}")
    target = chosen[0][0]
    if not names_folder and not TARGETS[target].has_c_code:
        coded = ", ".join(other for other, row in TARGETS.items() if row.has_c_code)
        raise ValueError(
            f"--name names the C code of a file for {coded}, and the files of a --kit or --project; here it has no "
            f"effect. Received: --name {name} with --target {target}"
        )


def check_project_option(project: str | None, chosen: Sequence[tuple[str, str]]) -> None:
    """Raise a ValueError unless every file that --target and --dtype select suits --project.

    Args:
        project: --project; None: nothing to check.
        chosen: (target, dtype) pairs.
    """
    from ..tflite.kit.projects.table import PROJECTS

    if project is None:
        return
    if project not in PROJECTS:
        raise ValueError(f"--project must be {' or '.join(PROJECTS)}. Received: {project}")
    admitted = PROJECTS[project].targets
    refused = [target for target, _ in chosen if target not in admitted]
    if refused:
        raise ValueError(
            f"--project {project} takes --target {' or '.join(admitted)}. Received: {', '.join(dict.fromkeys(refused))}"
        )


def check_targets(text: str) -> tuple[str, ...]:
    """Return the targets that ``--targets A,B`` names, each once.

    Raises:
        ValueError: One of them is unknown, or there is none.
    """
    from ..tflite.targets.table import TARGETS

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in TARGETS]
    if unknown or not names:
        raise ValueError(
            f"--targets must name some of {', '.join(TARGETS)}, separated by commas. Received: "
            f"{', '.join(unknown) or repr(text)}"
        )
    return names


def exports_to(targets: Sequence[str] | None, of_task: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the (target, dtype) pairs that `run` writes.

    Args:
        targets: From --targets; None: those of the task.
        of_task: ``Task.exports``. Another target gets its preferred dtype.
    """
    if targets is None:
        return list(of_task)
    return [pair for target in targets for pair in _selected(target, None, of_task)]


def _selected(target: str | None, dtype: str | None, of_run: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs that `run` writes for the target, or else the target's preferred dtype."""
    from ..tflite.targets.table import TARGETS, get_target

    if target is None:
        chosen = [pair for pair in of_run if dtype in (None, pair[1])]
        if not chosen and dtype is not None:  # `run` does not write it: use the targets of `run` that support it
            chosen = [(name, dtype) for name in dict(of_run) if dtype in TARGETS[name].dtypes]
        if not chosen:
            known = dict.fromkeys(kind for row in TARGETS.values() for kind in row.dtypes)
            if dtype in known:
                raise ValueError(
                    f"--dtype must be one of a target of the run ({', '.join(dict(of_run))}), or name another with "
                    f"--target. Received: {dtype}"
                )
            raise ValueError(f"--dtype must be one of {', '.join(known)}. Received: {dtype}")
        return chosen
    allowed = get_target(target).dtypes
    if dtype is not None and dtype not in allowed:
        raise ValueError(f"Target {target} takes --dtype {' or '.join(allowed)}. Received: {dtype}")
    if dtype is not None:
        return [(target, dtype)]
    return [pair for pair in of_run if pair[0] == target] or [(target, allowed[0])]
