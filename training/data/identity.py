"""What data a run was trained on, kept in its folder; other data is refused by name.

``splits.json`` is written when a run begins: which file is in which set, and a digest of each. ``training.json``, which
says that a stage is finished, has the fingerprint: the classes in their order, and size and checksum of each set.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from wavemix_tf.files import write_text
from wavemix_tf.state_files import check_fields, read_json, reading
from wavemix_tf.warning import warn_user

from ..recipe import Recipe
from ..run_files import RunFiles, check_fingerprint
from .listing import describe, first_names, list_files, relative_name
from .splits import CALIBRATION, SETS

LIST_FILE, LABELS_FILE, BAD_IMAGES_FILE = "splits.json", "labels.txt", "bad_images.csv"
BEGUN_WITH = (LIST_FILE, LABELS_FILE, BAD_IMAGES_FILE)  # what `record` writes
FORMAT = 1
CHANGES_SHOWN = 6
UNKNOWN_CHECKSUM = 0  # of a data set whose order changes from pass to pass, and of any that version 0.1 was given
KNOWN_ONLY = "--old-split (load_data: known_only=True) goes on without new images"


@dataclasses.dataclass(frozen=True)
class SplitList:
    """The data of a run: what ``splits.json`` holds.

    Args:
        fingerprint: Of ``DataBundle.fingerprint``.
        files: Set ("train", "validation", "test", "calibration") -> name of a file -> digest of its content; None
            where the images are no files. Calibration images may be trained on too.
        extends: Fingerprints of the lists that this one grew from, when images were added to a run under way.
    """

    fingerprint: Mapping[str, Any]
    files: Mapping[str, Mapping[str, str]] | None = None
    extends: tuple[Mapping[str, Any], ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Of all files."""
        return frozenset(name for names in (self.files or {}).values() for name in names)

    def save(self, folder: Path) -> None:
        """Write ``splits.json``, whole or not at all, unless it is there as it should be."""
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=0) + "\n"
        path = folder / LIST_FILE
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> SplitList | None:
        """Of a run folder; None where it has none."""
        path = Path(folder) / LIST_FILE
        if not path.is_file():
            return None
        remedy = "Put the list of the run's files back, or begin anew: overwrite=True (--overwrite)."
        with reading(path, remedy):
            found = read_json(
                path, remedy, {"format": int, "fingerprint": dict, "files": (dict, NoneType), "extends": list}
            )
            if found["format"] != FORMAT:
                raise ValueError("it is of another version of wavemix-tf")
            for fingerprint in (found["fingerprint"], *found["extends"]):
                check_fingerprint(fingerprint)
            for names in (found["files"] or {}).values():
                check_fields(names, dict.fromkeys(names, str))
            return cls(found["fingerprint"], found["files"], tuple(found["extends"]))


def split_list(data: Any) -> SplitList:
    """Of a ``DataBundle``."""
    found: dict[str, dict[str, str]] = {}
    for name in SETS:
        files = getattr(getattr(data, f"{name}_source"), "files", None)
        if files is not None:
            found[name] = dict(zip(files.names, files.digests, strict=True))
    if "train" in found:
        files = getattr(data.calibration_source, "files", None)
        found[CALIBRATION] = {} if files is None else dict(zip(files.names, files.digests, strict=True))
    return SplitList(data.fingerprint(), found or None)


def check_trained_on(data: Any, out: Path, stored: Mapping[str, Any] | None, stage: str = "float") -> None:
    """ValueError unless ``data`` is what a finished stage was trained on.

    Args:
        data: A ``DataBundle``.
        out: Run folder, for its list of files.
        stored: The fingerprint in the stage's ``training.json``; None: no more is known of it than ``labels.txt``.
        stage: Which.
    """
    if stored is None:
        _warn_of_no_fingerprint(RunFiles(out, stage))
        _check_labels(data, out)
        return
    mine = split_list(data)
    if same_data(stored, mine.fingerprint):
        return
    old = SplitList.load(out)
    found = list(_changes(old, stored, mine))
    if found:
        without_new = f"{KNOWN_ONLY}, " if old is not None and _all_there(old, mine) else ""
        advice = _given_advice(mine) or (
            f"{without_new}`wavemix-tf fit` with --overwrite trains anew, else put the images and the folders of "
            "classes back as they were"
        )
        raise ValueError(f"{out} was trained on other data; {advice}. Received: {'; '.join(found[:CHANGES_SHOWN])}")


def _warn_of_no_fingerprint(files: RunFiles) -> None:
    """Say so where a stage was trained here and does not tell of which data; weights from elsewhere never do."""
    result = files.read_result() if files.result.is_file() else None
    if result and result["epochs"] and result.get("data") is None:
        warn_user(f"{files.result} has no fingerprint of the data: whether it is the same data cannot be checked")


def _given_advice(mine: SplitList) -> str:
    """What helps where other data was given in Python; "" where it was read from a folder or from records."""
    sets = [found for name, found in mine.fingerprint.items() if name != "classes" and found]
    if mine.files is not None or any(found["origin"] is not None for found in sets):
        return ""
    advice = "give the data it had, or take overwrite=True, or another out"
    if any(isinstance(found["checksum"], str) for found in sets):
        advice += " (a data set that is shuffled but once needs a seed)"
    return advice


def _all_there(old: SplitList, mine: SplitList) -> bool:
    """Whether all files that a run knew are there as they were, in whichever set."""
    known, now = (
        {name: digest for files in (one.files or {}).values() for name, digest in files.items()} for one in (old, mine)
    )
    return bool(known) and known.items() <= now.items()


def read_labels(folder: Path) -> list[str] | None:
    """The class names in a run's ``labels.txt``; None where it has none.

    Raises:
        DamagedFileError: the file is no text, or names other classes than the run was trained on.
    """
    path, result = folder / LABELS_FILE, RunFiles(folder, "float")
    if not path.is_file():
        return None
    trained = (result.read_result().get("data") or {}).get("classes") if result.result.is_file() else None
    if trained is None:
        listed = SplitList.load(folder)
        trained = None if listed is None else list(listed.fingerprint["classes"])
    remedy = "It names the run's classes, a line each: put it back, or train anew with --overwrite."
    if trained is not None:
        remedy = f"It names the run's classes, a line each: put it back, or delete it; {LIST_FILE} has them too."
    with reading(path, remedy):
        labels = path.read_bytes().decode("utf-8").splitlines()
        if trained is not None and labels != trained:
            raise ValueError(f"against what it was trained on, {_changed_classes(trained, labels)}")
    return labels


def _check_labels(data: Any, out: Path) -> None:
    """ValueError unless the classes are those of a run's ``labels.txt``, where it has one."""
    path, there = out / LABELS_FILE, read_labels(out)
    if there is None:
        return
    if there != list(data.class_names):
        advice = _given_advice(split_list(data)) or (
            "`wavemix-tf fit` with --overwrite trains anew, else put the folders of classes back as they were"
        )
        raise ValueError(
            f"{out} was trained on other classes; {advice}. Received: "
            f"{_changed_classes(there, list(data.class_names))} in {path}"
        )


def folder_is_as_trained(recipe: Recipe, out: Path, known_only: bool = False) -> bool:
    """Whether an own folder of images holds what the finished run ``out`` knows of it; nothing is decoded.

    Args:
        recipe: Says which folder. One that is not there, or no folder, is not looked at: True.
        out: Run folder.
        known_only: Whether files that the run does not know count.

    Returns:
        False too where names and digests alone do not tell, as of masks: then ``load_data`` must.
    """
    result = RunFiles(out, "float")
    root = None if recipe.dataset != "folder" or recipe.data_dir is None else Path(recipe.data_dir).expanduser()
    stored = result.read_result().get("data") if result.result.is_file() else None
    if root is None or not root.is_dir():
        return True
    for stage in ("float", "qat"):
        _warn_of_no_fingerprint(RunFiles(out, stage))
    if stored is None:
        return True
    listed = SplitList.load(out)
    if listed is None or not listed.files or listed.fingerprint != stored:
        return False
    known = {name: digest for names in listed.files.values() for name, digest in names.items()}
    found = {relative_name(path, root) for path in list_files([root])[0].images}
    if known.keys() - found or (found - known.keys() and not known_only):
        return False
    return dict(zip(known, describe([str(root / name) for name in known], root).digests, strict=True)) == known


def check_run(data: Any, out: Path) -> None:
    """ValueError unless ``data`` is that of the finished float stage of a run folder, if it holds one.

    Of weights that were trained elsewhere, or by version 0.1, no more is known than the classes, if there are labels:
    the first data that is used with them is kept.
    """
    files = RunFiles(out, "float")
    path = files.result
    if not path.is_file():
        return
    summary = files.read_result()
    check_trained_on(data, out, summary.get("data"))
    if summary.get("data") is not None:
        return
    if summary["epochs"] and data.dealt:
        raise ValueError(
            f"{out} was trained by a version of wavemix-tf that kept no list of its files, so that its "
            f"{' and '.join(data.dealt)} images cannot be told: `wavemix-tf fit` with --overwrite trains anew. "
            f"Received: {path} without data"
        )
    keep_first_data(data, out, str(out))


def merge_lists(mine: SplitList, out: Path | None) -> SplitList:
    """The list to keep of a run that begins with ``mine``, or goes on with it.

    Images may have been added to a run that is not finished: then all it knew must be where it was.

    Args:
        mine: Of the data at hand.
        out: Run folder that holds a checkpoint; None: nothing is trained yet, and nothing lost.

    Raises:
        ValueError: what the run knew is not as it was.
    """
    theirs = None if out is None else SplitList.load(out)
    if theirs is None:
        return mine
    if same_data(theirs.fingerprint, mine.fingerprint):
        return dataclasses.replace(mine, extends=theirs.extends)
    by_names = bool(theirs.files and mine.files)
    changes = list(_changes(theirs, theirs.fingerprint, mine, only_old=by_names))
    if changes or not by_names:
        # Such as the same records, decoded to other pixels on another machine: half a training cannot go on with them.
        changes = changes or [
            f"{name} {mine.fingerprint.get(name)} (there {theirs.fingerprint.get(name)})"
            for name in sorted({*mine.fingerprint, *theirs.fingerprint})
            if mine.fingerprint.get(name) != theirs.fingerprint.get(name)
        ]
        advice = _given_advice(mine) or (
            f"put it back as it was (load_data(recipe, run={str(out)!r}) keeps what is dealt), or begin anew with "
            "--overwrite"
        )
        raise ValueError(
            f"To resume, the data must be as before: {advice}. Received: {'; '.join(changes[:CHANGES_SHOWN])}"
        )
    return dataclasses.replace(mine, extends=(*theirs.extends, theirs.fingerprint))


def same_data(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether two fingerprints are equal in all that both know."""
    return there.keys() == here.keys() and all(
        there[name] == here[name] or (name in (*SETS, CALIBRATION) and _unknown(there[name], here[name]))
        for name in there
    )


def _unknown(there: Any, here: Any) -> bool:
    """Whether no more is known of two sets, or of one of them, than that they are of one size."""
    if not there or not here or there["size"] != here["size"]:
        return False
    return UNKNOWN_CHECKSUM in (there["checksum"], here["checksum"])


def order_note(data: Any) -> str:
    """What to tell of a run that goes on or is finished, where its data was not compared as a whole; else ""."""
    sources = {"data": data.train_source, "validation_data": data.validation_source}
    digests = {name: source.first_digest for name, source in sources.items() if hasattr(source, "first_digest")}
    told = []
    unknown = " and of ".join(name for name, digest in digests.items() if digest == UNKNOWN_CHECKSUM)
    if unknown:
        told.append(f"The order of {unknown} changes from pass to pass: whether it is the same data cannot be checked.")
    begun = " and of ".join(name for name, digest in digests.items() if digest != UNKNOWN_CHECKSUM)
    if begun:
        told.append(f"Of {begun} only the length and the first batch can be compared with those of the run.")
    return " ".join(told)


def write_split_list(data: Any, listed: SplitList, out: Path) -> None:
    """Write what a run begins with: its list of files, its labels, and the images that were left out."""
    listed.save(out)
    if data.class_names:
        write_text(out / LABELS_FILE, "".join(f"{name}\n" for name in data.class_names))
    path = out / BAD_IMAGES_FILE
    if not data.left_out:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "reason"))
    writer.writerows([part.encode("utf-8", "backslashreplace").decode() for part in row] for row in data.left_out)
    write_text(path, text.getvalue())


def keep_first_data(data: Any, folder: Path, what: str) -> None:
    """Keep the data of a folder of many runs with the first of them, and refuse other data later.

    Args:
        data: A ``DataBundle``.
        folder: Where ``splits.json`` goes.
        what: What the folder holds, for the message.
    """
    mine, theirs = split_list(data), SplitList.load(folder)
    changes = [] if theirs is None else list(_changes(theirs, theirs.fingerprint, mine))
    if changes:
        advice = _given_advice(mine) or "put it back as it was, or begin anew with --overwrite"
        raise ValueError(f"{what} was begun with other data: {advice}. Received: {'; '.join(changes[:CHANGES_SHOWN])}")
    mine.save(folder)


def _changes(
    old: SplitList | None, fingerprint: Mapping[str, Any], mine: SplitList, only_old: bool = False
) -> Iterator[str]:
    """What is otherwise than it was, in words; with ``only_old`` new files do not count."""
    now = mine.fingerprint
    if fingerprint["classes"] != now["classes"]:
        yield _changed_classes(fingerprint["classes"], now["classes"])
    if old is not None and old.fingerprint == fingerprint and old.files and mine.files:
        yield from _changed_files(old.files, mine.files, only_old)
        return
    for name in (*SETS, CALIBRATION):
        there, here = fingerprint.get(name), now.get(name)
        if there is None or there == here or _unknown(there, here) or (only_old and here is None):
            continue
        if here and there["origin"] is not None and (there["origin"], there["size"]) == (here["origin"], here["size"]):
            continue  # the same records, decoded on another machine
        sizes = [found["size"] if found else 0 for found in (here, there)]
        other = ", other ones" if sizes[0] == sizes[1] else ""
        yield f"{name}: {sizes[0]:,} (there {sizes[1]:,}){other}"


def _changed_classes(there: list[str], here: list[str]) -> str:
    gone, new = [name for name in there if name not in here], [name for name in here if name not in there]
    if not gone and not new:
        return f"classes in the order {', '.join(here[:8])} (there {', '.join(there[:8])})"
    parts = [f"without {first_names(gone)}"] if gone else []
    parts += [f"with {first_names(new)}, which was not there"] if new else []
    return f"classes {' and '.join(parts)}"


def _changed_files(
    there: Mapping[str, Mapping[str, str]], here: Mapping[str, Mapping[str, str]], only_old: bool
) -> Iterator[str]:
    places, places_now = _places(there), _places(here)
    for kind in (*SETS, CALIBRATION):
        old = [name for name in there.get(kind, {}) if places[name] == kind]
        gone = [name for name in old if name not in places_now]
        if gone:
            yield f"{kind}: {len(gone):,} missing ({first_names(gone)})"
        moved = [name for name in old if places_now.get(name, kind) != kind]
        if moved:
            yield f"{kind}: {len(moved):,} now in another set ({first_names(moved)})"
        changed = [name for name in old if places_now.get(name) == kind and there[kind][name] != here[kind][name]]
        if changed:
            yield f"{kind}: {len(changed):,} changed ({first_names(changed)})"
        added = [name for name in here.get(kind, {}) if places_now[name] == kind and name not in places]
        if added and not only_old:
            yield f"{kind}: {len(added):,} new ({first_names(added)})"


def _places(files: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Name -> its set; that of calibration images that are trained on too is "train"."""
    return {name: kind for kind in (CALIBRATION, *SETS) for name in files.get(kind, {})}
