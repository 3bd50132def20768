"""The folder ``exports/`` of a run: its files, their kits, and the model that each was made from."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..tflite.errors import ExportError, MemoryLimitError, UnsupportedOpError
from ..tflite.exporting.artifact import Artifact, check_code_name_is_free
from ..tflite.exporting.exporter import export, model_sha256
from ..tflite.exporting.fidelity import verify_images
from ..tflite.exporting.limits import MemoryUse, check_arguments, check_limits, check_runtime
from ..tflite.file.flatbuffer import read_file
from ..tflite.file.model_cards import card_path
from ..tflite.kit.existing import kit_digest, vectors_json
from ..tflite.kit.projects.table import PROJECTS
from ..tflite.kit.projects.writer import project_digest, project_name
from ..tflite.runtimes.ethos import require_vela
from ..tflite.targets.table import get_target
from ..training.data.bundle import DataBundle
from ..training.data.sources import whole_pictures
from ..training.recipe import Recipe
from . import predictions
from .command_line import CommandLine, shell
from .file_checks import CALIBRATION_IMAGES, verification_images
from .measuring import measure, merged
from .pages.formats import kibibytes
from .pages.report import write_report
from .run_folder import PREDICTIONS_FILE, exported, read_report, saved_recipe
from .steps import load_model, trained_model
from .terminal import advising_export, as_options, console, headline, note, status
from .verdict import VerdictError, is_verdict

KIT_IMAGES = 4
LIMITS = ("max_arena_bytes", "max_flash_bytes", "accelerator", "max_firmware_bytes", "min_runtime")


def check_tools(pairs: Sequence[tuple[str, str]]) -> None:
    """Raise ExportError, before any training, if the compiler of a target is not installed."""
    if any(get_target(target).npu is not None for target, _ in pairs):
        require_vela()


def write_exports(
    line: CommandLine,
    out: Path,
    chosen: Sequence[tuple[str, str]],
    models: dict[str, Any],
    data: DataBundle,
    io_dtype: str | None = None,
    overwrite: bool = False,
    code_name: str | None = None,
    **limits: Any,
) -> tuple[list[tuple[str, Artifact]], Refusals]:
    """Export, check and save the chosen files; read those that the run folder already holds.

    Args:
        line: The running command, for its advice.
        out: Run folder.
        chosen: (target, dtype) pairs.
        models: "float32" and "int8" -> trained Keras model; a float model under "int8" is quantized first.
        data: For verification, and for calibration of a float model.
        io_dtype: As for ``export``.
        overwrite: Replace existing files.
        code_name: As ``name`` of ``export``; None: existing files keep theirs.
        **limits: ``max_arena_bytes``, ``max_flash_bytes``, ``max_firmware_bytes``, ``min_runtime``, ``accelerator``,
            ``min_snr_db``, ``min_agreement`` and ``allow_unjudged``, as for ``export``; an existing file that does not
            meet them, or must be judged again, is exported again.

    Returns:
        (name, file) of the files that passed, and name -> reason of the refused ones.
    """
    for target, _ in chosen:
        check_arguments(target, get_target(target), *(limits.get(key) for key in LIMITS))
    if not overwrite:
        check_source(out, chosen, models)
    images, seen = verification_images(data, verify_images(models[min(models)]))
    if seen:
        console.print(
            f"  There are only {len(images) - seen} validation images: files are also verified on {seen} calibration "
            "images, which were used in training. More images make the check stricter."
        )
    artifacts: list[tuple[str, Artifact]] = []
    refused = Refusals()
    for target, dtype in chosen:
        name = f"{target}-{dtype}"
        path = out / "exports" / f"{name}.tflite"
        model = models["int8" if dtype == "int8" else "float32"]
        there = Artifact.load(path) if path.is_file() and not overwrite else None
        kept = there.code_name if there is not None and code_name is None else code_name
        check_code_name_is_free(path, target, kept)
        if there is not None and there.code_name != kept:
            there = dataclasses.replace(there, code_name=kept)
            there.save(path, overwrite=True)
            console.print(f"  {name}: code named {kept}")
        if there is not None and not any_limit_given(limits):
            artifacts.append((name, there))
            continue
        if there is not None and _is_within(there, limits):
            artifacts.append((name, there))
            console.print(f"  {name}: {kibibytes(there.size_bytes)}, within the limits")
            continue
        with status(f"  {name}"), _collecting_refusals(line, out, target, dtype, refused):
            artifact = export(
                model,
                target=target,
                dtype=dtype,
                io_dtype=there.io_dtype if there is not None and io_dtype is None else io_dtype,
                calibration=data.calibration if dtype in ("int8", "int16x8") else None,
                images=images,
                class_names=data.class_names,
                crop_to_aspect_ratio=saved_recipe(out).crop_to_aspect_ratio,
                name=kept,
                **limits,
            )
            if seen:
                verification = {**artifact.verification, CALIBRATION_IMAGES: seen}
                artifact = dataclasses.replace(artifact, verification=verification)
            artifact.save(path, overwrite=True)
            _remove_kit(_kit_folder(path), artifact.sha256)
            _name_old_projects(path, artifact.sha256)
            artifacts.append((name, artifact))
        state = "refused" if name in refused else f"{kibibytes(artifact.size_bytes)}, passed every check"
        console.print(f"  {name}: {state}")
    return artifacts, refused


def _is_within(file: Artifact, limits: Mapping[str, Any]) -> bool:
    """Return whether limits of memory and runtime are all that is given, and a file that exists meets them."""
    memory = {"max_arena_bytes", "max_flash_bytes", "max_firmware_bytes", "min_runtime"}
    if any_limit_given({key: value for key, value in limits.items() if key not in memory}):
        return False
    row = get_target(file.target)
    asked = check_arguments(file.target, row, *(limits.get(key) for key in LIMITS))
    info = read_file(file.content)
    try:
        check_limits(asked, MemoryUse.of(row, file.content, file.arena_bytes, file.npu), info, file.target)
        check_runtime(file.content, asked, info)
    except (MemoryLimitError, UnsupportedOpError):
        return False
    return True


def any_limit_given(limits: Mapping[str, Any]) -> bool:
    """Return whether one of the limits of ``write_exports`` is given: 0 is a limit, False is not."""
    return any(value is not None and value is not False for value in limits.values())


class Refusals(dict[str, str]):
    """Name -> reason of the files that were not written.

    Attributes:
        failed: Names of those that an error kept from being written, such as a damaged file: nothing judged them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed: set[str] = set()


@contextmanager
def _collecting_refusals(line: CommandLine, out: Path, target: str, dtype: str, refused: Refusals) -> Iterator[None]:
    """Collect a refusal, so that neither the other files nor the finished training are lost."""
    exporting = ("--out", str(out), "--target", target, "--dtype", dtype)
    try:
        with advising_export(line, exporting):
            yield
    except ExportError as error:
        name = f"{target}-{dtype}"
        refused[name] = as_options(str(error), line.verb, exporting)
        if not is_verdict(error):
            refused.failed.add(name)


def raise_if_refused(refused: Refusals) -> None:
    """Raise VerdictError if a file was refused, or ExportError if an error kept one from being written."""
    if refused:
        error = ExportError if refused.failed else VerdictError
        raise error("; ".join(f"{name} was not written. {reason}" for name, reason in refused.items()))


def all_exported(out: Path, chosen: Sequence[tuple[str, str]], io_dtype: str | None) -> bool:
    """Return whether the run folder holds the chosen files; FileExistsError if one has another ``io_dtype``."""
    paths = [out / "exports" / f"{target}-{dtype}.tflite" for target, dtype in chosen]
    for path in filter(Path.is_file, paths):
        there = Artifact.load(path).io_dtype
        if io_dtype not in (None, there):
            raise FileExistsError(
                f"{path} exists: --overwrite replaces it. Received: --io-dtype {io_dtype}, the file has {there}"
            )
    return all(map(Path.is_file, paths))


def all_named(out: Path, chosen: Sequence[tuple[str, str]], code_name: str | None) -> bool:
    """Return whether the chosen files (all exist) have code of this name; True for None."""
    paths = [out / "exports" / f"{target}-{dtype}.tflite" for target, dtype in chosen]
    return code_name is None or all(Artifact.load(path).code_name == code_name for path in paths)


def check_source(out: Path, chosen: Sequence[tuple[str, str]], models: dict[str, Any]) -> None:
    """Raise a FileExistsError if an existing chosen file was not made from ``models``."""
    digests = {kind: model_sha256(model) for kind, model in models.items()}
    for target, dtype in chosen:
        path = out / "exports" / f"{target}-{dtype}.tflite"
        if not path.is_file():
            continue
        made_from = Artifact.load(path).model_sha256
        own = digests["int8" if dtype == "int8" else "float32"]
        if made_from != own:
            raise FileExistsError(
                f"{path} was made from another model: --overwrite replaces it. Received: model {own[:12]}, "
                f"file of {made_from[:12]}"
            )


def saved_exports(out: Path, target: str | None, dtype: str | None) -> list[tuple[str, Artifact]]:
    """Load the files of a run folder for a target and a dtype (None: all).

    Raises:
        FileNotFoundError: There is none.
        ExportError: One of them is damaged, or has no model card, so that its tolerances are unknown.
    """
    found = []
    for path in exported(out):
        try:
            found.append((path.stem, Artifact.load(path)))
        except ExportError as error:
            if all(word in path.stem for word in (target, dtype) if word):  # its name is one of those chosen
                raise
            note(str(error))
    chosen = [(n, a) for n, a in found if target in (None, a.target) and dtype in (None, a.dtype)]
    if not chosen:
        options = [(f"--{key}", value) for key, value in (("target", target), ("dtype", dtype)) if value]
        asked = " ".join(" ".join(option) for option in options)
        made_by = shell("export", "--out", out, *(word for option in options for word in option))
        raise FileNotFoundError(
            f"{out}/exports has no file{' for ' if asked else ''}{asked}: `{made_by}` makes them. "
            f"Received: {', '.join(name for name, _ in found) or 'an empty folder'}"
        )
    return chosen


def made_from_other_models(out: Path, artifacts: Sequence[tuple[str, Artifact]]) -> list[str]:
    """Return the names of files that were made from neither of the run's models: their reference is unknown."""
    there = [path for path in (out / "model.keras", out / "qat.keras") if path.is_file()]
    digests = {model_sha256(load_model(path)) for path in there}
    return [name for name, artifact in artifacts if artifact.model_sha256 not in digests]


def other_exports_of(
    out: Path, models: dict[str, Any], besides: Sequence[tuple[str, Artifact]]
) -> list[tuple[str, Artifact]]:
    """Return other files in ``exports/`` that were made from these models."""
    digests = {kind: model_sha256(model) for kind, model in models.items()}
    names = {name for name, _ in besides}
    others = []
    for path in exported(out):
        if path.stem in names or not card_path(path).is_file():
            continue
        artifact = Artifact.load(path)
        if artifact.model_sha256 == digests["int8" if artifact.dtype == "int8" else "float32"]:
            others.append((path.stem, artifact))
        else:
            note(f"{path} was made from another model: the report omits it")
    return others


def delete_exports(out: Path) -> None:
    """Remove everything made from weights that are about to change: report, exported files and kits."""
    stale = [out / "report.json", out / "report.html", out / PREDICTIONS_FILE]
    if (out / "exports").is_dir():
        stale += [path for path in (out / "exports").iterdir() if path.is_file()]
        for path in (path for path in stale if path.suffix == ".tflite"):
            _remove_kit(_kit_folder(path))
            _name_old_projects(path)
    for path in stale:
        path.unlink(missing_ok=True)


def kits_missing(out: Path, chosen: Sequence[tuple[str, str]]) -> bool:
    """Return whether a chosen file (all exist) has no kit or the kit of another file."""
    paths = [out / "exports" / f"{target}-{dtype}.tflite" for target, dtype in chosen]
    return any(not _has_kit(path, Artifact.load(path)) for path in paths)


def _has_kit(path: Path, artifact: Artifact) -> bool:
    """Return whether the file at ``path`` has a kit of its content and its name."""
    vectors = vectors_json(_kit_folder(path))
    if vectors is None or kit_digest(_kit_folder(path)) != artifact.sha256:
        return False
    return vectors.parent.name == (artifact.code_name or path.stem)


def _kit_folder(path: Path) -> Path:
    return path.with_name(f"{path.stem}_kit")


def projects_missing(out: Path, chosen: Sequence[tuple[str, str]], project: str | None) -> bool:
    """Return whether a chosen file (all exist) has no project of this kind or that of another file."""
    if project is None:
        return False
    paths = [out / "exports" / f"{target}-{dtype}.tflite" for target, dtype in chosen]
    return any(not _has_project(path, project, Artifact.load(path)) for path in paths)


def _has_project(path: Path, project: str, artifact: Artifact) -> bool:
    """Return whether the file at ``path`` has a project of its content and its name."""
    folder = _project_folder(path, project)
    return project_digest(folder) == artifact.sha256 and project_name(folder) == (artifact.code_name or path.stem)


def _project_folder(path: Path, project: str) -> Path:
    return path.with_name(f"{path.stem}_{project}")


def _remove_kit(folder: Path, sha256: str | None = None) -> None:
    """Remove a kit that was not made of the file of this digest. A folder that is no kit stays."""
    if kit_digest(folder) not in (None, sha256):
        shutil.rmtree(folder, ignore_errors=True)
        note(f"{folder} was the kit of an earlier file and was removed; --kit writes it again")


def _name_old_projects(path: Path, sha256: str | None = None) -> None:
    """Say which projects hold an earlier file than that of this digest. They stay: users work in them."""
    for project in PROJECTS:
        folder = _project_folder(path, project)
        if project_digest(folder) not in (None, sha256):
            note(f"{folder} is a project of an earlier file; --project {project} writes it again")


def measure_exports(
    line: CommandLine,
    out: Path,
    recipe: Recipe,
    data: DataBundle,
    artifacts: Sequence[tuple[str, Artifact]],
    limit: int,
    kits: bool,
) -> dict[str, Any] | None:
    """Measure the files that the run's report does not have, and add their rows to it.

    Args:
        line: The running command, for a new report.
        out: Run folder.
        recipe: Recipe of the run.
        data: Data of the run.
        artifacts: (name, file).
        limit: Largest number of test images, if there is no report yet.
        kits: Whether kits need the accuracies even without a report.

    Returns:
        The report, with a row for every file; None if there is no report and ``kits`` is False.
    """
    report = read_report(out)
    # A file exported again with other limits may have the same content.
    rows = [row for row in report["exports"] if "per_op" in row] if report else []  # earlier versions wrote none
    known = [(row["card"].get("sha256"), row.get("float_model_bounds")) for row in rows]
    unknown = [
        (name, artifact)
        for name, artifact in artifacts
        if (artifact.sha256, artifact.verification.get("float_model_bounds")) not in known
    ]
    if not unknown or (report is None and not kits):
        return report
    headline("Run the test images through the new files")
    limit = report["dataset"].get("tested", limit) if report else limit
    models = {"float32": load_model(out / "model.keras")}
    tuned = (out / "qat.keras").is_file()
    if tuned:
        models["int8"] = load_model(out / "qat.keras")
    # Without fine-tuning, each int8 file has its own quantized model.
    alone = [pair for pair in unknown if pair[1].dtype == "int8" and not tuned]
    for part in ([pair for pair in unknown if pair not in alone], *([pair] for pair in alone)):
        if not part:
            continue
        own = {"int8": trained_model(out, part[0][1], data)} if part[0] in alone else {}
        found = measure(recipe, data, {**models, **own}, part, limit)
        if report is None:
            report, whose = {**found.report, "refused": {}, "seconds": {}, "command": str(line)}, True
        else:
            report, whose = merged(report, found)
        if (out / "report.json").is_file():
            if whose:
                predictions.write(out, found.predictions)
            write_report(out, report)
    return report


def write_kits(
    out: Path, artifacts: Sequence[tuple[str, Artifact]], data: DataBundle, report: dict[str, Any] | None
) -> None:
    """Write the deployment kit of each file, with test vectors from the test images; keep kits that are up to date."""
    given = _vector_images(out, data)
    for name, artifact in artifacts:
        path = out / "exports" / f"{name}.tflite"
        folder = _kit_folder(path)
        if _has_kit(path, artifact):
            continue
        with console.status(f"  {name}: kit"):
            replace = kit_digest(folder) is not None
            artifact.save_kit(folder, overwrite=replace, report=report, **given(artifact))
        console.print(f"  {folder}/: written")


def write_projects(
    out: Path,
    project: str,
    artifacts: Sequence[tuple[str, Artifact]],
    data: DataBundle,
    report: dict[str, Any] | None,
    overwrite: bool = False,
) -> None:
    """Write a project of each file, with test vectors from the test images.

    A project that is up to date is kept unless ``overwrite``; one whose files were edited is never replaced.
    """
    given = _vector_images(out, data)
    for name, artifact in artifacts:
        path = out / "exports" / f"{name}.tflite"
        folder = _project_folder(path, project)
        if _has_project(path, project, artifact) and not overwrite:
            continue
        with console.status(f"  {name}: {PROJECTS[project].title} project"):
            replace = overwrite or project_digest(folder) is not None
            artifact.save_project(folder, project, overwrite=replace, report=report, **given(artifact))
        console.print(f"  {folder}/: written")


def _vector_images(out: Path, data: DataBundle) -> Callable[[Artifact], dict[str, Any]]:
    """Return a function from a file to the test images of its vectors, as arguments of ``save_kit``."""
    images, labels = data.sample("test", KIT_IMAGES)
    pictures = whole_pictures(data.test_source, saved_recipe(out), len(images))
    classes = labels if labels.ndim == 1 else None
    return lambda artifact: {
        "images": images,
        "pictures": pictures if artifact.preprocessing is not None else None,
        "labels": classes,
    }
