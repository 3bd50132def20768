"""``wavemix-tf list``: the names that other verbs accept."""

from __future__ import annotations

from ...tflite.targets.table import TARGETS
from ...training.recipes.table import RECIPES
from ...variants import CHECKPOINT_NORMALIZATION, VARIANTS
from ..terminal import console, grid


def list_names() -> None:
    """List the recipes, published networks and targets."""
    table = grid("recipe", "data", "image", "epochs", "description")
    for recipe in RECIPES.values():
        side = "×".join(map(str, recipe.image_shape))
        table.add_row(recipe.name, recipe.dataset, side, str(recipe.epochs), recipe.description.split("\n")[0])
    console.print(table)
    table = grid("published network", "arguments")
    for name, arguments in VARIANTS.items():
        table.add_row(name, ", ".join(f"{key}={value}" for key, value in arguments.items()))
    console.print(table)
    console.print(f"\nMean and std of official checkpoints, for import-torch: {', '.join(CHECKPOINT_NORMALIZATION)}\n")
    table = grid("target", "dtypes", "best activation", "best upsample", "device")
    for name, row in TARGETS.items():
        table.add_row(name, ", ".join(row.dtypes), row.activation, row.upsample, row.device)
    console.print(table)
