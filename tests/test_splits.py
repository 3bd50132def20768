"""The sets of images: the effect of added images, the split that a run keeps, and refusals by name."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from picture_support import write_photographs, write_scenes
from PIL import Image

from wavemix_tf import cli
from wavemix_tf.command import steps
from wavemix_tf.state_files import DamagedFileError
from wavemix_tf.training import Recipe, fit, load_data
from wavemix_tf.training.data.datasets import check_finished, split_sources
from wavemix_tf.training.data.given import as_bundle
from wavemix_tf.training.data.identity import (
    SETS,
    SplitList,
    check_run,
    check_trained_on,
    merge_lists,
    read_labels,
    split_list,
)
from wavemix_tf.training.data.listing import Files, Notes
from wavemix_tf.training.data.sources import ArraySource
from wavemix_tf.training.data.splits import divide, draw_classwise

PHOTOS = Recipe(
    name="photos",
    dataset="folder",
    image_shape=(8, 8, 3),
    calibration_images=4,
    batch_size=8,
    epochs=2,
    warmup_epochs=0.5,
    model_args={"width": 4, "depth": 1, "stride": 1},
)
MASKS = dataclasses.replace(
    PHOTOS, task="segmentation", image_shape=(24, 32, 3), ignore_index=3, model_args={"width": 4, "depth": 1}
)
PICTURES = dataclasses.replace(
    PHOTOS, task="super_resolution", image_shape=(12, 12, 3), patches=2, model_args={"width": 4, "depth": 1}
)


def of(recipe, folder, **changes):
    return dataclasses.replace(recipe, data_dir=str(folder), **changes)


def write_photo(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)


def write_photos(root, cat=40, dog=20):
    for name, count, first in (("cat", cat, 0), ("dog", dog, 1000)):
        for index in range(count):
            write_photo(root / name / f"{index:03}.png", first + index)
    return root


def names_of(data):
    """Set -> names of its files."""
    return {name: set(getattr(data, f"{name}_source").files.names) for name in SETS}


def moved(old, new):
    """(name, from, to) of every file that two divisions know and have in other sets."""
    places = {name: kind for kind, names in new.items() for name in names}
    return [(name, kind, places[name]) for kind, names in old.items() for name in names if places[name] != kind]


# Splitting by names


def dealt(names, labels, recipe=PHOTOS, calibration=1000, **options):
    order = np.argsort(names)
    names, labels = np.array(names)[order], np.array(labels)[order]
    files = Files(tuple(names), tuple(names))
    found = divide(labels, recipe, files=files, calibration=lambda left: calibration, **options)
    return {kind: set(names[getattr(found, kind)]) for kind in (*SETS, "calibration")}


def test_an_added_image_moves_no_other_but_the_one_that_a_minimum_forces():
    """Classes of 150, 12, 5 and 3: a hundred images come, each to be dealt with all others.

    The test set moves one at most, and validation another at most; why the second cannot be spared: see ``splits``.
    """
    generator = np.random.default_rng(0)
    names = [f"{label}/{number}.png" for label, count in enumerate((150, 12, 5, 3)) for number in range(count)]
    before, total = dealt(names, [int(name[0]) for name in names]), 0
    for step in range(100):
        label = int(generator.integers(4))
        names = [*names, f"{label}/new{step}.png"]
        after = dealt(names, [int(name[0]) for name in names])
        kinds = {kind: after[kind] for kind in SETS}
        changes = moved({kind: before[kind] for kind in SETS}, kinds)
        assert all(name.startswith(f"{label}/") for name, _, _ in changes), changes
        assert sum("test" in change for change in changes) <= 1
        assert len(changes) <= 2
        assert len(changes) < 2 or any("test" in change for change in changes)  # only with a test set can two move
        total += len(changes)
        before = after
    assert total <= 15  # most of them move nothing


def test_every_class_is_in_every_set_and_about_as_large_as_it_should_be():
    for count in (3, 4, 7, 30, 200):
        names = [f"{label}/{number}" for label in range(20) for number in range(count)]
        found = dealt(names, [int(name.partition("/")[0]) for name in names])
        for kind in SETS:
            sizes = np.bincount([int(name.partition("/")[0]) for name in found[kind]], minlength=20)
            assert sizes.min() >= 1
            if kind != "train":
                assert sizes.max() <= max(np.ceil(2 * 0.1 * count), 1)
                assert sizes.min() >= max(int(0.9 * 0.1 * count / 2), 1)
        assert sum(len(found[kind]) for kind in SETS) == len(names)
        assert not found["calibration"] & (found["validation"] | found["test"])
        few = dealt(names, [int(name.partition("/")[0]) for name in names], calibration=count // 3)
        assert len({name.partition("/")[0] for name in few["train"]}) == 20  # held-out images leave one of each
        assert not few["calibration"] & few["train"]


def test_two_images_of_a_class_are_trained_on_and_validated():
    found = dealt(["a/1", "a/2", *(f"b/{number}" for number in range(20))], [0, 0] + [1] * 20)
    assert [len([name for name in found[kind] if name[0] == "a"]) for kind in SETS] == [1, 1, 0]


def test_the_test_set_depends_on_names_alone_and_validation_on_the_seed_too():
    names = [f"cat/{number}.jpg" for number in range(60)]
    one, other = dealt(names, [0] * 60), dealt(names, [0] * 60, dataclasses.replace(PHOTOS, seed=1))
    assert one["test"] == other["test"]
    assert one["validation"] != other["validation"]
    # The normalized name: é may be one code point or two.
    assert dealt([*names, "caf\u00e9.jpg"], [0] * 61)["test"] - {"caf\u00e9.jpg"} == one["test"]
    sides = [
        next(kind for kind in SETS if name in dealt([*names, name], [0] * 61)[kind])
        for name in ("caf\u00e9.jpg", "cafe\u0301.jpg")
    ]
    assert sides[0] == sides[1]


def test_what_is_known_stays_and_the_new_is_dealt():
    names = [f"a/{number}" for number in range(8)]
    known = dealt(names, [0] * 8)
    grown = [*names, *(f"a/new{number}" for number in range(92))]
    after = dealt(grown, [0] * 100, known=known)
    assert all(known[kind] <= after[kind] for kind in SETS)
    assert after["calibration"] == known["calibration"]
    assert [5 <= len(after[kind]) <= 20 for kind in ("validation", "test")] == [True, True]
    # Independent of their hashes.
    sets = {"train": set(grown) - {"a/0", "a/1"}, "validation": {"a/0"}, "test": {"a/1"}}
    again = dealt(grown, [0] * 100, known=sets)
    assert {kind: again[kind] for kind in SETS} == sets


def test_rows_without_names_keep_their_classes_too():
    """Of 20 classes of 3 a tenth is 6 rows; a class is lent to a sample where there are rows enough for it."""
    labels = np.repeat(np.arange(20), 3)
    for seed in range(20):
        samples, rest = draw_classwise(labels, [20, 20], seed=seed)
        assert [sorted(set(labels[rows])) for rows in (*samples, rest)] == [list(range(20))] * 3
    for seed in range(8):
        _, rest = draw_classwise(np.repeat([0, 1, 2], [200, 50, 1]), [125], seed=seed)
        assert 250 in rest  # the only one of its class is trained on


# Small sets


@pytest.mark.parametrize("files", [None, "names"])
def test_calibration_never_starves_training(files):
    """44 pairs, of which 32 are to calibrate: they are trained on too."""
    names = tuple(f"{number}.png" for number in range(44))
    named = None if files is None else Files(names, names)
    found = divide(np.zeros(44, int), PHOTOS, calibration=lambda left: 32, files=named)
    assert len(found.train) + len(found.validation) + len(found.test) == 44
    assert len(found.train) >= 30
    assert len(found.calibration) == 32
    assert set(found.calibration) <= set(found.train)
    # With enough images they are held out.
    many = tuple(f"{number}.png" for number in range(1000))
    found = divide(
        np.zeros(1000, int), PHOTOS, calibration=lambda left: 32, files=None if files is None else Files(many, many)
    )
    assert not set(found.calibration) & {*found.train, *found.validation, *found.test}
    assert sum(len(getattr(found, kind)) for kind in (*SETS, "calibration")) == 1000


@pytest.mark.slow
def test_a_set_that_cannot_be_trained_on_is_refused_with_what_helps(tmp_path):
    with pytest.raises(
        ValueError, match=r"At least 4 images must be left to train on .*: add images. Received: 4 images"
    ):
        load_data(of(PHOTOS, write_photos(tmp_path / "few", 2, 2)))
    folder = write_photos(tmp_path / "more", 30, 30)
    with pytest.raises(
        ValueError, match=r"--set test_fraction=0.1 leaves more\. Received: 60 images, split into 8 train"
    ):
        load_data(of(PHOTOS, folder, test_fraction=0.85))
    recipe = of(PHOTOS, folder, batch_size=64)
    with pytest.raises(ValueError, match=r"batch_size must not exceed .*: --set batch_size=\d+, or more images"):
        fit(recipe, verbose=0)
    with pytest.raises(ValueError, match=r"--set calibration_images=32\. Received: calibration_images=4"):
        steps.load_images(recipe, tmp_path / "run", quantizes=True)
    with pytest.raises(ValueError, match="add images, or use `wavemix-tf fit`"):
        steps.load_images(of(PHOTOS, write_photos(tmp_path / "small", 10, 10), calibration_images=32), tmp_path, True)
    assert not (tmp_path / "run").exists()


# What a run keeps


def network(recipe, classes=2):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(recipe.image_shape)
    if recipe.task == "classification":
        return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(inputs)))
    if recipe.task == "segmentation":
        return keras.Model(inputs, keras.layers.Conv2D(classes, 1)(inputs))
    return keras.Model(inputs, keras.layers.Conv2D(3, 1)(keras.layers.UpSampling2D(recipe.scale)(inputs)))


@pytest.fixture(params=["photos", "streamed photos", "masks", "pictures", "streamed pictures"])
def run(request, tmp_path):
    """(recipe, folder of images, run folder) of a finished training, and how to write an image more."""
    kind = request.param
    if "photos" in kind:
        recipe, folder, classes = PHOTOS, write_photos(tmp_path / "data"), 2
        victim = folder / "cat" / "007.png"
    elif kind == "masks":
        folder, classes = tmp_path / "data", 3
        write_scenes(tmp_path / "scenes", (("train", 40),))
        for part, source in (("images", "train"), ("masks", "trainannot")):
            shutil.copytree(tmp_path / "scenes" / source, folder / part)
        (folder / "classes.txt").write_text("sky\nground\nbox\nvoid\n")
        recipe, victim = MASKS, folder / "masks" / "7.png"
    else:
        (tmp_path / "data").mkdir()
        recipe, folder, classes = PICTURES, write_photographs(tmp_path / "data"), 0
        victim = folder / "07.png"
    recipe = of(recipe, folder, in_memory="streamed" not in kind)
    fit(recipe, model=network(recipe, classes), out=tmp_path / "run", verbose=0)
    return recipe, folder, tmp_path / "run", victim


def copy_beside(path, name):
    """The same picture (and its mask) under another name."""
    shutil.copy(path, path.with_name(name))
    if path.parent.name == "masks":
        shutil.copy(path.parent.parent / "images" / path.name, path.parent.parent / "images" / name)


@pytest.mark.slow
def test_a_finished_stage_refuses_other_images_by_name(run):
    recipe, folder, out, victim = run
    stored = json.loads((out / "training.json").read_text())["data"]
    data = steps.load_images(recipe, out)  # nothing has changed
    assert data.fingerprint() == stored
    labels = (out / "labels.txt").read_bytes() if data.class_names else b""
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}

    copy_beside(victim, "added.png")
    for refused in (steps.load_images, lambda recipe, out: fit(recipe, data=load_data(recipe, out), out=out)):
        with pytest.raises(ValueError, match=r"was trained on other data; --old-split .*: 1 new \(.*added.png\)"):
            refused(recipe, out)
    assert steps.load_images(recipe, out, known_only=True).fingerprint() == stored

    content = victim.read_bytes()
    with Image.open(victim) as image:
        pixels = np.array(image)
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(victim)
    with pytest.raises(ValueError, match=r"\w+: 1 changed \(.*7.png\)"):
        steps.load_images(recipe, out, known_only=True)
    victim.write_bytes(content)
    assert steps.load_images(recipe, out, known_only=True).fingerprint() == stored

    victim.unlink()
    if recipe.task == "segmentation":
        (folder / "images" / victim.name).unlink()
    with pytest.raises(ValueError, match=r": 1 missing \(.*7.png\)"):
        steps.load_images(recipe, out)
    with pytest.raises(ValueError, match=r"1 of \d+ missing: .*7.png"):
        steps.load_images(recipe, out, known_only=True)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    assert not labels or (out / "labels.txt").read_bytes() == labels


@pytest.mark.slow
def test_a_finished_run_called_again_looks_at_its_folder(run, capsys):
    recipe, folder, out, victim = run
    words = ["fit", str(out / "recipe.json"), "--out", str(out)]
    again = {
        "fit": lambda: fit(recipe, model=network(recipe, {"segmentation": 3}.get(recipe.task, 2)), out=out, verbose=0),
        "the command": lambda: _command(words, capsys),
        "its --old-split": lambda: _command([*words, "--old-split"], capsys),
    }
    for call in again.values():
        call()
    copy_beside(victim, "added.png")
    again.pop("its --old-split")()
    for call in again.values():
        with pytest.raises(ValueError, match=r"was trained on other data; --old-split .*: 1 new \(.*added.png\)"):
            call()
    (victim.parent / "added.png").unlink()
    if recipe.task == "segmentation":
        (folder / "images" / "added.png").unlink()
    shutil.copy(victim.with_name(victim.name.replace("7", "8")), victim)
    for call in again.values():
        with pytest.raises(ValueError, match=r"data; `wavemix-tf fit` with --overwrite.*1 changed"):
            call()
    shutil.move(folder, folder.with_name("away"))
    for call in again.values():
        call()


def _command(words, capsys):
    code = cli.main(words)
    shown = capsys.readouterr()
    if code:
        raise ValueError(shown.err)
    assert "Nothing to do" in shown.out


@pytest.mark.slow
def test_a_renamed_class_is_refused_whatever_its_new_place(tmp_path):
    folder = write_photos(tmp_path / "data")
    recipe, out = of(PHOTOS, folder), tmp_path / "run"
    fit(recipe, model=network(recipe), out=out, verbose=0)
    for name in ("zebra", "catty"):  # the order changes, or does not
        (folder / "cat").rename(folder / name)
        message = f"data; `wavemix-tf fit` with.* classes without cat and with {name}, which was not there"
        for call in (lambda: steps.load_images(recipe, out), lambda: check_finished(recipe, out)):
            with pytest.raises(ValueError, match=message):
                call()
        (folder / name).rename(folder / "cat")
    assert (out / "labels.txt").read_text() == "cat\ndog\n"
    shutil.move(folder, tmp_path / "elsewhere")  # the folder may move
    steps.load_images(of(recipe, tmp_path / "elsewhere"), out)


@pytest.mark.slow
def test_labels_that_are_not_those_of_the_training_are_reported(tmp_path, capsys):
    folder, out = write_photos(tmp_path / "data"), tmp_path / "run"
    recipe = of(PHOTOS, folder)
    fit(recipe, model=network(recipe), out=out, verbose=0)
    words = ["predict", str(folder / "cat" / "000.png"), "--out", str(out)]
    path = out / "labels.txt"
    whole = path.read_text()
    for text, message in (
        ("cat\ndo", "classes without dog and with do, which was not there"),
        ("dog\ncat\n", r"classes in the order dog, cat \(there cat, dog\)"),
        ("cat\n", "classes without dog"),
        ("", "it is empty"),
    ):
        path.write_text(text)
        with pytest.raises(
            DamagedFileError, match=rf"labels.txt must be intact.*{message}.* or delete it; splits.json"
        ):
            read_labels(out)
        assert cli.main(words) == 1
        assert "labels.txt must be intact" in capsys.readouterr().err
    for restore in (path.unlink, lambda: path.write_text(whole)):
        restore()
        assert cli.main(words) == 0
        assert "dog" in capsys.readouterr().out
    assert read_labels(tmp_path) is None


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.slow
def test_calibration_images_that_were_set_aside_are_part_of_a_run(tmp_path, in_memory):
    folder, out = write_photos(tmp_path / "data"), tmp_path / "run"
    out.mkdir()
    recipe = of(PHOTOS, folder, in_memory=in_memory)
    data = load_data(recipe)
    listed, stored = split_list(data), json.loads(json.dumps(data.fingerprint()))
    listed.save(out)
    check_trained_on(load_data(recipe, out), out, stored)
    name = next(iter(listed.files["calibration"]))
    assert not any(name in names for names in names_of(data).values())
    write_photo(folder / name, 5000)
    for what in ("changed", "missing"):
        with pytest.raises(ValueError, match=rf"Received: calibration: 1 {what} \({name}\)$"):
            check_trained_on(load_data(recipe, out), out, stored)
        with pytest.raises(ValueError, match=rf"Received: calibration: 1 {what} \({name}\)$"):
            merge_lists(split_list(load_data(recipe, out)), out)
        (folder / name).unlink(missing_ok=True)


def test_calibration_images_of_arrays_are_part_of_a_run(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    labels = np.arange(60) % 2
    data = as_bundle(PHOTOS, (images, labels))
    stored = data.fingerprint()
    row = int(np.flatnonzero((images / np.float32(255) == data.calibration[0]).all((1, 2, 3)))[0])
    images[row, 0, 0, 0] ^= 1
    with pytest.raises(ValueError, match=r"Received: calibration: 4 \(there 4\), different ones$"):
        check_trained_on(as_bundle(PHOTOS, (images, labels)), tmp_path, stored)


@pytest.mark.filterwarnings("ignore:.*training.json has no fingerprint of the data")
@pytest.mark.slow
def test_the_labels_of_a_run_of_version_0_1_are_asked_before_its_data_is_kept(tmp_path):
    """It kept no list of its files; where its folder has a set of its own for each purpose, it goes on."""
    folder, out = tmp_path / "data", tmp_path / "run"
    for kind in ("train", "val", "test"):
        write_photos(folder / kind, 30, 30)
    out.mkdir()
    summary = {"stage": "float", "epochs": 2, "best_epoch": 1, "metric": "accuracy", "seconds": 1.0, "test": None}
    (out / "training.json").write_text(json.dumps({**summary, "validation_score": 0.5, "validation_loss": 1.0}))
    (out / "labels.txt").write_text("cat\ndog\n")
    recipe = of(PHOTOS, folder)
    for kind in ("train", "val", "test"):
        (folder / kind / "cat").rename(folder / kind / "zebra")
    renamed = load_data(recipe, out)
    with pytest.raises(ValueError, match=r"other classes.* Received: classes without cat and with zebra.*labels.txt"):
        check_run(renamed, out)
    with pytest.raises(ValueError, match="other classes"):  # as in `fit`, which stores nothing
        check_trained_on(renamed, out, None)
    assert not (out / "splits.json").exists()
    for kind in ("train", "val", "test"):
        (folder / kind / "zebra").rename(folder / kind / "cat")
    check_run(load_data(recipe, out), out)
    assert SplitList.load(out).fingerprint["classes"] == ["cat", "dog"]


def test_what_cannot_be_resumed_is_always_reported(tmp_path):
    """Records that another machine decodes to other pixels are the same ones, but half a training cannot go on."""
    images = np.zeros((60, 8, 8, 3), np.uint8)

    def listed(pixels):
        source = ArraySource(pixels, np.arange(60) % 2, origin="records 1.0 train 60 1000")
        return split_list(split_sources(PHOTOS, source, None, None, ("cat", "dog"), Notes()))

    listed(images).save(tmp_path)
    with pytest.raises(ValueError, match=r"Received: .*train \{'size': .* \(there \{'size'"):
        merge_lists(listed(images + 1), tmp_path)


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_images_may_be_added_to_a_run_that_is_not_finished(tmp_path, capsys):
    folder, out = write_photos(tmp_path / "data", 40, 4), tmp_path / "run"
    recipe = of(PHOTOS, folder)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, model=network(recipe), out=out, callbacks=[Stop()], verbose=0)
    known = SplitList.load(out)
    for index in range(30):
        write_photo(folder / "dog" / f"new{index}.png", 2000 + index)
    data = load_data(recipe, run=out)
    assert all(set(known.files[kind]) <= names for kind, names in names_of(data).items())
    assert moved(names_of(load_data(recipe)), names_of(data))  # without the list the minimum moves some
    with pytest.raises(ValueError, match=r"To resume, the data must be unchanged.* now in another set"):
        fit(recipe, model=network(recipe), data=load_data(recipe), out=out, verbose=0)
    result = fit(recipe, model=network(recipe), out=out, verbose=2)
    assert result.resumed_epochs == 1
    assert "Images were added" in capsys.readouterr().out
    assert json.loads((out / "training.json").read_text())["data"] == data.fingerprint()
    assert names_of(steps.load_images(recipe, out)) == names_of(data)


@pytest.mark.parametrize("in_memory", [True, False])
def test_every_set_of_masks_has_the_class_that_few_masks_hold(tmp_path, in_memory):
    """Three masks of 40 hold a box; dealt without a look at them, one set or another would have none."""
    write_scenes(tmp_path, (("train", 40),))
    for part, source in (("images", "train"), ("masks", "trainannot")):
        (tmp_path / source).rename(tmp_path / part)
    for number in range(3, 40):
        path = tmp_path / "masks" / f"{number}.png"
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask == 2, 1, mask).astype(np.uint8)).save(path)
    data = load_data(of(MASKS, tmp_path, in_memory=in_memory))
    assert all(counts[2] > 0 for counts in data.class_counts.values())
    assert sorted(data.class_counts) == sorted(SETS)
    whole = sum(np.array(counts) for counts in data.class_counts.values())
    masks = [np.asarray(Image.open(path)) for path in (tmp_path / "masks").iterdir()]
    assert whole.tolist() == [sum(int((mask == label).sum()) for mask in masks) for label in range(3)]
