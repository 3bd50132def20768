"""Truncated, empty or replaced files of a run: each is named with a remedy. No training, no pickles."""

import dataclasses
import html
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from wavemix_tf import cli, escaping, files, state_files
from wavemix_tf.command import run_folder
from wavemix_tf.state_files import DamagedFileError
from wavemix_tf.training import RECIPES
from wavemix_tf.training.data import identity
from wavemix_tf.training.data.bundle import DataBundle
from wavemix_tf.training.data.identity import SplitList
from wavemix_tf.training.fitting import checkpoint
from wavemix_tf.training.run_files import RunFiles
from wavemix_tf.training.searching.candidates import Candidates
from wavemix_tf.training.searching.search_result import SearchResult, Trial
from wavemix_tf.warning import WavemixWarning

RECIPE = RECIPES["digits"]
SUMMARY = {
    "stage": "float",
    "epochs": 2,
    "best_epoch": 2,
    "metric": "accuracy",
    "validation_score": 0.9,
    "validation_loss": 0.3,
    "seconds": 1.5,
    "test": None,
}
REPORT = {
    "format": 1,
    "name": "digits",
    "recipe": {},
    "dataset": {"class_names": ["0"], "sizes": {}, "image_shape": [8, 8, 1]},
    "model": {},
    "refused": {},
    "seconds": {},
    "results": [{"name": "float model", "runtime": "Keras"}],
    "exports": [],
    "verification": {},
}


class Reached:
    """Unpickled it leaves a trace."""

    def __reduce__(self):
        return (Path("/nowhere").joinpath, ("reached",))


def garbage(content):
    return bytes((7 * index + 13) % 256 for index in range(400))


def as_other_types(content):
    """JSON with every value replaced by a value of another type; of other files a list."""
    try:
        value = json.loads(content)
    except ValueError:
        return b"[1, 2]"
    return json.dumps({key: [None] if not isinstance(v, list) else 1 for key, v in value.items()}).encode()


DAMAGES = {
    "empty": lambda content: b"",
    "40 bytes": lambda content: content[:40],
    "half": lambda content: content[: len(content) // 2],
    "garbage": garbage,
    "other types": as_other_types,
    "a list": lambda content: b"[]",
    "null": lambda content: b"null",
    "a pickle": lambda content: pickle.dumps(Reached()),
    "deep": lambda content: b"[" * 100_000,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder, its float stage finished and its second one under way, written as training writes it."""
    out = tmp_path_factory.mktemp("runs") / "run"
    out.mkdir()
    (out / "recipe.json").write_text(RECIPE.to_json())
    (out / "training.json").write_text(json.dumps(SUMMARY, indent=1) + "\n")
    (out / "history.csv").write_text("epoch,loss,val_loss,accuracy,seconds\n1,2.25,2.5,0.25,0.7\n2,1.25,1.5,0.5,0.8\n")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
    model.save(out / "model.keras")
    state = checkpoint.TrainingState(epoch=1, best=(0.5, -1.0), history=[{"epoch": 1.0, "seconds": 2.0}])
    checkpoint.save(out / "qat_checkpoint.npz", state, {"model": [np.arange(300.0)], "optimizer": [np.zeros(2)]})
    return out


def damaged(folder, tmp_path, name, damage):
    """A copy of the folder with one file damaged."""
    out = tmp_path / "run"
    out.mkdir()
    for path in folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    content = DAMAGES[damage]((out / name).read_bytes())
    (out / name).write_bytes(content)
    return out


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["recipe.json", "training.json", "history.csv", "model.keras", "qat_checkpoint.npz"])
def test_a_verb_names_the_damaged_file_and_what_to_do(folder, tmp_path, capsys, name, damage):
    out = damaged(folder, tmp_path, name, damage)
    words = ["quantize", "--out"] if name.startswith("qat") else ["fit", "digits", "--out"]
    assert cli.main([*words, str(out)]) == 1
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0, told
    assert str(out / name) in told
    assert any(word in told for word in ("again", "delete it", "Restore")), told
    assert "allow_pickle" not in told


def test_whole_files_are_read(folder):
    run_folder.check_state(folder)
    assert RunFiles(folder, "float").read_result() == SUMMARY
    assert [row["val_loss"] for row in RunFiles(folder, "float").read_history()] == [2.5, 1.5]
    state, groups = checkpoint.load(folder / "qat_checkpoint.npz")
    assert (state.epoch, state.best) == (1, (0.5, -1.0))
    np.testing.assert_array_equal(groups["model"][0], np.arange(300.0))
    assert state_files.load_keras(folder / "model.keras", "").output_shape == (None, 8)


def test_a_flipped_byte_in_an_archive_is_found(folder, tmp_path):
    for name in ("model.keras", "qat_checkpoint.npz"):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"model\.keras"):
        state_files.check_keras_file(tmp_path / "model.keras", "")
    with pytest.raises(DamagedFileError, match=r"qat_checkpoint\.npz"):
        checkpoint.load(tmp_path / "qat_checkpoint.npz")


def test_an_archive_of_objects_is_not_unpickled(tmp_path):
    path = tmp_path / "checkpoint.npz"
    np.savez(path, header=np.array([Reached()], dtype=object))
    with pytest.raises(DamagedFileError, match="Python objects, which are never read") as error:
        checkpoint.load(path)
    assert "allow_pickle" not in str(error.value)


def test_a_model_of_another_kind_is_no_model(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("words.txt", "nothing")
    with pytest.raises(DamagedFileError, match=r"lacks metadata\.json, config\.json, model\.weights\.h5"):
        state_files.check_keras_file(tmp_path / "model.keras", "")


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "half"])
def test_a_report_is_reported_and_made_anew(folder, tmp_path, capsys, damage):
    out = damaged(folder, tmp_path, "training.json", "half")
    content = json.dumps(REPORT).encode()
    (out / "report.html").write_text("x")
    (out / "report.json").write_bytes(content)
    assert run_folder.finished_report(out, RECIPE) == REPORT
    (out / "report.json").write_bytes(DAMAGES[damage](content))
    assert run_folder.finished_report(out, RECIPE) is None
    told = capsys.readouterr().err
    assert str(out / "report.json") in told
    assert "All files are measured and it is written again." in told


OUTCOME = Trial("00", "completed", {"depth": 1}, 0.5, {"val_accuracy": 0.5}, {"macs": 7.0}, 1, 2.0, None, None, RECIPE)
FIELDS = json.loads(RECIPE.to_json())
SEARCH = {
    "search.json": {"objective": "val_accuracy", "direction": "max", "budget": {"macs": 9}, "recipe": FIELDS},
    "trials/00/outcome.json": OUTCOME.to_dict(),
    "costs.json": {"a network": {"macs": 7.0, "parameters": 12.0, "int8_bytes": 9.0}},
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", SEARCH)
def test_a_file_of_a_search_is_named(tmp_path, name, damage):
    for path, value in SEARCH.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(json.dumps(value))

    def read():
        Candidates(None, None, {}, path=tmp_path / "costs.json")
        return SearchResult.load(tmp_path)

    assert read().trials == (OUTCOME,)
    (tmp_path / name).write_bytes(DAMAGES[damage]((tmp_path / name).read_bytes()))
    with pytest.raises(DamagedFileError) as error:
        read()
    assert str(tmp_path / name) in str(error.value)
    assert any(word in str(error.value) for word in ("again", "Delete it"))


def test_a_missing_file_or_permission_is_the_systems_own_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        state_files.read_json(tmp_path / "absent.json", "")


# --- files of killed processes ---


def test_what_dead_processes_left_half_written_goes_and_what_others_write_stays(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    machine = files._machine()
    gone = [f".model.{dead.pid}.tmp.keras", f"exports/.a-b.c.{dead.pid}@{machine}.tmp.json", f".kit.{dead.pid}.tmp"]
    stay = [
        f".model.{os.getppid()}@{machine}.tmp.keras",
        f".model.{dead.pid}@another-machine.tmp.keras",
        ".hidden.tmp",
        "tmp.json",
        "model.keras",
    ]
    for name in [*gone, *stay]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / gone[2]).unlink()
    (tmp_path / gone[2]).mkdir()
    (tmp_path / gone[2] / "inside").write_text("x")
    assert sorted(files.remove_abandoned(tmp_path)) == sorted(tmp_path / name for name in gone)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == sorted([*stay, "exports"])
    old = 2 * files.ABANDONED_S
    os.utime(tmp_path / stay[1], (0, os.stat(tmp_path).st_mtime - old))
    assert files.remove_abandoned(tmp_path) == [tmp_path / stay[1]]


def test_a_folder_that_was_being_replaced_comes_back(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    kept = tmp_path / f".a_kit.{dead.pid}@{files._machine()}.old"
    kept.mkdir()
    (kept / "card").write_text("before")
    files.remove_abandoned(tmp_path)
    assert (tmp_path / "a_kit" / "card").read_text() == "before"


def test_names_of_temporary_files_tell_their_process(tmp_path):
    with files.replacing(tmp_path / "model.keras") as temporary:
        temporary.write_text("x")
        assert files.is_temporary(temporary)
        assert str(os.getpid()) in temporary.name
        assert temporary.suffix == ".keras"
        assert files.remove_abandoned(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


# --- user text on a terminal and in Markdown ---


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("photo [1].png", "photo [1].png"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\rb\tc\nd", r"a\rb\tc\nd"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udcff.png", r"\xff.png"),
        ("\x9b31m", r"\x9b31m"),
        ("日本 é 👩‍🔬", "日本 é 👩‍🔬"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert escaping.printable(text) == shown


def test_markdown_shows_text_as_it_is():
    markdown_it = pytest.importorskip("markdown_it")
    for text in ("a*b*_c_`d`", "<b>x</b>", "[a](b)", "# x", "a|b", "1\\2", "~~no~~", "&amp; & !"):
        shown = markdown_it.MarkdownIt().render(f"x {escaping.markdown(text)}")
        assert html.unescape(shown) == f"<p>x {text}</p>\n"


DATA = {
    "classes": ["a", "b"],
    "train": {"size": 3, "checksum": "ab", "origin": None},
    "validation": {"size": 3, "checksum": 5, "origin": 7},
    "test": None,
    "calibration": None,
}
NAN = float("nan")


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": -5},
        {"best_epoch": -5},
        {"best_epoch": 0},
        {"best_epoch": 3},
        {"seconds": NAN},
        {"seconds": -1.0},
        {"validation_score": NAN},
        {"validation_score": -0.1},
        {"validation_score": 5},
        {"validation_score": None},
        {"validation_loss": None},
        {"test": NAN},
        {"test": 1.5},
        {"metric": "psnr_y", "validation_score": float("inf")},
        {"data": 3},
        {"data": []},
        {"data": {}},
        {"data": {**DATA, "classes": 2}},
        {"data": {**DATA, "classes": [1]}},
        {"data": {**DATA, "train": 3}},
        {"data": {**DATA, "test": {}}},
        {"data": {**DATA, "train": {**DATA["train"], "size": -1}}},
        {"data": {**DATA, "train": {**DATA["train"], "size": None}}},
        {"data": {**DATA, "train": {**DATA["train"], "checksum": None}}},
        {"data": {**DATA, "train": {**DATA["train"], "origin": "x"}}},
    ],
    ids=str,
)
@pytest.mark.parametrize("stage", ["float", "qat"])
def test_a_result_that_no_training_reaches_is_damaged(tmp_path, stage, changes):
    files = RunFiles(tmp_path, stage)
    files.result.write_text(json.dumps({**SUMMARY, "stage": stage, "data": DATA, **changes}))
    with pytest.raises(DamagedFileError, match="To train this stage again: ") as caught:
        files.read_result()
    assert str(files.result) in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data": DATA},
        {"data": None},
        {"epochs": 0, "best_epoch": 0, "validation_score": None, "validation_loss": None, "seconds": 0},
        {"validation_loss": NAN, "metric": "psnr_y", "validation_score": NAN},  # it diverged
        {"metric": "psnr_y", "validation_score": 31.5, "test": 30},
    ],
    ids=str,
)
def test_a_result_that_a_training_reaches_is_read(tmp_path, changes):
    files = RunFiles(tmp_path, "float")
    files.result.write_text(json.dumps({**SUMMARY, **changes}))
    assert files.read_result().keys() == {**SUMMARY, **changes}.keys()


@pytest.mark.parametrize("part", ["fingerprint", "extends"])
def test_a_list_of_files_with_another_fingerprint_is_damaged(tmp_path, part):
    whole = {"format": 1, "fingerprint": DATA, "files": None, "extends": [DATA]}
    (tmp_path / "splits.json").write_text(json.dumps(whole))
    assert SplitList.load(tmp_path).fingerprint == DATA
    wrong = {**DATA, "train": {"size": "3"}}
    (tmp_path / "splits.json").write_text(json.dumps({**whole, part: wrong if part == "fingerprint" else [wrong]}))
    with pytest.raises(DamagedFileError, match=r"in the train set of its data, the field 'size' must be int"):
        SplitList.load(tmp_path)


def test_a_checkpoint_with_another_fingerprint_is_damaged(tmp_path):
    for fingerprint in ({**DATA, "class_weight": {"0": 2.0}}, {**DATA, "train": 3}):
        state = checkpoint.TrainingState(epoch=1, history=[{"epoch": 1.0, "seconds": 2.0}], fingerprint=fingerprint)
        checkpoint.save(tmp_path / "checkpoint.npz", state, {"model": [np.zeros(2)]})
        if fingerprint["train"] != 3:
            assert RunFiles(tmp_path, "float").read_checkpoint()[0]["fingerprint"] == fingerprint
    with pytest.raises(DamagedFileError, match=r"checkpoint.npz must be intact.*in the train set of its data"):
        RunFiles(tmp_path, "float").read_checkpoint()


@pytest.mark.parametrize("change", ["null", "deleted"])
@pytest.mark.parametrize("stage", ["float", "qat"])
def test_a_stage_without_a_fingerprint_of_its_data_is_reported(tmp_path, stage, change):
    (tmp_path / "images").mkdir()
    recipe = dataclasses.replace(RECIPE, dataset="folder", data_dir=str(tmp_path / "images"))
    summary = {**SUMMARY, "stage": stage, **({"data": None} if change == "null" else {})}
    files = RunFiles(tmp_path, stage)
    files.result.write_text(json.dumps(summary))
    told = rf"{files.result.name} has no fingerprint of the data: it cannot be checked whether the data is the same"
    with pytest.warns(WavemixWarning, match=told):
        identity.folder_is_as_trained(recipe, tmp_path)
    bundle = DataBundle((), (8, 8, 1), None, None, None, np.zeros((0, 8, 8, 1)))
    with pytest.warns(WavemixWarning, match=told):
        identity.check_trained_on(bundle, tmp_path, None, stage)
    adopted = {"epochs": 0, "best_epoch": 0, "validation_score": None, "validation_loss": None}
    files.result.write_text(json.dumps({**summary, **adopted}))  # no warning
    identity.folder_is_as_trained(recipe, tmp_path)
    identity.check_trained_on(bundle, tmp_path, None, stage)
