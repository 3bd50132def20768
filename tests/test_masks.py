"""Masks as tools write them: the option that the error message proposes, and the masks read with it."""

import dataclasses
import json
import re
import shlex

import keras
import numpy as np
import pytest
from PIL import Image

from wavemix_tf.command.arguments import apply_settings, folder_recipe
from wavemix_tf.training import Recipe, load_data

SIDES = (12, 16)
BLOCK = 4  # side in pixels of a block with one class


def classes(count, number):
    """(12, 16) class numbers in blocks; every class occurs in every mask of up to twelve."""
    order = np.random.default_rng(number).permutation(12) % count
    return order.reshape(3, 4).repeat(BLOCK, 0).repeat(BLOCK, 1)


def write(root, masks, image="images/{}.png", mask="masks/{}.png"):
    """Images whose red is ten times the number of their mask's class, so that what belongs together shows."""
    for number, (content, truth) in enumerate(masks):
        pixels = np.zeros((*truth.shape, 3), np.uint8)
        pixels[..., 0] = 10 * truth
        for name, picture in ((image, Image.fromarray(pixels)), (mask, content)):
            path = root / name.format(f"{number:02}")
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, **({"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}))
    return root


def painted(values, count=14, kind=np.uint8):
    """Masks of so many values, numbers or (R, G, B)."""
    table = np.array(values, kind)
    truths = [classes(len(values), number) for number in range(count)]
    return [(Image.fromarray(table[truth]), truth) for truth in truths]


def recipe_of(root, **changes):
    """As the command makes it for own images, small."""
    recipe = folder_recipe(root, "segmentation")
    options = {"image_shape": (*SIDES, 3), "calibration_images": 2, "batch_size": 2, **changes}
    return dataclasses.replace(recipe, **options)


def typed(recipe, match):
    """The recipe with what the refusal says to type, as often as it says so."""
    with pytest.raises(ValueError, match=match) as caught:
        load_data(recipe)
    (line, *_) = re.findall(r"`(--set [^`]+)`", str(caught.value))
    return apply_settings(recipe, [shlex.split(line)[1]])


def read(recipe):
    """{as the image says: as the mask was read} over all images, each class number one of the image's."""
    data = load_data(recipe)
    found = set()
    for source in (data.train_source, data.validation_source, data.test_source):
        for images, masks in source.batches(4):
            shown = np.round(25.5 * np.asarray(images)[..., 0]).astype(int)
            found |= set(zip(shown.ravel().tolist(), np.asarray(masks).ravel().tolist(), strict=True))
    return data, found


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("form", ["L", "RGB", "1"])
@pytest.mark.slow
def test_binary_masks_of_0_and_255(tmp_path, form, in_memory):
    masks = [(picture.convert(form), truth) for picture, truth in painted([0, 255])]
    recipe = recipe_of(write(tmp_path, masks), in_memory=in_memory)
    if form != "1":  # whose pixels are 0 and 1
        recipe = typed(recipe, "Received: the numbers 0, 255 with ignore_index=255; `--set mask_values=0,255`")
    data, found = read(recipe)
    assert data.class_names == (("0", "1") if form == "1" else ("0", "255"))
    assert found == {(0, 0), (1, 1)}


@pytest.mark.slow
def test_binary_masks_with_names(tmp_path):
    (write(tmp_path, painted([0, 255])) / "classes.txt").write_text("\ufeffskin\nlesion\n", encoding="utf-8")
    recipe = typed(recipe_of(tmp_path), "no pixel of lesion; 50% of the pixels are ignore_index=255; `--set")
    data, found = read(recipe)
    assert (data.class_names, found) == (("skin", "lesion"), {(0, 0), (1, 1)})
    recipe = typed(
        recipe_of(tmp_path, ignore_index=None), "Received: 255, ignore_index=None; `--set mask_values=0,255`"
    )
    assert read(recipe)[1] == {(0, 0), (1, 1)}


@pytest.mark.parametrize("values", [range(0, 101, 10), (1, 2, 3), (7, 300, 65535)])
def test_numbers_with_gaps_are_compacted_and_keep_their_names(tmp_path, values):
    kind = np.uint16 if max(values) > 255 else np.uint8
    recipe = recipe_of(write(tmp_path, painted(list(values), kind=kind)))
    line = ",".join(map(str, values))
    data, found = read(typed(recipe, f"without gaps.*`--set mask_values={line}` makes each number a class"))
    assert data.class_names == tuple(map(str, values))
    assert found == {(number, number) for number in range(len(values))}


@pytest.mark.slow
def test_the_void_stays_void(tmp_path):
    """0 of 0, 5, 9 has no class, though 0 is the number of one."""
    root = write(tmp_path, painted([0, 5, 9]))
    recipe = typed(
        recipe_of(root, ignore_index=0), r"`--set mask_values=5,9` .*\(0 has no class; `--set mask_values=0,5"
    )
    data, found = read(recipe)
    assert (data.class_names, recipe.void) == (("5", "9"), 255)
    assert found == {(0, 255), (1, 0), (2, 1)}
    recipe = dataclasses.replace(recipe, ignore_index=None, mask_values=(5, 9), mask_void=(0,))
    assert read(recipe)[1] == found
    with pytest.raises(ValueError, match=r"must be in mask_values, mask_void or ignore_index\. .*00.png with 0, "):
        load_data(dataclasses.replace(recipe, mask_void=()))


COLOURS = [(0, 0, 0), (255, 128, 0), (12, 34, 56)]
LINE = "#000000,#0c2238,#ff8000"


def own_palettes():
    """Palette images whose numbers are in each file's own order."""
    for number, (picture, truth) in enumerate(painted(COLOURS)):
        order = np.random.default_rng(number).permutation(3)
        indexed = Image.fromarray(np.argsort(order).astype(np.uint8)[truth])
        indexed.putpalette(np.array(COLOURS, np.uint8)[order].tobytes())
        assert np.array_equal(np.asarray(indexed.convert("RGB")), np.asarray(picture))
        yield indexed, truth


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("form", ["RGB", "RGBA", "palettes"])
@pytest.mark.slow
def test_masks_of_colours(tmp_path, form, in_memory):
    masks = list(own_palettes()) if form == "palettes" else [(p.convert(form), t) for p, t in painted(COLOURS)]
    recipe = recipe_of(write(tmp_path, masks), in_memory=in_memory)
    what = "one number in different colors" if form == "palettes" else "14 of 14 with colors"
    recipe = typed(recipe, f"{what}.*`--set mask_values={LINE}` makes each color a class, in this order")
    data, found = read(recipe)
    assert data.class_names == tuple(LINE.split(","))
    assert found == {(0, 0), (1, 2), (2, 1)}
    void = dataclasses.replace(recipe, mask_values=("#FF8000", "#0c2238ff"), mask_void=("#000000",))
    assert read(void)[1] == {(0, 255), (1, 0), (2, 1)}
    with pytest.raises(ValueError, match=r"with #000000, \d+\.\d+% of its pixels"):
        load_data(dataclasses.replace(void, mask_void=()))


def test_transparent_is_a_colour_and_photographs_are_no_masks(tmp_path):
    masks = []
    for picture, truth in painted(COLOURS):
        pixels = np.array(picture.convert("RGBA"))
        pixels[truth == 0] = (*np.random.default_rng(0).integers(0, 255, 3), 0)
        masks.append((Image.fromarray(pixels), truth))
    recipe = typed(recipe_of(write(tmp_path / "a", masks)), "mask_values=#00000000,#0c2238,#ff8000")
    assert read(recipe)[1] == {(0, 0), (1, 2), (2, 1)}
    noise = np.random.default_rng(0).integers(0, 255, (14, *SIDES, 3), dtype=np.uint8)
    big = [(Image.fromarray(part.repeat(4, 0)).resize((64, 48)), np.zeros((48, 64), int)) for part in noise]
    with pytest.raises(ValueError, match="colors: it is a photograph, or was smoothed or saved with lossy compression"):
        load_data(recipe_of(write(tmp_path / "b", big)))


@pytest.mark.parametrize(
    ("image", "mask", "name"),
    [
        ("images/{}.jpg", "masks/{}_mask.png", "{}_mask"),
        ("images/a/{}.png", "masks/a/mask_{}.png", "mask_{}"),
        ("images/city_{}_left.png", "masks/city_{}_ids.png", "{}left:{}ids"),
        ("{}.jpg", "{}_mask.png", "{}_mask"),
        ("train/{}.png", "train/{}-label.png", "{}-label"),
    ],
)
def test_names_of_masks(tmp_path, image, mask, name):
    recipe = recipe_of(write(tmp_path, painted([0, 1, 2]), image, mask))
    recipe = typed(recipe, "mask_name")
    assert recipe.mask_name.replace("_left:{}_ids", "left:{}ids") == name
    assert read(recipe)[1] == {(0, 0), (1, 1), (2, 2)}


@pytest.mark.slow
def test_twins_and_masks_without_an_image(tmp_path):
    assert read(recipe_of(write(tmp_path / "a", painted([0, 1, 2]), "{}.jpg", "{}.png")))[1] == {(0, 0), (1, 1), (2, 2)}
    write(tmp_path / "b", painted([0, 1]))
    (tmp_path / "b" / "images" / "03.png").unlink()
    data, _ = read(recipe_of(tmp_path / "b"))
    assert any("1 masks without an image ignored, the first: " in note for note in data.notes)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("size", [(24, 32), (6, 8), (24, 16)])
@pytest.mark.slow
def test_masks_of_another_size(tmp_path, size, in_memory):
    masks = [
        (Image.fromarray(truth.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST), truth)
        for _, truth in painted([0, 1, 2])
    ]
    recipe = recipe_of(write(tmp_path, masks), in_memory=in_memory)
    recipe = typed(recipe, rf"must have its image's size\. .*00\.png \(12, 16\), .*00\.png \({size[0]}, {size[1]}\); ")
    assert recipe.mask_resize
    with pytest.warns(UserWarning, match=f"14 masks resized to .*00.png from {size[0]}x{size[1]} to 12x16"):
        assert read(recipe)[1] == {(0, 0), (1, 1), (2, 2)}
    # A mask that is rotated by 90 degrees is not stretched.
    turned = Image.fromarray(classes(3, 0).astype(np.uint8)).rotate(90, expand=True)
    turned.save(tmp_path / "masks" / "00.png")
    with pytest.raises(
        ValueError, match=r"must have its image's size\. Received: .*\(16, 12\); on_bad_image='skip' skips"
    ):
        load_data(recipe)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "classes.txt without names"),
        (b"\n \n", "classes.txt without names"),
        (b"sky\nsky\n", "classes.txt with sky more than once"),
        (b"sk\xff\n", "in UTF-8 .*classes.txt"),
    ],
)
def test_lists_of_classes_that_are_none(tmp_path, content, message):
    (write(tmp_path, painted([0, 1])) / "classes.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_data(recipe_of(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_values": (0,)}, "have 2 to 254 classes"),
        ({"mask_values": (0, 0)}, "distinct numbers"),
        ({"mask_values": (0, "#ffffff")}, "distinct numbers"),
        ({"mask_values": ("#fff", "#000")}, "#rrggbb"),
        ({"mask_values": ("#FF0000FF", "#ff0000")}, "distinct"),
        ({"mask_values": (0, 70000)}, "65535"),
        ({"mask_void": (1,)}, "mask_void must have the kind of mask_values and share no value"),
        ({"mask_values": (0, 1), "mask_void": (1,)}, "mask_void must have the kind of mask_values and share no value"),
        ({"mask_values": (0, 1), "num_classes": 3}, "num_classes must equal the number of mask_values"),
        ({"mask_name": "_mask"}, "mask_name must have {} once"),
        ({"task": "classification", "mask_resize": True}, "task='classification' takes no mask_resize"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{"name": "x", "dataset": "folder", "image_shape": (8, 8, 3), "task": "segmentation", **changes})


def test_settings_are_saved_and_typed():
    recipe = Recipe("x", "folder", (8, 8, 3), task="segmentation")
    changed = apply_settings(recipe, ["mask_values=#000000, #FF8000", "mask_void=#ffffff", "mask_resize=true"])
    assert changed.mask_values == ("#000000", "#ff8000")
    assert Recipe.from_json(changed.to_json()) == changed
    assert changed.differences(recipe)[0] == "mask_values=('#000000', '#ff8000') (there ())"
    with pytest.raises(ValueError, match="--set mask_values takes numbers or colors"):
        apply_settings(recipe, ["mask_values=red,green"])


@pytest.mark.parametrize("values", [[0, 10, 200], [5, 300, 9], ["#102030", "#ff8000", "#00000000"]])
def test_predictions_are_written_as_the_masks_were(tmp_path, capsys, values):
    from wavemix_tf.cli import main

    inputs = keras.Input((*SIDES, 3))
    # Logits of three bands of red: class 0 below 0.3, class 1 below 0.6, class 2 above.
    x = keras.layers.Conv2D(3, 1)(inputs)
    model = keras.Model(inputs, x)
    kernel = np.zeros((1, 1, 3, 3), np.float32)
    kernel[0, 0, 0] = (0, 10, 20)
    model.set_weights([kernel, np.array([0, -3, -9], np.float32)])
    model.save(tmp_path / "model.keras")
    recipe = Recipe("x", "folder", (*SIDES, 3), task="segmentation", mask_values=values)
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    truth = classes(3, 1)
    Image.fromarray((100 * truth[..., None]).repeat(3, -1).astype(np.uint8)).save(tmp_path / "a.png")
    words = ["predict", str(tmp_path / "a.png"), "--model", str(tmp_path / "model.keras"), "--json"]
    assert main([*words, "--save", str(tmp_path / "out")]) == 0
    row = json.loads(capsys.readouterr().out)
    assert {part["index"]: part["value"] for part in row["classes"]} == dict(enumerate(values))
    with Image.open(tmp_path / "out" / "a_mask.png") as picture:
        if isinstance(values[0], str):
            np.testing.assert_array_equal(np.asarray(picture), truth)
            colours = np.array([(0x10, 0x20, 0x30), (0xFF, 0x80, 0), (0, 0, 0)])
            np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), colours[truth])
        else:
            np.testing.assert_array_equal(np.asarray(picture), np.array(values)[truth])
