"""The options of ``wavemix-tf preset``, checked before Keras is loaded, and the command that a recipe stands for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ..presets.places import SHIPPED
from ..training.recipe import Recipe
from ..training.recipes.table import RECIPES
from ..training.tasks import task_type
from .arguments import apply_settings
from .command_line import CommandLine, shell
from .run_folder import is_finished

FILES = ("android-cpu-int8", "mcu-int8")
MOST_SHIPPED_BYTES_EACH, MOST_SHIPPED_BYTES = 2_500_000, 10_000_000
# dataset of a recipe -> (source, license); for any other the command must be told.
DATA: dict[str, tuple[str, str]] = {
    "digits": ("UCI, https://archive.ics.uci.edu/dataset/80, as scikit-learn ships it", "CC BY 4.0"),
    "mnist": ("Yann LeCun, Corinna Cortes, http://yann.lecun.com/exdb/mnist", "CC BY-SA 3.0"),
    "fashion_mnist": ("Zalando, https://github.com/zalandoresearch/fashion-mnist", "MIT"),
    "cifar10": ("Alex Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html", "none stated by its authors"),
    "cifar100": ("Alex Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html", "none stated by its authors"),
}


@dataclasses.dataclass(frozen=True)
class PresetOptions:
    """The checked options of the command.

    Attributes:
        line: The command, as it stands in the card: without folders of this machine.
        run: Run folder.
        to: Folder of the preset.
        name: Its name.
        description: A sentence; "": the network and the data.
        license: License of the weights.
        data_source, data_license: Of the dataset.
        notes: Sentences for the card.
        files: Names of the exported files.
        quantized: Whether to store the quantized model.
        sample: Number of test images to store.
        test_images: Largest number of test images to run.
        ship: Whether it becomes part of the package.
        overwrite: Replace a preset.
    """

    line: str
    run: Path
    to: Path
    name: str
    description: str
    license: str
    data_source: str
    data_license: str
    notes: tuple[str, ...]
    files: tuple[str, ...]
    quantized: bool
    sample: int
    test_images: int
    ship: bool
    overwrite: bool


def place_of(run: Path, to: Path | None, ship: bool, name: str) -> Path:
    """Return the folder of the preset.

    Raises:
        ValueError: both --to and --ship, or --ship outside a checkout of the project.
    """
    if not ship:
        return to or run / "preset"
    if to is not None:
        raise ValueError(f"--ship writes into the package: leave --to out. Received: --to {to}")
    if not (SHIPPED.parents[2] / "pyproject.toml").is_file():
        raise ValueError(
            f"--ship needs a checkout of wavemix-tf. Received: a package installed in {SHIPPED.parents[1]}"
        )
    return SHIPPED / name


def files_of(run: Path, recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the exported files of a finished run that a preset holds.

    Raises:
        FileNotFoundError: a stage is not finished, or a file that the task's networks can have is missing.
    """
    for stage, words in (("float", ["run", run / "recipe.json"]), ("qat", ["quantize"])):
        if not is_finished(run, stage):
            raise FileNotFoundError(f"{run} must be a finished run: `{shell(*words, '--out', run)}` finishes it.")
    there = [name for name in FILES if (run / "exports" / f"{name}.tflite").is_file()]
    wanted = [f"{target}-{dtype}" for target, dtype in task_type(recipe).exports if f"{target}-{dtype}" in FILES]
    for name in wanted:
        if name not in there:
            target, _, dtype = name.rpartition("-")
            made_by = shell("export", "--out", run, "--target", target, "--dtype", dtype)
            raise FileNotFoundError(f"{run}/exports has no {name}.tflite: `{made_by}` makes it.")
    return tuple(there)


def data_facts(recipe: Recipe, source: str | None, license: str | None) -> tuple[str, str]:
    """Return (source, license) of the data: given, or of the table.

    Raises:
        ValueError: they are not known.
    """
    known = DATA.get(recipe.dataset, (None, None))
    found = source or known[0], license or known[1]
    if found[0] is None or found[1] is None:
        raise ValueError(
            "A card must have the source and the license of the data: --data-source TEXT, --data-license TEXT. "
            f"Received: dataset={recipe.dataset}, of which they are not known"
        )
    return found[0], found[1]


def run_command(recipe: Recipe) -> str:
    """Return the ``wavemix-tf run`` that trains a recipe: a named one and its differences, else the card's own."""
    named = RECIPES.get(recipe.name)
    if named is None:
        return shell("run", "recipe.json")
    here = dataclasses.replace(recipe, data_dir=named.data_dir, download=named.download, description=named.description)
    settings: list[str] = []
    for field in dataclasses.fields(Recipe):
        value, usual = getattr(here, field.name), getattr(named, field.name)
        if field.name == "model_args":
            changed = {name: part for name, part in value.items() if usual.get(name) != part}
            settings += [f"model_args.{name}={json.dumps(part)}" for name, part in changed.items()]
        elif value != usual:
            settings.append(f"{field.name}={_setting(value)}")
    try:
        same = apply_settings(named, settings) == here
    except ValueError:  # a field that --set cannot write
        same = False
    if not same:
        return shell("run", "recipe.json")
    return shell("run", recipe.name, *(word for setting in settings for word in ("--set", setting)))


def _setting(value: Any) -> str:
    if isinstance(value, tuple):
        return ("x" if all(isinstance(part, int) for part in value) else ",").join(map(str, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value)


def card_line(line: CommandLine, run: Path, to: Path | None, name: str) -> str:
    """Return the command as the card has it: folders of this machine are replaced by ``runs/NAME``."""
    folders = {str(run): f"runs/{name}", **({} if to is None else {str(to): f"presets/{name}"})}
    return shell(*(folders.get(word, word) for word in line.words))
