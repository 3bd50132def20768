"""The identity of a run's data, kept in its folder; other data is refused with the names of the differences.

``splits.json`` is written when a run starts: the set and the digest of each file. ``training.json``, written when a
stage is finished, has the fingerprint: the classes in their order, and size and checksum of each set.
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

SETS = ("train", "validation", "test")
CALIBRATION = "calibration"  # the fourth set; its images may also be trained on
LIST_FILE, LABELS_FILE, BAD_IMAGES_FILE = "splits.json", "labels.txt", "bad_images.csv"
BEGUN_WITH = (LIST_FILE, LABELS_FILE, BAD_IMAGES_FILE)  # what `write_split_list` writes
FORMAT = 1
CHANGES_SHOWN = 6
UNKNOWN_CHECKSUM = 0  # checksum of a dataset whose order changes from pass to pass, and of every dataset of version 0.1
KNOWN_ONLY = "--old-split (load_data: known_only=True) continues without new images"


@dataclasses.dataclass(frozen=True)
class SplitList:
    """The data of a run: the content of ``splits.json``.

    Args:
        fingerprint: From ``DataBundle.fingerprint``.
        files: Set ("train", "validation", "test", "calibration") -> name of a file -> digest of its content; None if
            the images are not files. Calibration images may also be trained on.
        extends: Fingerprints of earlier lists, if images were added to an unfinished run.
    """

    fingerprint: Mapping[str, Any]
    files: Mapping[str, Mapping[str, str]] | None = None
    extends: tuple[Mapping[str, Any], ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The names of all files."""
        return frozenset(name for names in (self.files or {}).values() for name in names)

    def save(self, folder: Path) -> None:
        """Write ``splits.json`` atomically, unless it already has this content."""
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=0) + "\n"
        path = folder / LIST_FILE
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> SplitList | None:
        """Load the list of a run folder; None if it has none."""
        path = Path(folder) / LIST_FILE
        if not path.is_file():
            return None
        remedy = "Restore the list of the run's files, or start again: overwrite=True (--overwrite)."
        with reading(path, remedy):
            found = read_json(
                path, remedy, {"format": int, "fingerprint": dict, "files": (dict, NoneType), "extends": list}
            )
            if found["format"] != FORMAT:
                raise ValueError("it was written by another version of wavemix-tf")
            for fingerprint in (found["fingerprint"], *found["extends"]):
                check_fingerprint(fingerprint)
            for names in (found["files"] or {}).values():
                check_fields(names, dict.fromkeys(names, str))
            return cls(found["fingerprint"], found["files"], tuple(found["extends"]))


def split_list(data: Any) -> SplitList:
    """The split list of a ``DataBundle``."""
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
    """Raise ValueError unless ``data`` is the data that a finished stage was trained on.

    Args:
        data: A ``DataBundle``.
        out: Run folder, for its list of files.
        stored: The fingerprint in the stage's ``training.json``; None: only ``labels.txt`` can be compared.
        stage: Name of the stage.
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
            f"{without_new}`wavemix-tf fit` with --overwrite trains again; otherwise restore the images and the class "
            "folders"
        )
        raise ValueError(f"{out} was trained on other data; {advice}. Received: {'; '.join(found[:CHANGES_SHOWN])}")


def _warn_of_no_fingerprint(files: RunFiles) -> None:
    """Warn if a stage that was trained here has no fingerprint of its data; given weights never have one."""
    result = files.read_result() if files.result.is_file() else None
    if result and result["epochs"] and result.get("data") is None:
        warn_user(f"{files.result} has no fingerprint of the data: it cannot be checked whether the data is the same")


def _given_advice(mine: SplitList) -> str:
    """Advice if other data was passed in Python; "" if the data was read from a folder or from records."""
    sets = [found for name, found in mine.fingerprint.items() if name != "classes" and found]
    if mine.files is not None or any(found["origin"] is not None for found in sets):
        return ""
    advice = "pass the same data, or overwrite=True, or another out"
    if any(isinstance(found["checksum"], str) for found in sets):
        advice += " (a dataset that is shuffled only once needs a seed)"
    return advice


def _all_there(old: SplitList, mine: SplitList) -> bool:
    """Whether all files of the old list exist unchanged, in any set."""
    known, now = (
        {name: digest for files in (one.files or {}).values() for name, digest in files.items()} for one in (old, mine)
    )
    return bool(known) and known.items() <= now.items()


def read_labels(folder: Path) -> list[str] | None:
    """Read the class names in a run's ``labels.txt``; None if the file does not exist.

    Raises:
        DamagedFileError: the file is not text, or names other classes than the run was trained on.
    """
    path, result = folder / LABELS_FILE, RunFiles(folder, "float")
    if not path.is_file():
        return None
    trained = (result.read_result().get("data") or {}).get("classes") if result.result.is_file() else None
    if trained is None:
        listed = SplitList.load(folder)
        trained = None if listed is None else list(listed.fingerprint["classes"])
    remedy = "It names the run's classes, one per line: restore it, or train again with --overwrite."
    if trained is not None:
        remedy = f"It names the run's classes, one per line: restore it, or delete it; {LIST_FILE} has them too."
    with reading(path, remedy):
        labels = path.read_bytes().decode("utf-8").splitlines()
        if trained is not None and labels != trained:
            raise ValueError(f"compared with the training, {changed_classes(trained, labels)}")
    return labels


def _check_labels(data: Any, out: Path) -> None:
    """Raise ValueError if a run has a ``labels.txt`` and the classes differ from it."""
    path, there = out / LABELS_FILE, read_labels(out)
    if there is None:
        return
    if there != list(data.class_names):
        advice = _given_advice(split_list(data)) or (
            "`wavemix-tf fit` with --overwrite trains again; otherwise restore the class folders"
        )
        raise ValueError(
            f"{out} was trained on other classes; {advice}. Received: "
            f"{changed_classes(there, list(data.class_names))} in {path}"
        )


def folder_is_as_trained(recipe: Recipe, out: Path, known_only: bool = False) -> bool:
    """Whether a folder of images still has the files of the finished run ``out``; nothing is decoded.

    Args:
        recipe: Names the folder. True if it names none, or one that does not exist.
        out: Run folder.
        known_only: Whether files that are not in the run's list are ignored.

    Returns:
        False also if names and digests are not enough to decide, as for masks: ``load_data`` must decide then.
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
    """Raise ValueError if a run folder has a finished float stage and ``data`` is not its data.

    For weights that were trained elsewhere, or by version 0.1, only the classes can be compared, if there are labels:
    the first data used with them is recorded.
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
            f"{out} was trained by a version of wavemix-tf that kept no list of its files, so its "
            f"{' and '.join(data.dealt)} images are unknown: `wavemix-tf fit` with --overwrite trains again. "
            f"Received: {path} without data"
        )
    keep_first_data(data, out, str(out))


def merge_lists(mine: SplitList, out: Path | None) -> SplitList:
    """Return the list to keep for a run that starts or resumes with ``mine``.

    Images may be added to an unfinished run if all its known files are unchanged and in the same sets.

    Args:
        mine: The list of the current data.
        out: Run folder with a checkpoint; None: nothing is trained yet.

    Raises:
        ValueError: the known data has changed.
    """
    theirs = None if out is None else SplitList.load(out)
    if theirs is None:
        return mine
    if same_data(theirs.fingerprint, mine.fingerprint):
        return dataclasses.replace(mine, extends=theirs.extends)
    by_names = bool(theirs.files and mine.files)
    changes = list(_changes(theirs, theirs.fingerprint, mine, only_old=by_names))
    if changes or not by_names:
        # For example the same records, decoded to other pixels on another machine: a training cannot resume with them.
        changes = changes or [
            f"{name} {mine.fingerprint.get(name)} (there {theirs.fingerprint.get(name)})"
            for name in sorted({*mine.fingerprint, *theirs.fingerprint})
            if mine.fingerprint.get(name) != theirs.fingerprint.get(name)
        ]
        advice = _given_advice(mine) or (
            f"restore it (load_data(recipe, run={str(out)!r}) keeps the split), or start again with --overwrite"
        )
        raise ValueError(
            f"To resume, the data must be unchanged: {advice}. Received: {'; '.join(changes[:CHANGES_SHOWN])}"
        )
    return dataclasses.replace(mine, extends=(*theirs.extends, theirs.fingerprint))


def same_data(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether two fingerprints are equal, apart from unknown checksums."""
    return there.keys() == here.keys() and all(
        there[name] == here[name] or (name in (*SETS, CALIBRATION) and _unknown(there[name], here[name]))
        for name in there
    )


def _unknown(there: Any, here: Any) -> bool:
    """Whether two sets have equal sizes and the checksum of at least one is unknown."""
    if not there or not here or there["size"] != here["size"]:
        return False
    return UNKNOWN_CHECKSUM in (there["checksum"], here["checksum"])


def order_note(data: Any) -> str:
    """Note for a resumed or finished run whose data could not be compared completely; otherwise ""."""
    sources = {"data": data.train_source, "validation_data": data.validation_source}
    digests = {name: source.first_digest for name, source in sources.items() if hasattr(source, "first_digest")}
    notes = []
    unknown = " and of ".join(name for name, digest in digests.items() if digest == UNKNOWN_CHECKSUM)
    if unknown:
        notes.append(f"The order of {unknown} changes from pass to pass: it cannot be compared with the run's data.")
    partly = " and of ".join(name for name, digest in digests.items() if digest != UNKNOWN_CHECKSUM)
    if partly:
        notes.append(f"Only the length and the first batch of {partly} can be compared with those of the run.")
    return " ".join(notes)


def write_split_list(data: Any, listed: SplitList, out: Path) -> None:
    """Write the first files of a run: its list of files, its labels, and the skipped images."""
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
    """Record the data of a folder of many runs at the first of them, and refuse other data later.

    Args:
        data: A ``DataBundle``.
        folder: Folder of ``splits.json``.
        what: Name of the folder's content in the message.
    """
    mine, theirs = split_list(data), SplitList.load(folder)
    changes = [] if theirs is None else list(_changes(theirs, theirs.fingerprint, mine))
    if changes:
        advice = _given_advice(mine) or "restore it, or start again with --overwrite"
        shown = "; ".join(changes[:CHANGES_SHOWN])
        raise ValueError(f"{what} was started with other data: {advice}. Received: {shown}")
    mine.save(folder)


def _changes(
    old: SplitList | None, fingerprint: Mapping[str, Any], mine: SplitList, only_old: bool = False
) -> Iterator[str]:
    """Describe the differences from the old data; with ``only_old`` new files do not count."""
    now = mine.fingerprint
    if fingerprint["classes"] != now["classes"]:
        yield changed_classes(fingerprint["classes"], now["classes"])
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
        other = ", different ones" if sizes[0] == sizes[1] else ""
        yield f"{name}: {sizes[0]:,} (there {sizes[1]:,}){other}"


def changed_classes(there: list[str], here: list[str]) -> str:
    """Describe how two different lists of class names differ."""
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
    """Name -> its set; calibration images that are also trained on belong to "train"."""
    return {name: kind for kind in (CALIBRATION, *SETS) for name in files.get(kind, {})}
