"""``wavemix-tf verify``: compare exported files with the Keras model, in every runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..arguments import check_export
from ..options import TEST_IMAGES, Debug, DtypeOption, MaybeRun, OldSplit, Settings, TargetOption, TestImages
from ..pages.terminal_tables import verification_table, worst_layers_text
from ..run_folder import saved_recipe
from ..terminal import announce_loading, console, step
from ..verdict import VerdictError


def verify(
    folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run folder, instead of --out.")] = None,
    out: MaybeRun = None,
    target: TargetOption = None,
    dtype: DtypeOption = None,
    settings: Settings = None,
    test_images: TestImages = TEST_IMAGES,
    old_split: OldSplit = False,
    debug: Debug = False,
) -> None:
    """Compare files with the Keras model on test images in every runtime; fail where a tolerance is exceeded."""
    if (folder is None) == (out is None):
        raise typer.BadParameter("name one run folder: wavemix-tf verify RUN, or verify --out RUN.")
    out = out or folder or Path()
    recipe = saved_recipe(out, settings)
    check_export(target, dtype)
    announce_loading()
    from .. import exports, measuring, steps

    artifacts = exports.saved_exports(out, target, dtype)
    data = steps.load_images(recipe, out, known_only=old_split)
    images, labels = measuring.test_sample(recipe, data, out, test_images)
    seconds: dict[str, float] = {}
    strange = exports.made_from_other_models(out, artifacts)
    artifacts = [(name, artifact) for name, artifact in artifacts if name not in strange]
    with step("Run the test images through every file", seconds):
        rows, models = measuring.verify_files(out, artifacts, data, images, labels)
    found = {"images": len(images), "rows": rows}
    console.print(verification_table(found))
    int8 = next(((name, artifact) for name, artifact in artifacts if artifact.dtype == "int8"), None)
    if int8 is not None:
        with step("Compare layer by layer", seconds):
            layers = measuring.layer_rows([int8], models[int8[0]], images)
        console.print(worst_layers_text(layers or {}), soft_wrap=True, highlight=False)
    failed = [
        f"{row['file']}: {cell['fault']}, under {runtime}"
        for row in rows
        for runtime, cell in row["cells"].items()
        if cell["fault"]
    ]
    failed += [f"{name}: not made from this run's model, so it cannot be compared with it" for name in strange]
    if failed:
        raise VerdictError("; ".join(failed))
