"""The image files of a folder: links, files of other programs, unsupported formats, names."""

import csv
import dataclasses
import os
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from wavemix_tf.command.arguments import folder_recipe
from wavemix_tf.training import Recipe, fit, load_data
from wavemix_tf.training.data.bundle import DataBundle, check_classes
from wavemix_tf.training.data.given import as_bundle
from wavemix_tf.training.data.identity import split_list
from wavemix_tf.training.data.listing import digest, list_files

PHOTOS = Recipe(
    name="photos",
    dataset="folder",
    image_shape=(8, 8, 3),
    calibration_images=4,
    batch_size=4,
    epochs=1,
    warmup_epochs=0,
)
HEIC = b"\0\0\0\x18ftypheic" + bytes(40)


def write_photos(root, count=12, classes=("cat", "dog")):
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng(100 * place + index).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index:03}.png")
    return root


def of(folder, **changes):
    return dataclasses.replace(PHOTOS, data_dir=str(folder), **changes)


def files_of(data):
    sources = (data.train_source, data.validation_source, data.test_source)
    return sorted(name for source in sources for name in source.files.names)


def relative(listing, root):
    return [os.path.relpath(path, root) for path in listing.images]


def test_every_file_is_listed_once_whatever_links_there_are(tmp_path):
    root = write_photos(tmp_path / "data", 3)
    plain = relative(list_files([root])[0], root)
    assert len(plain) == 6
    (root / "cat" / "self").symlink_to(root / "cat", target_is_directory=True)
    (root / "up").symlink_to(root, target_is_directory=True)
    (root / "cat" / "deep").mkdir()
    (root / "cat" / "deep" / "back").symlink_to(tmp_path, target_is_directory=True)
    (root / "dog" / "again.png").symlink_to(root / "dog" / "000.png")
    (root / "aaa").symlink_to(root / "cat", target_is_directory=True)  # sorted before its target
    listing = list_files([root])[0]
    assert relative(listing, root) == plain
    assert sorted(os.path.relpath(path, root) for path in listing.repeated) == sorted(
        ["cat/self", "up", "dog/again.png", "aaa", "cat/deep/back/data"]
    )
    # Links to other places count as their targets.
    shutil.copytree(root / "dog", tmp_path / "pool", symlinks=True)
    (root / "pool").symlink_to(tmp_path / "pool", target_is_directory=True)
    (root / "cat" / "one.png").symlink_to(tmp_path / "pool" / "001.png")
    found = relative(list_files([root])[0], root)
    assert set(found) - set(plain) == {"pool/000.png", "pool/001.png", "pool/002.png"}


def test_a_class_folder_that_links_to_itself_is_trained_on_once(tmp_path):
    root = write_photos(tmp_path / "data")
    before = files_of(load_data(of(root)))
    (root / "cat" / "cat").symlink_to("..", target_is_directory=True)
    (root / "all").symlink_to(root, target_is_directory=True)
    with pytest.warns(UserWarning, match=r"\d links skipped, the first: A file must be listed once"):
        data = load_data(of(root))
    assert data.class_names == ("cat", "dog")
    assert files_of(data) == before


def test_a_pool_of_images_may_be_linked(tmp_path):
    pool = write_photos(tmp_path / "pool", 12)
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for path in (pool / name).iterdir():
            (tmp_path / "data" / name / path.name).symlink_to(path)
    linked, real = load_data(of(tmp_path / "data")), load_data(of(pool))
    assert linked.fingerprint() == real.fingerprint()


@pytest.mark.parametrize("task", ["classification", "segmentation", "super_resolution"])
def test_other_programs_files_stop_nothing(tmp_path, task):
    root, recipe = tmp_path / "data", of(tmp_path / "data", task=task)
    write_photos(root, classes=("images", "masks") if task == "segmentation" else ("cat", "dog"))
    if task == "segmentation":
        for path in (root / "masks").iterdir():
            Image.fromarray((np.arange(64).reshape(8, 8) % 2).astype(np.uint8)).save(path)
    if task == "super_resolution":
        recipe = dataclasses.replace(recipe, image_shape=(2, 2, 3))
    before = files_of(load_data(recipe))
    for place in ("", *(path.name for path in root.iterdir())):
        for name in ("._000.jpg", ".DS_Store", "__MACOSX/._001.png", ".thumbnails/1.png"):
            (root / place / name).parent.mkdir(exist_ok=True)
            (root / place / name).write_bytes(b"\0\5\x16\7 no picture")
    assert files_of(load_data(recipe)) == before
    assert folder_recipe(root).batch_size == 4  # counted only in the images


@pytest.mark.slow
def test_images_that_are_left_out_are_named_one_by_one(tmp_path):
    """Formats that are not read, damaged files, a link that leads nowhere: in the run's own list."""
    root = write_photos(tmp_path / "data")
    (root / "dog" / "phone.jpg").write_bytes(HEIC)
    (root / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "dog" / "005.png").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"005.png \(0 bytes\); and 2 more: .*gone.png, .*phone.jpg; on_bad_image='skip'"
    ):
        load_data(of(root))
    (root / "cat" / "IMG_0001.HEIC").write_bytes(HEIC)
    (root / "dog" / "b.avif").write_bytes(HEIC.replace(b"heic", b"avif"))
    recipe = of(root, on_bad_image="skip")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    with (
        pytest.warns(UserWarning, match="3 unreadable images skipped"),
        pytest.warns(UserWarning, match="2 HEIC or AVIF images skipped"),
    ):
        fit(recipe, model=model, out=tmp_path / "run", verbose=0)
    with (tmp_path / "run" / "bad_images.csv").open(newline="") as file:
        rows = {os.path.basename(row["path"]): row["reason"] for row in csv.DictReader(file)}
    assert set(rows) == {"IMG_0001.HEIC", "b.avif", "phone.jpg", "gone.png", "005.png"}
    assert "HEIC or AVIF" in rows["phone.jpg"]  # by its content, not its name
    assert rows["b.avif"].startswith("AVIF is not supported: save it as JPEG or PNG. Received: ")


@pytest.mark.parametrize("task", ["classification", "segmentation", "super_resolution"])
def test_an_image_in_an_unread_format_stops_as_any_that_cannot_be_read(tmp_path, task):
    root = write_photos(tmp_path / "data", classes=("images", "masks") if task == "segmentation" else ("cat", "dog"))
    for path in (root / "masks").glob("*"):
        Image.fromarray((np.arange(64).reshape(8, 8) % 2).astype(np.uint8)).save(path)
    recipe = of(root, task=task, image_shape=(2, 2, 3) if task == "super_resolution" else (8, 8, 3))
    data = load_data(recipe)
    listed = split_list(data)
    listed.save(tmp_path)
    place = root / ("images" if task == "segmentation" else "cat")
    (place / "b.avif").write_bytes(HEIC.replace(b"heic", b"avif"))
    (place / "a.HEIC").write_bytes(HEIC)
    with pytest.raises(
        ValueError,
        match=r"^HEIC is not supported: save it as JPEG or PNG. Received: .*a.HEIC; and 1 more: .*b.avif; on_bad_image",
    ):
        load_data(recipe)
    with pytest.warns(UserWarning, match="2 HEIC or AVIF images skipped"):
        skipping = load_data(dataclasses.replace(recipe, on_bad_image="skip"))
    assert [os.path.basename(path) for path, _ in skipping.left_out] == ["a.HEIC", "b.avif"]
    with pytest.warns(UserWarning, match="2 HEIC or AVIF images skipped"):  # only known images: others are no error
        assert load_data(recipe, tmp_path, known_only=True).fingerprint() == data.fingerprint()


def test_a_class_of_unread_images_alone_is_reported(tmp_path):
    root = write_photos(tmp_path / "data")
    for path in (root / "dog").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(ValueError, match="dog with 0 other files and 12 of HEIC or AVIF, which is not supported"):
        load_data(of(root))


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "\x1b[31mred", "a\x7f", "a\u2028b", "a\x85b", "\udcff"])
def test_control_characters_in_class_names_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="A class name must have no control characters"):
        check_classes(PHOTOS, ("cat", name))
    images = np.zeros((0, 8, 8, 3), np.float32)
    with pytest.raises(ValueError, match="A class name must have no control characters"):
        as_bundle(PHOTOS, DataBundle(("cat", name), (8, 8, 3), None, None, None, images))
    root = write_photos(tmp_path / "data", classes=("cat", name))
    with pytest.raises(ValueError, match="A class name must have no control characters"):
        load_data(of(root))


def test_names_of_any_language_are_kept(tmp_path):
    names = ("chat noir", "Κύων", "犬\u3000小", "👩\u200d🚒")
    assert load_data(of(write_photos(tmp_path / "data", classes=names))).class_names == tuple(sorted(names))


@pytest.mark.parametrize("size", [0, 10, 65_536, 65_537, 1_000_000])
def test_a_digest_tells_contents_apart(tmp_path, size):
    content = bytearray(np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes())
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(content)
    other.write_bytes(content)
    os.utime(other, (1, 1))  # the modification time does not matter
    assert digest(str(one)) == digest(str(other))
    other.write_bytes(content + b"\0")
    assert digest(str(one)) != digest(str(other))
    for place in (0, size - 1) if size else ():
        changed = bytearray(content)
        changed[place] ^= 1
        other.write_bytes(changed)
        assert digest(str(one)) != digest(str(other))


@pytest.mark.parametrize(
    "name", ["1.bmp", "1.ppm", "1.pgm", "1.tif", "stored.png", "1.png", "1.webp", "1.gif", "1.jpg"]
)
@pytest.mark.slow
def test_a_digest_tells_an_edit_of_one_pixel(name, tmp_path):
    """Wherever it is in the file; also where pixels are not compressed and the file keeps its size."""
    pixels = np.random.default_rng(0).integers(0, 256, (250, 251, 3), np.uint8)
    options = {"compress_level": 0} if name == "stored.png" else {"lossless": True} if name == "1.webp" else {}

    def saved(array):
        Image.fromarray(array[..., 0] if name == "1.pgm" else array).save(tmp_path / name, quality=95, **options)
        return digest(str(tmp_path / name))

    if name == "1.pgm":
        pixels = np.tile(pixels, (2, 2, 1))
    before = saved(pixels)
    assert (tmp_path / name).stat().st_size > 65_536
    assert saved(pixels) == before
    for row in range(3, 250, 27):
        edited = pixels.copy()
        edited[row, 100] = 255 - edited[row, 100]
        assert saved(edited) != before


@pytest.mark.filterwarnings("ignore:24 unreadable images skipped")
@pytest.mark.parametrize("kind", ["empty", "unreadable"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_set_of_a_folder_without_images_is_refused_by_name(tmp_path, split, kind):
    root = tmp_path / "data"
    for name in {"train", split}:
        write_photos(root / name)
    for path in (root / split).rglob("*.png"):
        path.unlink() if kind == "empty" else path.write_bytes(b"cut")
    recipe = dataclasses.replace(PHOTOS, data_dir=str(root), on_bad_image="skip")
    told = f"^Every set must contain images. Received: the {'test' if split == 'test' else 'validation'} set is empty$"
    with pytest.raises(ValueError, match=told):
        load_data(recipe)
