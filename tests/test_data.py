"""Data: splits that never overlap, the same order every time, and errors reported at once and by name."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from wavemix_tf.training import RECIPES, Recipe, load_data
from wavemix_tf.training.data.given import as_bundle
from wavemix_tf.training.data.records import RecordSource
from wavemix_tf.training.data.sources import ArraySource, FileSource
from wavemix_tf.training.data.splits import draw_classwise
from wavemix_tf.training.fitting.epoch_batches import training_batches
from wavemix_tf.training.images import fit_image, read_image
from wavemix_tf.training.tasks import task_of

DIGITS = dataclasses.replace(RECIPES["digits"], batch_size=64)
FOLDER = Recipe(name="photos", dataset="folder", image_shape=(8, 8, 3), calibration_images=4, batch_size=8)


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def digits(tfds_dir):
    return load_data(dataclasses.replace(DIGITS, data_dir=tfds_dir))


def hashes(source):
    return {image.tobytes() for images, _ in source.batches(100) for image in np.asarray(images)}


def everything(bundle):
    calibration = {image.tobytes() for image in bundle.calibration}
    return [hashes(bundle.train_source), hashes(bundle.validation_source), hashes(bundle.test_source), calibration]


def assert_disjoint(sets):
    assert sum(map(len, sets)) == len(set.union(*sets))


def batches_of(bundle, recipe, first=0, last=1, count=10):
    batches = training_batches(bundle.train_source, recipe, first, last, task_of(recipe, count))
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def write_folder(root, images=12, classes=("cat", "dog"), size=(8, 8), mode="RGB"):
    generator = np.random.default_rng(len(str(root.name)))
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(images):
            pixels = generator.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).convert(mode).save(root / name / f"{index:03d}.png")
    return str(root)


# The embedded digits


@pytest.mark.slow
def test_digits_have_four_sets_without_overlap(digits):
    train, validation, test, calibration = everything(digits)
    assert_disjoint([train, validation, test, calibration])
    assert (len(validation), len(test), len(calibration)) == (144, 360, 100)
    assert sum(map(len, (train, validation, test, calibration))) == 1797
    assert digits.class_names == tuple("0123456789")


def test_digits_batches(digits):
    images, labels = next(iter(digits.train))
    assert (images.dtype, labels.dtype) == ("float32", "int64")
    assert images.shape[1:] == (8, 8, 1)
    assert float(np.max(images)) == 1.0
    assert digits.calibration.dtype == np.float32
    images, labels = digits.test_arrays
    assert (images.shape, labels.shape) == ((360, 8, 8, 1), (360,))
    np.testing.assert_array_equal(np.concatenate([y for _, y in digits.test]), labels)


def test_every_class_is_in_proportion_everywhere(digits):
    for source in (digits.train_source, digits.validation_source, digits.test_source):
        counts = np.bincount(source.labels, minlength=10)
        assert counts.max() - counts.min() <= max(0.1 * counts.mean(), 2)


@pytest.mark.slow
def test_the_test_set_does_not_depend_on_the_seed_but_validation_does(digits, tfds_dir):
    other = load_data(dataclasses.replace(DIGITS, data_dir=tfds_dir, seed=1))
    assert hashes(other.test_source) == hashes(digits.test_source)
    assert hashes(other.validation_source) != hashes(digits.validation_source)
    assert_disjoint(everything(other))


@pytest.mark.slow
def test_order_and_augmentation_depend_on_seed_and_epoch_alone(digits):
    recipe = dataclasses.replace(DIGITS, rotation=10, shift=1, mixup=0.2)
    two_epochs = batches_of(digits, recipe, 0, 2)
    assert len(two_epochs) == 2 * digits.train_source.steps(64)
    assert_same(two_epochs, batches_of(digits, recipe, 0, 1) + batches_of(digits, recipe, 1, 2))
    assert not np.array_equal(two_epochs[0][0], two_epochs[len(two_epochs) // 2][0])
    assert not np.array_equal(two_epochs[0][0], batches_of(digits, dataclasses.replace(recipe, seed=1))[0][0])


def test_every_epoch_has_its_own_order(digits):
    recipe = dataclasses.replace(DIGITS, shift=0, rotation=0)
    first, second = (batches_of(digits, recipe, epoch, epoch + 1)[0][0] for epoch in (0, 1))
    assert not np.array_equal(first, second)


def test_an_epoch_shows_every_image_at_most_once(digits):
    recipe = dataclasses.replace(DIGITS, shift=0, rotation=0, batch_size=13)
    seen = [image.tobytes() for images, _ in batches_of(digits, recipe) for image in images]
    assert len(seen) == len(set(seen)) == 1193 // 13 * 13
    assert set(seen) < hashes(digits.train_source)


def test_streamed_records_are_the_same_images(digits, tfds_dir):
    recipe = dataclasses.replace(DIGITS, data_dir=tfds_dir, in_memory=False, shuffle_buffer=50)
    streamed = load_data(recipe)
    assert isinstance(streamed.train_source, RecordSource)
    assert streamed.test_arrays is None
    assert_disjoint(everything(streamed))
    assert set.union(*everything(streamed)) == set.union(*everything(digits))
    once, again = batches_of(streamed, recipe, 0, 2), batches_of(streamed, recipe, 0, 2)
    assert_same(once, again)
    assert_same(once[len(once) // 2 :], batches_of(streamed, recipe, 1, 2))
    assert not np.array_equal(once[0][0], once[len(once) // 2][0])


@pytest.mark.slow
def test_a_sample_is_fair_in_memory_and_streamed(digits, tfds_dir, tmp_path):
    """Its first images too, where the data is sorted by class; and the same images whenever it is asked for."""
    folder = write_folder(tmp_path / "photos", images=40)
    photos = dataclasses.replace(FOLDER, data_dir=folder, in_memory=False, validation_fraction=0.5)
    streamed = dataclasses.replace(DIGITS, data_dir=tfds_dir, in_memory=False)
    for data, classes in ((digits, 6), (load_data(streamed), 6), (load_data(photos), 2)):
        images, labels = data.sample("validation", 30)
        assert (images.dtype, images.shape, labels.dtype) == (np.float32, (30, *data.image_shape), np.int64)
        assert len(set(labels[:15])) >= classes
        assert {image.tobytes() for image in images} <= hashes(data.validation_source)
        np.testing.assert_array_equal(data.sample("validation", 30)[0], images)
    assert len(digits.sample("test", 10_000)[0]) == 360


def test_images_are_resized_and_coloured_as_the_recipe_says(tfds_dir):
    recipe = dataclasses.replace(DIGITS, data_dir=tfds_dir, image_shape=(12, 10, 3))
    images, _ = load_data(recipe).validation_arrays
    assert images.shape[1:] == (12, 10, 3)
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


def test_two_processes_may_prepare_digits_at_once(tmp_path, monkeypatch):
    """The other process is through just before this one wants to put its files in place."""
    import os

    from wavemix_tf.training.data.digits import builder

    rename = os.rename

    def lose_the_race(source, target):
        if "incomplete" not in str(target):  # TFDS renames too
            shutil.copytree(source, target)
        rename(source, target)

    monkeypatch.setattr(builder.os, "rename", lose_the_race)
    assert builder.prepared_builder(tmp_path).info.splits["test"].num_examples == 360
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_carve_leaves_no_row_out_and_none_twice():
    labels = np.repeat([0, 1, 2], [500, 50, 5])
    samples, rest = draw_classwise(labels, [111, 11], seed=3)
    assert sorted(np.concatenate([*samples, rest])) == list(range(555))
    np.testing.assert_allclose(np.bincount(labels[samples[0]], minlength=3), [100, 10, 1], atol=1)
    with pytest.raises(ValueError, match=r"leave images to train on .* Received: 500 \+ 56 of 555 images"):
        draw_classwise(labels, [500, 56], seed=0)


# TFDS


@pytest.mark.parametrize("name", ["emnist_balanced", "cifar100", "imagenet2012", "places365"])
def test_missing_data_is_reported_and_nothing_is_written(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="set download=True to download it, or data_dir"):
        load_data(dataclasses.replace(RECIPES[name], data_dir=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "no_such_data"}, "a name of TFDS .*Received: dataset='no_such_data'"),
        ({"dataset": "../digits"}, "a name of TFDS"),
        ({"dataset": "i_naturalist2021"}, "a name of TFDS"),
        ({"num_classes": 7}, "num_classes=7, digits has 10: 0, 1, 2"),
        ({"test_split": "validation"}, "Received: split 'validation' of digits"),
        ({"validation_fraction": 0.9}, "At least 288 images must be left to train on"),
        ({"in_memory": False, "train_split": "train[:50%]"}, "plain split"),
    ],
)
def test_bad_tfds_recipes(change, message, tfds_dir):
    with pytest.raises(ValueError, match=message):
        load_data(dataclasses.replace(DIGITS, data_dir=tfds_dir, **change))


def test_part_of_a_split(tfds_dir):
    data = load_data(dataclasses.replace(DIGITS, data_dir=tfds_dir, train_split="train[:50%]"))
    assert data.train_source.size + data.validation_source.size == 718
    assert data.calibration_shared  # 100 are more than a tenth of them


# Folders


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.slow
def test_folder_of_classes(tmp_path, in_memory):
    recipe = dataclasses.replace(FOLDER, data_dir=write_folder(tmp_path / "photos"), in_memory=in_memory)
    data = load_data(recipe)
    assert isinstance(data.train_source, ArraySource if in_memory else FileSource)
    assert data.class_names == ("cat", "dog")
    *sets, calibration = everything(data)
    assert [len(part) for part in (*sets, calibration)] == [19, 3, 2, 4]
    assert_disjoint(sets)
    assert calibration < sets[0]  # 4 of 19 are not held out
    once, again = batches_of(data, recipe, 0, 2, 2), batches_of(data, recipe, 0, 2, 2)
    assert_same(once, again)
    for images, labels in data.train:
        for image, label in zip(images.numpy(), labels.numpy(), strict=True):
            name = data.class_names[label]
            originals = [read_image(path) for path in (tmp_path / "photos" / name).iterdir()]
            assert any(np.array_equal(np.round(image * 255), original) for original in originals)


@pytest.mark.slow
def test_streamed_and_decoded_folders_are_the_same(tmp_path):
    folder = write_folder(tmp_path / "photos", size=(20, 31))
    first, second = (
        load_data(dataclasses.replace(FOLDER, data_dir=folder, in_memory=in_memory)) for in_memory in (True, False)
    )
    assert everything(first) == everything(second)
    assert first.notes == ("images of 20x31 (height x width) resized to 8x8",)


def test_held_out_images_without_training_images(tmp_path):
    write_folder(tmp_path / "photos" / "test")
    with pytest.raises(ValueError, match=r"with test must also have train\. Received: data_dir="):
        load_data(dataclasses.replace(FOLDER, data_dir=str(tmp_path / "photos")))


def test_folder_with_splits_of_its_own(tmp_path):
    for split, images in (("train", 12), ("val", 3), ("test", 4)):
        write_folder(tmp_path / split, images)
    data = load_data(dataclasses.replace(FOLDER, data_dir=str(tmp_path)))
    assert [len(part) for part in everything(data)] == [24, 6, 8, 4]


@pytest.mark.slow
def test_random_resized_crops_of_whole_images_are_repeatable(tmp_path):
    recipe = dataclasses.replace(
        FOLDER, data_dir=write_folder(tmp_path / "photos", size=(20, 31)), in_memory=False, crop_area=0.3
    )
    data = load_data(recipe)
    once = batches_of(data, recipe, 0, 2, 2)
    assert_same(once[2:], batches_of(data, recipe, 1, 2, 2))
    assert not hashes(data.train_source) & {image.tobytes() for images, _ in once for image in images}


def spoil(root, how):
    victim = root / "dog" / "005.png"
    if how == "empty":
        victim.write_bytes(b"")
    elif how == "truncated":
        victim.write_bytes(victim.read_bytes()[:-40])
    elif how == "text":
        victim.write_text("no image")
    elif how == "no images":
        for path in (root / "dog").iterdir():
            path.rename(path.with_suffix(".txt"))
    elif how == "one class":
        for path in (root / "dog").iterdir():
            path.unlink()
        (root / "dog").rmdir()
    elif how == "no classes":
        for path in [*root.glob("*/*")]:
            path.rename(root / path.name)
        for path in [*root.iterdir()]:
            if path.is_dir():
                path.rmdir()
    elif how == "one image":
        for path in sorted((root / "dog").iterdir())[1:]:
            path.unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("empty", r"Received: .*dog/005.png \(0 bytes\); on_bad_image='skip' skips such files"),
        ("truncated", "complete, of a supported format .*Received: .*dog/005.png"),
        ("text", "supported format .*Received: .*dog/005.png"),
        ("no images", "Every class folder must contain images .*Received: .*dog with 12 other files"),
        ("one class", "at least two classes. Received: folder has 1: cat"),
        ("no classes", "one subfolder of images per class. Received: .*photos without subfolders"),
        (
            "one image",
            "at least two training images: add some, or remove its folder .*. Received: .*photos with 1 of 'dog'",
        ),
    ],
)
def test_bad_folders_are_reported_by_name(tmp_path, how, message):
    recipe = dataclasses.replace(FOLDER, data_dir=write_folder(tmp_path / "photos"))
    spoil(tmp_path / "photos", how)
    with pytest.raises(ValueError, match=message):
        load_data(recipe)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("how", ["empty", "truncated", "text"])
def test_bad_images_are_left_out_and_counted(tmp_path, how, in_memory):
    folder = write_folder(tmp_path / "photos")
    spoil(tmp_path / "photos", how)
    recipe = dataclasses.replace(FOLDER, data_dir=folder, in_memory=in_memory, on_bad_image="skip")
    with pytest.warns(UserWarning, match="1 unreadable images skipped, the first: .*005.png"):
        data = load_data(recipe)
    assert [len(part) for part in everything(data)] == [18, 3, 2, 4]
    assert len(data.notes) == 1


def test_other_files_are_left_alone_and_counted(tmp_path):
    folder = write_folder(tmp_path / "photos")
    (tmp_path / "photos" / "cat" / "readme.txt").write_text("x")
    (tmp_path / "photos" / ".thumbnails").mkdir()
    data = load_data(dataclasses.replace(FOLDER, data_dir=folder))
    assert data.notes == (f"{folder}: 1 files without an image extension ignored",)


def test_grey_images_among_colour_are_converted_and_counted(tmp_path):
    folder = write_folder(tmp_path / "photos")
    for index in (3, 4):
        path = tmp_path / "photos" / "cat" / f"00{index}.png"
        Image.open(path).convert("L").save(path)
    with pytest.warns(UserWarning, match="2 of 24 images are gray and are converted to RGB, the first: .*cat/003.png"):
        data = load_data(dataclasses.replace(FOLDER, data_dir=folder))
    assert data.train_source.images.shape[1:] == (8, 8, 3)


@pytest.mark.parametrize(
    ("data_dir", "error", "message"),
    [
        (None, ValueError, "requires data_dir"),
        ("nowhere", FileNotFoundError, "must be a folder: .*--set data_dir=NEW.*Received: .*'nowhere'"),
    ],
)
def test_no_folder(data_dir, error, message):
    with pytest.raises(error, match=message):
        load_data(dataclasses.replace(FOLDER, data_dir=data_dir))


def test_wrong_number_of_classes_and_classes_that_differ_between_splits(tmp_path):
    folder = write_folder(tmp_path / "photos")
    with pytest.raises(ValueError, match="num_classes=3, folder has 2: cat, dog"):
        load_data(dataclasses.replace(FOLDER, data_dir=folder, num_classes=3))
    write_folder(tmp_path / "split" / "train")
    write_folder(tmp_path / "split" / "val", classes=("cat", "horse"))
    with pytest.raises(
        ValueError, match=r"same classes: add images .*Received: .*train lacks 'horse', which .*val has"
    ):
        load_data(dataclasses.replace(FOLDER, data_dir=str(tmp_path / "split")))


# Single images


def test_read_image_knows_every_kind(tmp_path):
    colour = Image.fromarray(np.full((4, 6, 3), (200, 100, 0), np.uint8))
    for name, image in {
        "a.jpg": colour.convert("CMYK"),
        "a.png": colour.convert("P"),
        "a.gif": colour,
        "a.webp": colour.convert("RGBA"),
        "a.tif": colour,
    }.items():
        image.save(tmp_path / name)
        pixels = read_image(tmp_path / name)
        assert pixels.dtype == np.uint8
        np.testing.assert_allclose(pixels[2, 3], (200, 100, 0), atol=12)
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").min() == 255
    Image.fromarray(np.full((4, 4), 65535 // 2, np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", 1).tolist() == np.full((4, 4, 1), 127).tolist()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    colour.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (6, 4, 3)


def test_no_scale_depends_on_one_pictures_values(tmp_path):
    """A dark picture of a 16-bit series stays dark, in every form that Pillow opens as it likes."""
    for top in (255, 65535):
        levels = np.array([[0, 200, top]], np.uint16)
        pgm = b"P5\n3 1\n65535\n" + levels.astype(">u2").tobytes()
        (tmp_path / "a.pgm").write_bytes(pgm)
        Image.fromarray(levels).save(tmp_path / "a.png")
        Image.fromarray(levels.astype(">u2")).save(tmp_path / "a.tif")
        Image.fromarray(levels.astype(np.int32)).save(tmp_path / "b.tif")
        for name in ("a.pgm", "a.png", "a.tif", "b.tif"):
            assert read_image(tmp_path / name, 1).ravel().tolist() == [0, 0, top // 257], name
    (tmp_path / "c.pgm").write_bytes(b"P5\n2 1\n4095\n" + np.array([100, 4095], ">u2").tobytes())
    assert read_image(tmp_path / "c.pgm", 1).ravel().tolist() == [6, 255]  # its header states the maximum


@pytest.mark.filterwarnings("ignore:1 of 24 images are gray")  # an intact header has no pixel values
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 4), 0.5, np.float32), r"must have integer pixels: .* 8 or 16 bits .* Received: .*005.tif"),
        (np.full((4, 4), 70_000, np.int32), r"must be in 0 to 65535: .* Received: .*005.tif with pixels from 70000"),
        (np.full((4, 4), -1, np.int32), r"must be in 0 to 65535: .* Received: .*005.tif with pixels from -1 to -1"),
    ],
)
def test_pixels_without_a_known_scale_are_refused_as_damaged_files_are(tmp_path, pixels, message, in_memory):
    recipe = dataclasses.replace(FOLDER, data_dir=write_folder(tmp_path / "photos"), in_memory=in_memory)
    path = tmp_path / "photos" / "dog" / "005.tif"
    path.with_suffix(".png").unlink()
    Image.fromarray(pixels).save(path)
    with pytest.raises(ValueError, match=message):
        read_image(path)
    if in_memory or pixels.dtype == np.float32:
        with pytest.raises(ValueError, match=f"{message}.*on_bad_image='skip' skips such files"):
            load_data(recipe)
    with pytest.warns(UserWarning, match="1 unreadable images skipped, the first: .*005.tif"):
        data = load_data(dataclasses.replace(recipe, on_bad_image="skip"))
    assert sum(len(part) for part in everything(data)) == 27


def test_fit_image_crops_to_the_aspect_ratio_or_stretches():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, 5:15] = 255
    assert np.asarray(fit_image(image, (10, 10, 3), crop_to_aspect_ratio=True)).min() == 255
    assert np.asarray(fit_image(image, (10, 10, 3))).min() == 0
    assert fit_image(image, (5, 5, 1)).shape == (5, 5, 1)


# The user's arrays


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((9, 8, 8, 3), np.uint8), np.zeros(9, int), r"image_shape=\(8, 8, 1\)"),
        (np.zeros((9, 8, 8, 1), np.uint8), np.zeros(8, int), "N labels"),
        (np.full((9, 8, 8, 1), 255.0), np.zeros(9, int), r"in \[0, 1\] .*Received: data from 255 to 255"),
        (np.full((9, 8, 8, 1), np.nan), np.zeros(9, int), "finite"),
        (np.zeros((9, 8, 8, 1), np.int32), np.zeros(9, int), "uint8, or floating point"),
        (np.zeros((9, 8, 8, 1), np.uint8), np.zeros((9, 10)), "Labels must be integers"),
        (np.zeros((9, 8, 8, 1), np.uint8), np.full(9, 10), r"Labels must be in \[0, 10\)"),
    ],
)
def test_bad_arrays(images, labels, message):
    with pytest.raises(ValueError, match=message):
        as_bundle(DIGITS, (images, labels))


def test_arrays_are_split_like_any_data():
    generator = np.random.default_rng(0)
    images, labels = generator.random((300, 8, 8, 1), np.float32), generator.integers(0, 10, (300, 1))
    data = as_bundle(DIGITS, (images, labels))
    assert (data.train_source.size, data.validation_source.size, len(data.calibration)) == (270, 30, 100)
    assert data.test_source is None
    assert_disjoint([hashes(data.train_source), hashes(data.validation_source)])
    with pytest.raises(ValueError, match="must have a test set"):
        data.test  # noqa: B018


def test_classes_that_differ_by_case_or_look_alike_are_reported(tmp_path):
    for name in ("train/cat", "train/dog", "val/Cat", "val/dog"):
        (tmp_path / name).mkdir(parents=True)
        for index in range(4):
            Image.new("RGB", (8, 8), (index * 40, 9, 9)).save(tmp_path / name / f"{index}.png")
    recipe = dataclasses.replace(FOLDER, data_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"train lacks 'Cat' \(differs only by case: 'cat'\), which .*val has"):
        load_data(recipe)
    (tmp_path / "val" / "Cat").rename(tmp_path / "val" / "cat\u200b")
    with pytest.raises(ValueError, match=r"lacks 'cat\\u200b' \(looks like 'cat'\), which"):
        load_data(recipe)
    flat = write_folder(tmp_path / "flat")
    for name, twin in (("caf\u00e9", "cafe\u0301"), ("a b", "a b ")):
        for one in (name, twin):
            (tmp_path / "flat" / one).mkdir()
            for index in range(6):
                Image.new("RGB", (8, 8), (index * 40, len(one), ord(one[-1]) % 256)).save(
                    tmp_path / "flat" / one / f"{index}.png"
                )
    told = r"similar names are kept separate; .*: 'a b' and 'a b '; 'cafe\\u0301' and 'caf\\xe9'"
    with pytest.warns(UserWarning, match=told):
        load_data(dataclasses.replace(FOLDER, data_dir=flat))


def test_a_folder_that_was_moved_is_reported_with_the_option(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"if it was moved, use --set data_dir=NEW\. Received: data_dir"):
        load_data(dataclasses.replace(FOLDER, data_dir=str(tmp_path / "gone")))
