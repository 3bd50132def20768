"""Recipes: accepted values, saving and loading, and the content of the named recipes."""

import dataclasses
import json
import re

import pytest

from wavemix_tf.training import RECIPES, Recipe
from wavemix_tf.training.recipe import parse_field
from wavemix_tf.variants import NETWORKS, VARIANTS

TINY = Recipe(name="tiny", dataset="digits", image_shape=(8, 8, 1))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_json_round_trip(recipe, tmp_path):
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert dataclasses.asdict(again) == dataclasses.asdict(recipe)
    path = tmp_path / "recipe.json"
    path.write_text(recipe.to_json(), encoding="utf-8")
    assert Recipe.from_json(path) == recipe


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_named_recipes_say_command_and_cost(recipe):
    assert RECIPES[recipe.name] is recipe
    assert f"Command: wavemix-tf run {recipe.name}" in recipe.description
    measured = " ".join(recipe.description.split()).partition("Measured:")[2]
    assert bool(measured) != ("Not measured here" in recipe.description)
    if measured:  # accuracy float and int8, epochs, time, seed
        assert re.search(r"\d (%|dB)", measured)
        assert all(word in measured for word in ("float", "int8", "epochs", "minute", "seed", "test images"))
    assert recipe.model is None or recipe.model in (*VARIANTS, *NETWORKS)
    assert recipe.num_classes is not None or recipe.dataset == "folder" or recipe.task == "super_resolution"


def test_all_recipes_of_the_plan_are_there():
    assert set(RECIPES) >= {
        *("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "emnist_balanced", "emnist_byclass"),
        *("imagenet2012", "places365", "inat_mini", "tiny_imagenet", "galaxy10"),
    }


def test_json_of_an_earlier_version_takes_defaults():
    fields = json.loads(TINY.to_json())
    del fields["erase"], fields["crop_to_aspect_ratio"]
    assert Recipe.from_json(json.dumps(fields)) == TINY


def test_place_and_description_are_not_identity():
    assert dataclasses.replace(TINY, data_dir="elsewhere", download=True, description="other") == TINY
    assert dataclasses.replace(TINY, seed=1) != TINY


def test_whole_numbers_are_fine_floats_and_lists_fine_tuples():
    recipe = Recipe(
        name="a", dataset="digits", image_shape=[8, 8, 1], learning_rate=1, model_args={"normalize": [0, 1]}
    )
    assert recipe.image_shape == (8, 8, 1)
    assert type(recipe.learning_rate) is float
    assert recipe.model_args["normalize"] == (0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": "3"}, "epochs must be int. Received: epochs='3'"),
        ({"epochs": True}, "epochs must be int"),
        ({"epochs": 0}, "epochs must be positive. Received: epochs=0"),
        ({"learning_rate": -1.0}, "learning_rate must be positive"),
        ({"image_shape": (8, 8)}, r"image_shape must be \(height, width, channels\)"),
        ({"image_shape": (8, 8, 2)}, "1 or 3"),
        ({"optimizer": "adam"}, "optimizer must be one of 'adamw', 'lion', 'sgd', 'adamw_then_sgd'"),
        ({"policy": "auto"}, "or None. Received: policy='auto'"),
        ({"on_bad_image": "ignore"}, "on_bad_image must be one of 'error', 'skip'"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
        ({"validation_fraction": 0.0}, "validation_fraction must be between 0 and 1"),
        ({"optimizer": "adamw_then_sgd"}, "needs patience"),
        ({"warmup_epochs": 40.0}, "warmup_epochs must be less than epochs"),
        ({"shift": 8}, "shift must be less than a side"),
        ({"num_classes": 1}, "num_classes"),
        ({"cutmix": 2.0}, "cutmix"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"model_args": [1]}, "model_args must map"),
    ],
)
def test_bad_fields(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON object"),
        ("[1]", "JSON object"),
        ('{"name": "a", "dataset": "digits"}', "must have name, dataset and image_shape"),
        ('{"name": "a", "dataset": "digits", "image_shape": [8, 8, 1], "epoch": 3}', "Received: epoch$"),
    ],
)
def test_bad_json(text, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_json(text)


def test_a_folder_of_images_that_was_moved_makes_no_other_recipe(tmp_path):
    recipe = Recipe(name="x", dataset="folder", image_shape=(8, 8, 3), data_dir=str(tmp_path / "new"))
    there = dataclasses.replace(recipe, data_dir=str(tmp_path / "old"))
    assert recipe.differences(there) == []
    (tmp_path / "old").mkdir()
    assert recipe.differences(there)[0].startswith("data_dir=")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Recipe)])
def test_every_field_reads_its_own_text(name):
    """Whatever a named recipe holds, ``--set`` can write."""
    for recipe in RECIPES.values():
        value = getattr(recipe, name)
        text = json.dumps(value) if isinstance(value, dict) else str(value)
        if isinstance(value, tuple):
            text = ("x" if name == "image_shape" else ",").join(map(str, value))
        read = dataclasses.replace(recipe, **{name: parse_field(name, text)})
        assert getattr(read, name) == value


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("image_shape", "8", None),  # read as (8,), which the recipe itself refuses
        ("image_shape", "axb", "HxWxC"),
        ("model_args", "width=8", "a JSON object"),
        ("mask_values", "red,green", "numbers or colors, such as 0,255 or #000000,#ff8000"),
        ("flip", "2", "bool"),
        ("epochs", "1.5", "int"),
        ("patience", "soon", "int or None"),
    ],
)
def test_a_text_that_is_no_value_names_what_is(name, text, expected):
    if expected is None:
        with pytest.raises(ValueError, match="image_shape must be"):
            dataclasses.replace(TINY, image_shape=parse_field(name, text))
        return
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        parse_field(name, text)
