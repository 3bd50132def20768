"""`load_data`: the images of a recipe as disjoint train, validation and test sets, and the calibration images."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wavemix_tf.warning import warn_user

from ..images import nearly_black_text
from ..recipe import Recipe
from ..run_files import RunFiles
from ..tasks import task_type
from .bundle import DataBundle, check_classes, check_sets, missing_classes
from .copies import copy_notes
from .folders import check_files, scan_folder
from .identity import LIST_FILE, SplitList, check_trained_on, folder_is_as_trained
from .listing import Notes
from .plain_pictures import plain_notes
from .records import RecordSource, feature_names, prepared_builder
from .sources import (
    ArraySource,
    FileSource,
    float_array,
    in_memory,
)
from .splits import divide, sets_aside, share, strata_of


def load_data(recipe: Recipe, run: str | os.PathLike[str] | None = None, known_only: bool = False) -> DataBundle:
    """Load the data of a recipe: decode, resize and split it.

    If the data has no test or validation set, it is split from the training images, with some images of every class:
    for a folder by a hash of each file's name, so that an added image moves at most a few others (see ``splits``),
    otherwise by the recipe's seed. Calibration images are held out if they are few, and otherwise shared with training.
    A streamed TFDS dataset uses its first records instead (TFDS has shuffled them).

    Args:
        recipe: Fields ``dataset`` to ``download`` determine what is read and how.
        run: Run folder whose list of files (``splits.json``) is used: listed files keep their set, only new files are
            assigned.
        known_only: Skip files that are not in the run's list.

    Returns:
        A ``DataBundle``.

    Raises:
        ValueError: unknown dataset, wrong number of classes, too few images, an empty set, an unreadable image, or a
            file of the run's list is missing.
        FileNotFoundError: the data is not on this machine and ``recipe.download`` is False.

    Example:
    >>> data = wm.training.load_data(wm.training.RECIPES["digits"])
    """
    listed = None if run is None else SplitList.load(run)
    if known_only and (listed is None or (recipe.dataset == "folder" and not listed.files)):
        raise ValueError(
            f"known_only=True requires the file list of a started run. Received: run={run!r}, no {LIST_FILE}"
        )
    known = None if listed is None or recipe.dataset != "folder" else listed.files
    only = None
    if known_only and known and listed is not None:
        only = listed.names
        check_files(recipe, only)
    notes = Notes()
    data = READERS[task_type(recipe).targets](recipe, notes, known, only)
    check_sets(data)
    further = [*missing_classes(data), *copy_notes(data), *plain_notes(data)]
    dark = nearly_black_text(notes.deep)
    if dark:
        warn_user(dark)
        further.append(dark)
    return dataclasses.replace(data, notes=(*data.notes, *further), left_out=tuple(notes.left_out))


def check_finished(recipe: Recipe, run: str | os.PathLike[str], known_only: bool = False) -> None:
    """Raise ValueError if the image folder of a finished run exists and differs from the data it was trained on.

    Args:
        recipe: Names the data.
        run: Run folder.
        known_only: See ``load_data``.
    """
    out = Path(run)
    if folder_is_as_trained(recipe, out, known_only):
        return
    # The same check as in the verbs that use the images, without decoding them.
    data = load_data(dataclasses.replace(recipe, in_memory=False), out, known_only)
    check_trained_on(data, out, RunFiles(out, "float").read_result().get("data"))


def _load_labels(
    recipe: Recipe, notes: Notes, known: Mapping[str, Any] | None, only: frozenset[str] | None
) -> DataBundle:
    if recipe.dataset != "folder":
        return _load_labelled_records(recipe)
    folder = scan_folder(recipe, notes, only)
    check_classes(recipe, folder.class_names)
    splits: list[Any] = [folder.train, folder.validation, folder.test]
    if in_memory(recipe, sum(source.size for source in splits if source is not None)):
        splits = [_decoded(source, recipe, notes) for source in splits]
    return split_sources(recipe, splits[0], splits[1], splits[2], folder.class_names, notes, known)


def _load_labelled_records(recipe: Recipe) -> DataBundle:
    builder = prepared_builder(recipe)
    keys = feature_names(builder, recipe)
    class_names = tuple(builder.info.features[keys[1]].names)
    check_classes(recipe, class_names)

    def split(name: str) -> RecordSource:
        return RecordSource(builder, name, keys, recipe.image_shape, recipe.crop_to_aspect_ratio)

    return _load_records(recipe, split, class_names)


def _load_records(recipe: Recipe, source: Any, class_names: tuple[str, ...]) -> DataBundle:
    """Load a TFDS dataset; ``source``: name of a split -> ``RecordSource``."""

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


# `Task.targets` -> reader: (recipe, notes, files of the run's list, only these names or None for all) -> DataBundle.
READERS = {"labels": _load_labels, "masks": _load_masks, "images": _load_pictures}


def _decoded(source: FileSource | None, recipe: Recipe, notes: Notes) -> ArraySource | None:
    if source is None:
        return None
    images, labels, failures = source.arrays(stop=recipe.on_bad_image == "error")
    notes.leave_out([(source.paths[row], why) for row, why in failures.items()], "unreadable images skipped")
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
    """Split missing sets from the training images; with ``deals_test=False`` no test set is made."""
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
            f"only {len(rows.calibration):,} of {recipe.calibration_images:,} calibration images are available"
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
    """The sets that were split from a folder's training images."""
    own = {"validation": validation, "test": test}
    return () if train.files is None else tuple(name for name in own if own[name] is None)


def _split_records(
    recipe: Recipe, split: Any, size: int, test: RecordSource, class_names: tuple[str, ...]
) -> DataBundle:
    name = recipe.train_split
    if "[" in name or "+" in name:
        raise ValueError(
            "train_split must be a plain split if the data is streamed; in_memory=True reads any. Received: "
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
