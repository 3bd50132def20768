"""`load_data`: images of a recipe as train, validation and test sets that never overlap, and those that calibrate."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..recipe import Recipe
from ..run_files import RunFiles
from .copies import copy_notes
from .folders import check_files, scan_folder
from .identity import LIST_FILE, SplitList, check_trained_on, folder_is_as_trained
from .listing import Notes, some
from .records import RecordSource, feature_names, prepared_builder
from .sources import (
    ArraySource,
    FileSource,
    float_array,
    in_memory,
    target_array,
)
from .splits import CALIBRATION, SETS, divide, sets_aside, share, strata_of

EVALUATION_BATCH = 256
EVALUATION_PIXELS = 1 << 20  # of a batch's images: what a network keeps of large ones takes gigabytes
NO_TEST_SET = "The data must have a test set to be tested. Received: arrays without one"
SAMPLE_BYTES = 1 << 30  # of images that `DataBundle.sample` returns
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories of control characters, half pairs and line ends


@dataclasses.dataclass(frozen=True)
class DataBundle:
    """The sets of one data set. No image is in two of them, but that small sets calibrate with training images.

    Attributes:
        class_names: Name of each label; none where images are to be enlarged.
        image_shape: (height, width, channels) of every image.
        calibration: float32 (N, H, W, C) in [0, 1], for quantisation.
        notes: What was done to the data: images skipped, converted, resized.
        left_out: (path, why) of every image of a folder that was left out.
        calibration_source: What ``calibration`` was made of; None where it was given as it is.
        calibration_shared: Whether these images are trained on too, because there are few.
        dealt: Which of "validation" and "test" were dealt out of a folder's training images.
        train_source, validation_source, test_source: See ``wavemix_tf.training.data.sources``; ``fit`` shuffles and
            augments from the first. The test source is None for arrays that came without a test set.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_source: Any
    validation_source: Any
    test_source: Any
    calibration: np.ndarray
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    calibration_source: Any = None
    calibration_shared: bool = False
    dealt: tuple[str, ...] = ()

    @property
    def train(self) -> Any:
        """tf.data of batches (images float32 (B, H, W, C) in [0, 1], targets): in order, unaugmented.

        Targets are labels int64 (B,), masks int32 (B, H, W), or the enlarged images float32 (B, s*H, s*W, C).
        """
        return self.train_source.batches(self._batch)

    @property
    def validation(self) -> Any:
        """As ``train``; chooses the best epoch."""
        return self.validation_source.batches(self._batch)

    @property
    def test(self) -> Any:
        """As ``train``; to be read once, after training."""
        if self.test_source is None:
            raise ValueError(NO_TEST_SET)
        return self.test_source.batches(self._batch)

    @property
    def _batch(self) -> int:
        return max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // math.prod(self.image_shape[:2])))

    @property
    def validation_arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The validation set as (images float32, targets), or None where it is streamed."""
        return _float_arrays(self.validation_source)

    @property
    def test_arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The test set as (images float32, targets), or None where it is streamed."""
        return _float_arrays(self.test_source)

    def sample(self, split: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Images of a split in an order of which any first part is a fair sample, whatever order the data has.

        Args:
            split: "validation" or "test".
            limit: Largest number of images; also no more than ``SAMPLE_BYTES`` hold.

        Returns:
            float32 (N, H, W, C) in [0, 1], and the targets: see ``train``.
        """
        source = {"validation": self.validation_source, "test": self.test_source}[split]
        if source is None:
            raise ValueError(NO_TEST_SET)
        limit = min(limit, max(SAMPLE_BYTES // (4 * int(np.prod(self.image_shape))), 1))
        images, labels = source.sample(limit)
        return float_array(images), target_array(labels)

    def fingerprint(self) -> dict[str, Any]:
        """What a resumed run, and whatever is made of a finished one, must find again; of values that JSON knows."""
        found: dict[str, Any] = {"classes": list(self.class_names)}
        for name in (*SETS, CALIBRATION):
            source = self._set_aside if name == CALIBRATION else getattr(self, f"{name}_source")
            if source is None:
                found[name] = None
                continue
            origin = source.origin_checksum() if isinstance(source, ArraySource) else None
            found[name] = {"size": source.size, "checksum": source.checksum(), "origin": origin}
        return found

    @property
    def _set_aside(self) -> Any:
        """The source of calibration images that no other set has; None where there are none."""
        if self.calibration_shared or not len(self.calibration):
            return None
        if self.calibration_source is not None:
            return self.calibration_source
        return ArraySource(self.calibration, np.zeros(len(self.calibration), np.int64))

    @functools.cached_property
    def class_counts(self) -> dict[str, list[int]]:
        """Set -> images of each class (of masks: pixels), as far as they are known without reading the data."""
        found = {}
        for name in SETS:
            source = getattr(self, f"{name}_source")
            labels, counts = getattr(source, "labels", None), getattr(source, "counts", None)
            if counts is not None:
                found[name] = counts.sum(0).tolist()
            elif self.class_names and isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.ndim < 4:
                found[name] = _count(labels, len(self.class_names))
        return found


def _count(labels: np.ndarray, classes: int) -> list[int]:
    """Of each class; a mask at a time, for whole sets would be copied."""
    counts = np.zeros(classes, np.int64)
    for part in labels if labels.ndim > 1 else [labels]:
        values = part[(part >= 0) & (part < classes)]
        counts += np.bincount(values.reshape(-1).astype(np.int64), minlength=classes)
    return counts.tolist()


def _float_arrays(source: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if not isinstance(source, ArraySource):
        return None
    return float_array(source.images), target_array(source.labels)


def load_data(recipe: Recipe, run: str | os.PathLike[str] | None = None, known_only: bool = False) -> DataBundle:
    """The data of a recipe: decoded, resized, and split.

    Test and validation images that the data does not bring are taken out of the training images, some of every class:
    of a folder by a hash of each file's name, so that an image more moves no other (see ``splits``), else by the
    recipe's seed. Calibration images are set aside where they are few, and shared with training where they are not. A
    TFDS set that is streamed gives its first records instead (TFDS shuffled them).

    Args:
        recipe: Fields ``dataset`` to ``download`` say what to read and how.
        run: Run folder whose list of files (``splits.json``) is kept: what it knows stays where it is, only new files
            are dealt.
        known_only: Leave out files that the run does not know.

    Returns:
        A ``DataBundle``.

    Raises:
        ValueError: unknown data set, wrong number of classes, too few images, an unreadable image, or a file of the
            run's list is missing.
        FileNotFoundError: the data is not on this machine and ``recipe.download`` is False.

    Example:
    >>> data = wm.training.load_data(wm.training.RECIPES["digits"])
    """
    listed = None if run is None else SplitList.load(run)
    if known_only and (listed is None or (recipe.dataset == "folder" and not listed.files)):
        raise ValueError(
            f"known_only=True needs the list of a run that was begun. Received: run={run!r}, no {LIST_FILE}"
        )
    known = None if listed is None or recipe.dataset != "folder" else listed.files
    only = None
    if known_only and known and listed is not None:
        only = listed.names
        check_files(recipe, only)
    notes = Notes()
    if recipe.task == "segmentation":
        data = _load_masks(recipe, notes, known, only)
    elif recipe.task == "super_resolution":
        data = _load_pictures(recipe, notes, known, only)
    elif recipe.dataset == "folder":
        folder = scan_folder(recipe, notes, only)
        check_classes(recipe, folder.class_names)
        splits: list[Any] = [folder.train, folder.validation, folder.test]
        if in_memory(recipe, sum(source.size for source in splits if source is not None)):
            splits = [_decoded(source, recipe, notes) for source in splits]
        data = split_sources(recipe, splits[0], splits[1], splits[2], folder.class_names, notes, known)
    else:
        data = _load_labelled_records(recipe)
    return dataclasses.replace(
        data, notes=(*data.notes, *missing_classes(data), *copy_notes(data)), left_out=tuple(notes.left_out)
    )


def check_finished(recipe: Recipe, run: str | os.PathLike[str], known_only: bool = False) -> None:
    """ValueError if the own folder of a finished run is there and no longer what it was trained on.

    Args:
        recipe: Says which data.
        run: Run folder.
        known_only: See ``load_data``.
    """
    out = Path(run)
    if folder_is_as_trained(recipe, out, known_only):
        return
    # As every verb does that uses the images, but for decoding them.
    data = load_data(dataclasses.replace(recipe, in_memory=False), out, known_only)
    check_trained_on(data, out, RunFiles(out, "float").read_result().get("data"))


def missing_classes(data: DataBundle, of_train: bool = False) -> list[str]:
    """What to tell of classes that a split has no image (no pixel) of.

    Args:
        data: Of which data.
        of_train: Also of the training set; of a folder or of records that was told by who looked at the labels.
    """
    told = []
    for name, counts in data.class_counts.items():
        lacking = [label for label, count in zip(data.class_names, counts, strict=True) if not count]
        if lacking and (of_train or name != "train"):
            told.append(f"the {name} set has none of {len(lacking):,} classes: {some(lacking)}")
    return told


def _load_labelled_records(recipe: Recipe) -> DataBundle:
    builder = prepared_builder(recipe)
    keys = feature_names(builder, recipe)
    class_names = tuple(builder.info.features[keys[1]].names)
    check_classes(recipe, class_names)

    def split(name: str) -> RecordSource:
        return RecordSource(builder, name, keys, recipe.image_shape, recipe.crop_to_aspect_ratio)

    return _load_records(recipe, split, class_names)


def _load_records(recipe: Recipe, source: Any, class_names: tuple[str, ...]) -> DataBundle:
    """Of a TFDS data set; ``source``: name of a split -> ``RecordSource``."""

    def split(name: str) -> RecordSource:
        try:
            found = source(name)
            found.size  # noqa: B018
        except (ValueError, KeyError) as error:
            raise ValueError(f"{str(error).splitlines()[0]} Received: split {name!r} of {recipe.dataset}") from None
        return found

    train, test = split(recipe.train_split), split(recipe.test_split)
    images = train.size + test.size
    if in_memory(recipe, images + (images // recipe.image_shape[2] if train.has_masks else 0)):
        return split_sources(recipe, train.in_memory(), None, test.in_memory(), class_names, Notes())
    return _split_records(recipe, split, train.size, test, class_names)


def _load_masks(
    recipe: Recipe, notes: Notes, known: Mapping[str, Any] | None, only: frozenset[str] | None
) -> DataBundle:
    from .masks import MASKS_LOOKED_AT, check_masks, count_pixels, record_masks, scan_masks

    if recipe.dataset != "folder":
        class_names, source = record_masks(prepared_builder(recipe), recipe)
        check_classes(recipe, class_names)
        data = _load_records(recipe, source, class_names)
        for part in (data.train_source, data.validation_source, data.test_source):
            whole = isinstance(part, ArraySource)
            masks = part.labels if whole else part.sample(MASKS_LOOKED_AT)[1]
            check_masks(count_pixels(masks), class_names, recipe, every_class=whole and part is data.train_source)
        return data
    class_names, files = scan_masks(recipe, notes, only)
    check_classes(recipe, class_names)
    splits: list[Any] = list(files)
    images = sum(source.size for source in files if source is not None)
    if in_memory(recipe, images + images // recipe.image_shape[2]):
        splits = [_decoded(source, recipe, notes) for source in files]
    return split_sources(recipe, splits[0], splits[1], splits[2], class_names, notes, known)


def _load_pictures(
    recipe: Recipe, notes: Notes, known: Mapping[str, Any] | None, only: frozenset[str] | None
) -> DataBundle:
    from . import patches

    if recipe.dataset == "folder":
        listed = patches.scan_pictures(recipe, notes, only)
        found = [None if files is None else patches.file_pictures(*files, recipe) for files in listed]
    else:
        splits = (recipe.train_split, recipe.test_split)
        train_pictures, test_pictures = patches.record_pictures(prepared_builder(recipe), recipe, splits, notes)
        found = [train_pictures, None, test_pictures]

    def source(pictures: Any, count: int) -> Any:
        return patches.PatchSource(pictures, recipe.image_shape, recipe.scale, count)

    train: Any = found[0]
    rows = divide(
        np.zeros(len(train.names), np.int64),
        recipe,
        validation=found[1] is None,
        test=found[2] is None,
        calibration=lambda left: share(left, patches.CALIBRATION_SHARE),
        files=train.files,
        known=known,
        least=1,  # a picture may be large
    )
    fixed = patches.PATCHES_OF_AN_IMAGE
    calibrating = train.take(rows.calibration)
    patches_of_each = math.ceil(recipe.calibration_images / len(calibrating.names))
    calibration = source(calibrating, patches_of_each)
    return DataBundle(
        class_names=(),
        image_shape=recipe.image_shape,
        train_source=source(train.take(rows.train), recipe.patches),
        validation_source=source(found[1] or train.take(rows.validation), fixed),
        test_source=source(found[2] or train.take(rows.test), fixed),
        calibration=float_array(calibration.sample(recipe.calibration_images)[0]),
        notes=tuple(notes),
        calibration_source=calibration,
        calibration_shared=rows.shared,
        dealt=_dealt(train, found[1], found[2]),
    )


def _decoded(source: FileSource | None, recipe: Recipe, notes: Notes) -> ArraySource | None:
    if source is None:
        return None
    images, labels, failures = source.arrays(stop=recipe.on_bad_image == "error")
    notes.leave_out([(source.paths[row], why) for row, why in failures.items()], "unreadable images left out")
    kept = np.setdiff1d(np.arange(source.size), list(failures))
    return ArraySource(images, labels, files=None if source.files is None else source.files.take(kept))


def split_sources(
    recipe: Recipe,
    train: Any,
    validation: Any,
    test: Any,
    class_names: tuple[str, ...],
    notes: Notes,
    known: Mapping[str, Any] | None = None,
    deals_test: bool = True,
) -> DataBundle:
    """Carve out of the training images what the data does not bring; without ``deals_test`` there is no test set."""
    rows = divide(
        strata_of(train, len(class_names)),
        recipe,
        validation=validation is None,
        test=test is None and deals_test,
        calibration=lambda left: recipe.calibration_images,
        files=train.files,
        known=known,
    )
    calibrating = train.take(rows.calibration)
    images = ArraySource(*calibrating.arrays()[:2]) if isinstance(train, FileSource) else calibrating
    if len(rows.calibration) < recipe.calibration_images:
        notes.append(
            f"{len(rows.calibration):,} of {recipe.calibration_images:,} calibration images: there are no more"
        )
    return DataBundle(
        class_names=class_names,
        image_shape=recipe.image_shape,
        train_source=train.take(rows.train),
        validation_source=train.take(rows.validation) if validation is None else validation,
        test_source=train.take(rows.test) if test is None and deals_test else test,
        calibration=float_array(images.images),
        notes=tuple(notes),
        calibration_source=calibrating,
        calibration_shared=rows.shared,
        dealt=_dealt(train, validation, test),
    )


def _dealt(train: Any, validation: Any, test: Any) -> tuple[str, ...]:
    """Which sets a folder did not bring."""
    own = {"validation": validation, "test": test}
    return () if train.files is None else tuple(name for name in own if own[name] is None)


def _split_records(
    recipe: Recipe, split: Any, size: int, test: RecordSource, class_names: tuple[str, ...]
) -> DataBundle:
    name = recipe.train_split
    if "[" in name or "+" in name:
        raise ValueError(
            "train_split must be a plain split where the data is streamed; in_memory=True reads any. Received: "
            f"train_split={name!r}"
        )
    first = share(size, recipe.validation_fraction)
    second = first + min(recipe.calibration_images, size - first)
    if first >= size:
        raise ValueError(f"validation_fraction must leave images to train on. Received: {first} of {size} images")
    calibrating = split(f"{name}[{first}:{second}]")
    aside = sets_aside(second - first, size - first)
    return DataBundle(
        class_names=class_names,
        image_shape=recipe.image_shape,
        train_source=split(f"{name}[{second if aside else first}:]"),
        validation_source=split(f"{name}[:{first}]"),
        test_source=test,
        calibration=float_array(calibrating.arrays()[0]),
        calibration_source=calibrating,
        calibration_shared=not aside,
    )


def check_classes(recipe: Recipe, class_names: tuple[str, ...]) -> None:
    """ValueError unless the data has as many classes as the recipe says, and at least two."""
    check_names(class_names)
    received = f"{recipe.dataset} has {len(class_names)}: {', '.join(class_names[:12])}"
    if len(class_names) < 2:
        raise ValueError(f"There must be at least two classes. Received: {received}")
    if recipe.num_classes is not None and recipe.num_classes != len(class_names):
        raise ValueError(
            "num_classes must be the number of classes in the data. Received: "
            f"num_classes={recipe.num_classes}, {received}"
        )


def check_names(class_names: tuple[str, ...]) -> None:
    """ValueError if a name would break the lines of labels.txt, or a terminal's."""
    strange = [name for name in class_names if any(unicodedata.category(sign) in UNPRINTABLE for sign in name)]
    if strange:
        raise ValueError(
            "A class name must have no control characters, nor bytes that are no text: labels.txt has one name a line. "
            f"Received: {', '.join(map(ascii, strange[:8]))}"
        )
