"""``wavemix-tf list``: the names that other verbs and ``from_preset`` accept."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ...presets.card import format_value
from ...presets.listing import list_presets
from ...tflite.targets.table import TARGETS
from ...training.recipes.table import RECIPES
from ...variants import CHECKPOINT_NORMALIZATION, VARIANTS
from ..terminal import console, grid


def list_names(
    presets: Annotated[bool, typer.Option("--presets", help="List the trained networks alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the recipes, published networks, targets and presets."""
    if as_json:
        print(json.dumps(_as_json(presets), ensure_ascii=True, allow_nan=False))
        return
    if not presets:
        _print_recipes_and_targets()
        console.print()
    table = grid("preset", "from", "data", "input", "metric", "value", "bytes")
    for name, row in list_presets().items():
        side = "×".join(map(str, row["image_shape"]))
        value = "" if row["value"] is None else format_value(row["metric"], row["value"])
        size = "" if row["bytes"] is None else f"{row['bytes']:,}"
        table.add_row(name, row["from"], str(row["data"]), side, row["metric"] or "", value, size)
    console.print(table)
    console.print("\nLoad one with wavemix_tf.from_preset(NAME). Values of the authors' are published, not measured.")


def _as_json(presets: bool) -> dict[str, Any]:
    """Return the lists as JSON types: of ``--presets``, or all."""
    found: dict[str, Any] = {"presets": list_presets()}
    if presets:
        return found
    recipes = {recipe.name: json.loads(recipe.to_json()) for recipe in RECIPES.values()}
    targets = {name: {"dtypes": list(row.dtypes), "device": row.device} for name, row in TARGETS.items()}
    return {"recipes": recipes, "networks": VARIANTS, "targets": targets, **found}


def _print_recipes_and_targets() -> None:
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
