"""``wavemix-tf import-torch``: read the weights of a PyTorch checkpoint into a run folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from ...training.tasks import task_type
from ..arguments import START_FILE, choose_recipe, variant_recipe
from ..command_line import shell
from ..options import Debug, Overwrite, RunFolder, Settings
from ..run_folder import check_folder
from ..terminal import announce_loading, console


def import_torch(
    checkpoint: Annotated[Path, typer.Argument(help="State dict of the official PyTorch package.")],
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Recipe of the network, and of the data for later steps.")
    ] = None,
    *,
    out: RunFolder,
    model: Annotated[
        str | None,
        typer.Option(help="A published network, instead of a recipe."),
    ] = None,
    normalize: Annotated[
        str | None, typer.Option(help="Dataset whose mean and std it was trained with, see `wavemix-tf list`.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", metavar="FOLDER", help="Own images for later steps.")] = None,
    new_head: Annotated[
        bool,
        typer.Option("--new-head", help="Skip the head, to fine-tune on other classes."),
    ] = False,
    entry: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Key of the weights in the file, e.g. state_dict_ema (default: found)"),
    ] = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Read official weights into a run folder (model.keras), to quantize, export or fine-tune them."""
    if (recipe is None) == (model is None):
        raise ValueError(
            f"Name a recipe or, with --model, a published network. Received: RECIPE={recipe}, --model {model}"
        )
    if data is not None:
        if not data.is_dir():
            raise FileNotFoundError(f"--data must be a folder of images. Received: {data}")
        settings = [*(settings or ()), "dataset=folder", f"data_dir={data.resolve()}"]
    chosen = choose_recipe(recipe, None, settings) if recipe is not None else variant_recipe(str(model), settings)
    if normalize is not None:
        chosen = dataclasses.replace(chosen, model_args={**chosen.model_args, "normalize": normalize})
    check_folder(out, chosen, overwrite)
    if not checkpoint.is_file():
        raise FileNotFoundError(f"There is no checkpoint {checkpoint}")
    if chosen.num_classes is None and task_type(chosen).has_classes:
        raise ValueError("The recipe must give the number of classes: --set num_classes=N")
    made = out / (START_FILE if new_head else "model.keras")
    if made.exists() and not overwrite:
        raise FileExistsError(f"{made} exists: --overwrite replaces it.")
    announce_loading()
    from ...checkpoints.torch_weights import load_torch_weights
    from ...training.fitting.trainer import build, import_trained_model
    from .. import exports, steps

    network = build(chosen, chosen.num_classes or 0)
    load_torch_weights(network, checkpoint, new_head=new_head, entry=entry)
    exports.delete_exports(out)
    if new_head:
        steps.save_start(network, chosen, out, overwrite)
        console.print(f"{made}: read from {checkpoint}, without the head.")
        console.print(f"Next: {shell('fit', out / 'recipe.json', '--out', out)}")
        return
    import_trained_model(chosen, network, chosen.num_classes or 0, out, overwrite)
    console.print(f"{made}: {steps.count_parameters(network):,} parameters read from {checkpoint}")
    if task_type(chosen).takes_normalize and chosen.model_args.get("normalize") is None:
        console.print("If it was trained on images standardized by a mean and std, import it with --normalize.")
