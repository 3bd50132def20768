"""Segmentation and super-resolution through `load_data` and `fit`: data, augmentation, losses, learning."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from picture_support import VOID, write_photographs, write_scenes
from PIL import Image

import wavemix_tf as wm
from wavemix_tf.metrics import class_iou, confusion_matrix, psnr_y
from wavemix_tf.training import RECIPES, Recipe, fit, load_data
from wavemix_tf.training.augment import BatchSeed, MaskAugmenter, PairAugmenter
from wavemix_tf.training.data.mask_formats import AS_NUMBERED
from wavemix_tf.training.data.patches import as_pair, enlarged, reduced
from wavemix_tf.training.fitting.epoch_batches import training_batches
from wavemix_tf.training.losses import PixelCrossEntropy
from wavemix_tf.training.tasks import task_of

MASKS = Recipe(
    name="shapes",
    dataset="folder",
    task="segmentation",
    image_shape=(24, 32, 3),
    ignore_index=VOID,
    model_args={"width": 8, "depth": 1, "levels": 1, "dropout": 0.0},
    calibration_images=4,
    batch_size=4,
    epochs=8,
    learning_rate=2e-2,
    flip=True,
)
PICTURES = Recipe(
    name="pictures",
    dataset="folder",
    task="super_resolution",
    image_shape=(12, 12, 3),
    model_args={"width": 8, "depth": 1, "dropout": 0.0},
    patches=6,
    calibration_images=8,
    batch_size=8,
    epochs=6,
    learning_rate=1e-2,
    warmup_epochs=0.5,
    flip=True,
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def of(recipe, folder, **changes):
    return dataclasses.replace(recipe, data_dir=str(folder), **changes)


# --- masks ---


@pytest.mark.slow
def test_masks_are_read_beside_their_images(scenes):
    data = load_data(of(MASKS, scenes))
    assert data.class_names == ("sky", "ground", "box")
    assert [source.size for source in (data.train_source, data.validation_source, data.test_source)] == [36, 8, 8]
    images, masks = next(iter(data.test))
    assert images.shape == (8, 24, 32, 3)
    assert masks.dtype == "int32"
    np.testing.assert_array_equal(masks[3], AS_NUMBERED.read(scenes / "testannot" / "3.png"))
    streamed = load_data(of(MASKS, scenes, in_memory=False))
    for ours, theirs in zip(next(iter(streamed.test)), (images, masks), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    "layout",
    ["images/{split}|masks/{split}", "{split}/images|{split}/masks", "images|annotations"],
)
@pytest.mark.slow
def test_other_layouts(scenes, tmp_path, layout):
    splits = ("train", "test") if "{split}" in layout else ("train",)
    for split in splits:
        for pattern, source in zip(layout.split("|"), (split, f"{split}annot"), strict=True):
            target = tmp_path / pattern.format(split=split)
            target.mkdir(parents=True)
            for path in (scenes / source).iterdir():
                (target / path.name).write_bytes(path.read_bytes())
    data = load_data(of(MASKS, tmp_path, num_classes=3))
    assert data.class_names == ("0", "1", "2")
    assert data.test_source.size == (8 if len(splits) == 2 else 5)
    assert load_data(of(MASKS, tmp_path)).class_names == ("0", "1", "2")  # counted in the masks


def damaged(name, folder):
    annotations = folder / "trainannot"
    if name == "missing":
        (annotations / "5.png").unlink()
    elif name == "size":
        Image.fromarray(np.zeros((24, 30), np.uint8)).save(annotations / "5.png")
    elif name == "colours":
        Image.fromarray(np.full((24, 32, 3), (0, 9, 0), np.uint8)).save(annotations / "5.png")
    elif name == "number":
        Image.fromarray(np.full((24, 32), 9, np.uint8)).save(annotations / "5.png")
    else:
        (annotations / "5.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "Every image must have a mask with its name, or by mask_name. Received: 1 of 40 images"),
        (
            "size",
            r"A mask must have its image's size. Received: .*5.png \(24, 32\), .*5.png \(24, 30\); `--set mask_re",
        ),
        ("colours", r"A mask must be a gray or palette image .*5.png \(mode RGB\)"),
        ("number", r"A mask's pixels must be classes in \[0, 3\), or ignore_index. Received: 9, ignore_index=3"),
        ("empty", "must not be empty|0 bytes"),
    ],
)
def test_damaged_masks_are_reported(scenes, tmp_path, name, message):
    import shutil

    shutil.copytree(scenes, tmp_path / "scenes")
    damaged(name, tmp_path / "scenes")
    with pytest.raises(ValueError, match=message):
        load_data(of(MASKS, tmp_path / "scenes"))


def test_ignore_index_is_no_class(scenes):
    with pytest.raises(ValueError, match=r"ignore_index must not be a class number, in \[0, 4\)"):
        load_data(of(MASKS, scenes, ignore_index=1))


def test_an_image_that_a_camera_turned_meets_its_mask(scenes, tmp_path):
    import shutil

    shutil.copytree(scenes, tmp_path / "scenes")
    with Image.open(scenes / "train" / "0.png") as file:
        image = file.convert("RGB")
    lying, exif = image.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6  # rotated clockwise for display
    lying.save(tmp_path / "scenes" / "train" / "0.png", exif=exif)
    source = load_data(of(MASKS, tmp_path / "scenes", calibration_images=1)).train_source
    rows = [row for row in source.images if np.array_equal(row, np.asarray(image))]
    assert len(rows) == 1
    # A mask with the unrotated size of the file's pixels is refused.
    mask = AS_NUMBERED.read(scenes / "trainannot" / "0.png")
    Image.fromarray(np.rot90(mask)).save(tmp_path / "scenes" / "trainannot" / "0.png")
    with pytest.raises(ValueError, match="A mask must have its image's size"):
        load_data(of(MASKS, tmp_path / "scenes"))


@pytest.mark.slow
def test_broken_masks_are_left_out_if_asked(scenes, tmp_path):
    import shutil

    shutil.copytree(scenes, tmp_path / "scenes")
    damaged("empty", tmp_path / "scenes")
    (tmp_path / "scenes" / "trainannot" / "._7.png").write_bytes(b"a Mac's")
    for in_memory in (True, False):
        with pytest.warns(UserWarning, match="1 unreadable masks skipped with their images"):
            data = load_data(of(MASKS, tmp_path / "scenes", on_bad_image="skip", in_memory=in_memory))
        assert data.train_source.size == 39


def test_grey_images_and_masks(scenes, tmp_path):
    recipe = of(MASKS, scenes, image_shape=(24, 32, 1), epochs=1, warmup_epochs=0, saturation=0.2, brightness=0.1)
    assert np.isfinite(fit(recipe, verbose=0).validation_loss)


@pytest.mark.slow
def test_large_images_are_evaluated_a_few_at_a_time(scenes):
    data = load_data(of(MASKS, scenes, image_shape=(512, 1024, 3), calibration_images=1))
    images, masks = next(iter(data.validation))
    assert len(images) == len(masks) == 2


class KilledError(Exception):
    pass


class KillAfter(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            raise KilledError


@pytest.mark.parametrize("task", ["masks", "streamed masks", "patches", "streamed patches"])
@pytest.mark.slow
def test_interrupted_training_ends_as_the_uninterrupted(task, scenes, photographs, tmp_path):
    recipe = of(MASKS, scenes) if "masks" in task else of(PICTURES, photographs)
    recipe = dataclasses.replace(
        recipe, epochs=3, warmup_epochs=0.5, ema=0.5, in_memory="streamed" not in task, calibration_images=4
    )
    if "masks" in task:
        recipe = dataclasses.replace(recipe, smallest_scale=0.7, largest_scale=1.5)
    whole = fit(recipe, out=tmp_path / "whole", verbose=0)
    with pytest.raises(KilledError):
        fit(recipe, out=tmp_path / "killed", verbose=0, callbacks=[KillAfter(2)])
    again = fit(recipe, out=tmp_path / "killed", verbose=0)
    assert again.resumed_epochs == 2
    for name in ("loss", "val_loss", f"val_{recipe.metric}"):
        np.testing.assert_allclose(again.history[name], whole.history[name], rtol=1e-5)
    for ours, theirs in zip(again.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_folder_of_another_kind_is_reported(photographs):
    with pytest.raises(ValueError, match="data_dir of a segmentation must have images/ and masks/"):
        load_data(of(MASKS, photographs))


def test_image_and_mask_move_together(scenes):
    data = load_data(of(MASKS, scenes))
    images, masks = (np.asarray(part) for part in data.train_source.sample(16))
    recipe = dataclasses.replace(MASKS, smallest_scale=0.5, largest_scale=2.0)
    moved, moved_masks = MaskAugmenter(recipe)(
        keras.ops.convert_to_tensor(images / np.float32(255)), keras.ops.convert_to_tensor(masks), BatchSeed(0, 1, 2)
    )
    moved, moved_masks = np.asarray(moved), np.asarray(moved_masks)
    assert moved.shape == images.shape
    assert (np.abs(moved - images / 255).mean((1, 2, 3)) > 0.02).sum() > 12
    colours = np.array([[90, 140, 230], [60, 150, 40], [220, 60, 50]]) / 255
    # A pixel's color still determines its class (edge pixels are mixtures), and the outside is void.
    nearest = np.linalg.norm(moved[..., None, :] - colours, axis=-1).argmin(-1)
    black = moved.sum(-1) == 0
    assert (moved_masks[black] == VOID).mean() > 0.99
    kept = (moved_masks != VOID) & ~black
    assert kept.mean() > 0.3
    assert (nearest == moved_masks)[kept].mean() > 0.95
    # If only one of them were mirrored, they would not agree.
    assert (nearest[:, :, ::-1] == moved_masks)[kept].mean() < 0.9


@pytest.mark.slow
def test_mask_augmentation_repeats(scenes):
    recipe = of(MASKS, scenes, smallest_scale=0.5, largest_scale=2.0, brightness=0.2, contrast=0.2, saturation=0.2)
    data = load_data(recipe)
    first, second = (
        [np.asarray(part) for part in next(iter(training_batches(data.train_source, recipe, 2, 3, task_of(recipe, 3))))]
        for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[0].min() >= 0
    assert first[0].max() <= 1


def test_loss_is_the_mean_over_pixels_with_a_class(rng):
    logits = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    labels = rng.integers(0, 5, (2, 3, 4))
    labels[0, 0] = 255
    log_shares = np.asarray(keras.ops.log_softmax(logits))
    kept = labels != 255
    picked = -np.take_along_axis(log_shares, np.where(kept, labels, 0)[..., None], -1)[..., 0]
    assert float(PixelCrossEntropy(255)(labels, logits)) == pytest.approx(picked[kept].mean(), rel=1e-5)
    smooth = 0.9 * picked[kept].mean() - 0.1 * log_shares[kept].mean()
    assert float(PixelCrossEntropy(255, 0.1)(labels, logits)) == pytest.approx(smooth, rel=1e-5)


@pytest.fixture(scope="module")
def segmented(scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "shapes"
    recipe = of(MASKS, scenes)
    return fit(recipe, out=out, verbose=0), recipe, out


def test_segmenter_learns_and_its_metric_is_one_confusion_matrix(segmented, scenes):
    result, recipe, out = segmented
    assert isinstance(result.model, wm.WaveMixSegmenter)
    assert result.metric == "mean_iou"
    assert result.validation_score == max(result.history["val_mean_iou"]) > 0.6
    data = load_data(recipe)
    images, masks = data.test_arrays
    total = confusion_matrix(masks, result.model.predict(images, verbose=0).argmax(-1), 3, VOID)
    assert result.test_score == pytest.approx(np.nanmean(class_iou(total)), abs=1e-6)
    assert json.loads((out / "training.json").read_text())["test"] == result.test_score
    with pytest.raises(AttributeError, match="test_accuracy requires a classifier"):
        result.test_accuracy  # noqa: B018


def test_saved_segmenter_evaluates_itself(segmented):
    result, recipe, out = segmented
    again = keras.saving.load_model(out / "model.keras")
    found = again.evaluate(load_data(recipe).validation, verbose=0, return_dict=True)
    assert found["mean_iou"] == pytest.approx(result.validation_score, abs=1e-6)


def test_finished_segmentation_has_nothing_to_do(segmented):
    result, recipe, out = segmented
    again = fit(recipe, out=out, verbose=0)
    assert (again.resumed_epochs, again.validation_score) == (8, result.validation_score)


def test_masks_as_arrays_need_no_folder(scenes):
    images, masks = load_data(of(MASKS, scenes)).validation_arrays
    recipe = dataclasses.replace(MASKS, epochs=1, warmup_epochs=0, batch_size=2, num_classes=3, calibration_images=1)
    result = fit(recipe, data=(images, masks), verbose=0)
    assert np.isfinite(result.validation_loss)
    with pytest.raises(ValueError, match=r"Masks must be integers \(N, 24, 32\)"):
        fit(recipe, data=(images, masks[:, :5]), verbose=0)


@pytest.mark.slow
def test_model_must_return_masks(scenes):
    with pytest.raises(ValueError, match="The model must return 3 logits for every pixel"):
        fit(of(MASKS, scenes), model=wm.WaveMixClassifier(3, (24, 32, 3), width=8, depth=1), verbose=0)


@pytest.mark.parametrize("field", ["mixup", "policy", "shift", "crop_area"])
def test_augmentation_that_masks_do_not_follow_is_refused(field):
    value = {"policy": "trivial_augment", "shift": 1}.get(field, 0.5)
    with pytest.raises(ValueError, match=f"task='segmentation' takes no {field}"):
        dataclasses.replace(MASKS, **{field: value})


def test_cityscapes_tells_where_its_archives_go(tmp_path):
    recipe = dataclasses.replace(RECIPES["cityscapes"], data_dir=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"put its archives into .*downloads/manual first"):
        load_data(recipe)
    with pytest.raises(FileNotFoundError, match=r"must be downloaded manually: .*cityscapes-dataset.com"):
        load_data(dataclasses.replace(recipe, download=True))


def test_cityscapes_numbers_become_classes(tmp_path):
    import tensorflow_datasets as tfds

    from wavemix_tf.training.data.masks import record_masks

    with tfds.testing.mock_data(num_examples=2):
        builder = tfds.builder("cityscapes", data_dir=str(tmp_path))
        recipe = dataclasses.replace(RECIPES["cityscapes"], image_shape=(32, 64, 3), data_dir=str(tmp_path))
        names, split = record_masks(builder, recipe)
        assert len(names) == 19
        table = np.array(split("train").mask_table)
    assert (table[7], table[26], table[33], table[0], table[255]) == (0, 13, 18, 255, 255)
    assert sorted(set(table.tolist()) - {255}) == list(range(19))


# --- images ---


def test_patches_are_reduced_images(photographs):
    data = load_data(of(PICTURES, photographs))
    assert data.class_names == ()
    small, large = next(iter(data.validation))
    assert small.shape[1:] == (12, 12, 3)
    assert large.shape[1:] == (24, 24, 3)
    for _, whole, truth in data.test_source.pairs():
        assert truth.shape == (2 * whole.shape[0], 2 * whole.shape[1], 3)
        np.testing.assert_array_equal(whole, reduced(truth, 2))
    # A patch has the same position in both.
    source = data.train_source
    for row in range(4):
        (cut, detail), (whole, truth) = source.cut(row, 0, 1), source.pictures.read(row // 6)
        places = [
            (top, left)
            for top in range(whole.shape[0] - 11)
            for left in range(whole.shape[1] - 11)
            if np.array_equal(whole[top : top + 12, left : left + 12], cut)
        ]
        assert any(np.array_equal(truth[2 * t : 2 * t + 24, 2 * a : 2 * a + 24], detail) for t, a in places)


@pytest.mark.slow
def test_patches_of_an_epoch_repeat_and_differ_from_the_next(photographs):
    recipe = of(PICTURES, photographs)
    for changes in ({}, {"in_memory": False}):
        data = load_data(dataclasses.replace(recipe, **changes))
        epochs = [
            np.concatenate([np.asarray(small) for small, _ in data.train_source.epoch(recipe, epoch)])
            for epoch in (0, 0, 1)
        ]
        np.testing.assert_array_equal(epochs[0], epochs[1])
        assert not np.array_equal(epochs[0], epochs[2])
        assert len(epochs[0]) == data.train_source.size // 8 * 8


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_too_small_for_a_patch_are_named_and_left_out_if_asked(photographs, tmp_path, in_memory):
    import shutil

    shutil.copytree(photographs, tmp_path / "photographs")
    for name, size in (("tiny", (23, 24)), ("wide", (300, 20)), ("just", (24, 24))):  # (width, height)
        Image.new("RGB", size).save(tmp_path / "photographs" / f"{name}.png")
    recipe = of(PICTURES, tmp_path / "photographs", in_memory=in_memory)
    rule = r"at least 2 times as large as a patch, image_shape=\(12, 12, 3\): 24x24 pixels"
    both = r"photographs/tiny\.png 24x23, .*photographs/wide\.png 20x300"
    with pytest.raises(ValueError, match=rf"{rule}\. Received: .*{both}; `--set on_bad_image=skip`"):
        load_data(recipe)
    with pytest.warns(UserWarning, match=f"{rule}; 2 skipped: .*{both}"):
        data = load_data(dataclasses.replace(recipe, on_bad_image="skip"))
    sources = (data.train_source, data.validation_source, data.test_source)
    names = {name.split("/")[-1] for source in sources for name in source.pictures.names}
    assert not names & {"tiny.png", "wide.png"}
    assert sum("skipped" in note for note in data.notes) == 1


def test_test_images_alone_are_not_trained_on(photographs, tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.png").write_bytes((photographs / "00.png").read_bytes())
    with pytest.raises(ValueError, match="data_dir with test must also have train"):
        load_data(of(PICTURES, tmp_path))


def test_broken_pictures_are_left_out_if_asked(photographs, tmp_path):
    import shutil

    shutil.copytree(photographs, tmp_path / "photographs")
    path = tmp_path / "photographs" / "05.png"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ValueError, match=r"05\.png"):
        load_data(of(PICTURES, tmp_path / "photographs"))
    with pytest.warns(UserWarning, match="1 unreadable images skipped"):
        data = load_data(of(PICTURES, tmp_path / "photographs", on_bad_image="skip"))
    sources = (data.train_source, data.validation_source, data.test_source)
    names = [name for source in sources for name in source.pictures.names]
    assert len(names) == len(set(names)) == 22  # of 23, one is for calibration
    assert not any("05.png" in name for name in names)


def test_pairs_of_another_scale_are_refused():
    with pytest.raises(
        ValueError, match=r"scale must be that of the dataset\. Received: scale=2, x with images of 20x20"
    ):
        as_pair(np.zeros((80, 80, 3), np.uint8), PICTURES, "x", np.zeros((20, 20, 3), np.uint8))


def test_pairs_turn_alike(rng):
    large = rng.random((16, 8, 8, 3)).astype("float32")
    small = large.reshape(16, 4, 2, 4, 2, 3).mean((2, 4))
    recipe = dataclasses.replace(PICTURES, image_shape=(4, 4, 3))
    a, b = PairAugmenter(recipe)(
        keras.ops.convert_to_tensor(small), keras.ops.convert_to_tensor(large), BatchSeed(0, 0, 0)
    )
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_allclose(a, b.reshape(16, 4, 2, 4, 2, 3).mean((2, 4)), atol=1e-6)
    forms = {
        name: np.mean([np.array_equal(x, turn(y)) for x, y in zip(b, large, strict=True)])
        for name, turn in {
            "same": lambda y: y,
            "mirrored": lambda y: y[:, ::-1],
            "turned": lambda y: np.rot90(y),
            "transposed": lambda y: y.transpose(1, 0, 2),
        }.items()
    }
    assert sum(share > 0 for share in forms.values()) >= 3, forms


def test_super_resolver_learns(photographs, tmp_path):
    recipe = of(PICTURES, photographs, epochs=20)
    result = fit(recipe, out=tmp_path / "run", verbose=0)
    assert isinstance(result.model, wm.WaveMixSuperResolver)
    assert result.metric == "psnr_y"
    history = result.history["val_psnr_y"]
    assert result.validation_score == max(history) > history[0] + 3
    small, large = next(iter(load_data(recipe).validation))
    found = result.model.predict(small, verbose=0)
    quality = np.mean([psnr_y(a, np.asarray(b), 2) for a, b in zip(found, large, strict=True)])
    assert quality == pytest.approx(result.validation_score, abs=0.05)
    again = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert again.evaluate(load_data(recipe).validation, verbose=0, return_dict=True)["psnr_y"] == pytest.approx(
        result.validation_score, abs=1e-4
    )


def test_bicubic_of_a_flat_image_is_flat():
    flat = np.full((8, 10, 3), 77, np.uint8)
    np.testing.assert_array_equal(enlarged(flat, 2), np.full((16, 20, 3), 77, np.uint8))
    np.testing.assert_array_equal(reduced(flat, 2), np.full((4, 5, 3), 77, np.uint8))
