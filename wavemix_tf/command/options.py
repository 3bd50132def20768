"""Arguments and options that several verbs share, as types for Typer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ..tflite.names import DTYPES
from ..tflite.targets.table import TARGETS
from ..training.tasks import EXPORTS

TEST_IMAGES = 10_000


def alternatives(names: Iterable[str], word: str = "or") -> str:
    """Join ``names`` as in a sentence: "a, b or c"."""
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last


RecipeName = Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="Name of a recipe, or path of a JSON file.")]
Data = Annotated[Path | None, typer.Option("--data", metavar="FOLDER", help="Own images: one sub-folder per class.")]
RecipeOut = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder (default: runs/RECIPE)")]
RunFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Run folder.")]
MaybeRun = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe; repeatable.")
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="PRESET|FILE",
        help="Start from the weights of a preset or of a .keras file of this package, with a new head.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start over where the folder already has a run.")]
OldSplit = Annotated[bool, typer.Option("--old-split", help="Use only images that existed at training; skip new ones.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and TensorFlow's log.")]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", help=f"{alternatives(TARGETS)} (default: {alternatives(dict(EXPORTS), 'and')})"),
]
DtypeOption = Annotated[
    str | None, typer.Option("--dtype", help=f"{alternatives(DTYPES)} (default: the target's preferred dtype)")
]
TestImages = Annotated[int, typer.Option("--test-images", min=1, help="Largest number of test images to run.")]
Images = Annotated[
    list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, or - for standard input: paths, or one image.")
]
SaveOption = Annotated[
    Path | None,
    typer.Option("--save", metavar="DIR", help="For pictures (default: predictions/ in the run folder, or here)"),
]
