"""The command starts without Keras; any other script that imports the package gets all of it."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import typer
from scipy.stats import binomtest

import wavemix_tf as wm
from wavemix_tf import cli
from wavemix_tf.command import predicting, terminal
from wavemix_tf.command.arguments import apply_settings
from wavemix_tf.command.command_line import CommandLine
from wavemix_tf.command.networks import Network
from wavemix_tf.command.pages.formats import interval, wilson_interval
from wavemix_tf.command.predicting import run_whole
from wavemix_tf.command.run_folder import check_out
from wavemix_tf.command.steps import network_name
from wavemix_tf.command.terminal import one_line
from wavemix_tf.tflite.names import DTYPES, IO_DTYPES
from wavemix_tf.tflite.targets.table import TARGETS
from wavemix_tf.training import RECIPES
from wavemix_tf.training.searching.spaces import SPACES
from wavemix_tf.training.searching.tuner import TUNERS
from wavemix_tf.warning import warn_user

SCRIPT = """
import sys
import keras
import wavemix_tf

model = keras.models.load_model(sys.argv[1])
print(type(model).__name__, model.get_layer("block1").__class__.__name__)
"""


def run(*words):
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["wavemix-tf.py", "wavemix-tf"])
def test_a_script_named_as_the_command_loads_models(name, tmp_path):
    from wavemix_tf import WaveMixClassifier

    WaveMixClassifier(num_classes=3, image_shape=(8, 8, 1), width=8, depth=1).save(tmp_path / "model.keras")
    (tmp_path / name).write_text(SCRIPT)
    done = run(tmp_path / name, tmp_path / "model.keras")
    assert done.stdout.split() == ["WaveMixClassifier", "WaveMixBlock"], done.stderr


@pytest.mark.slow
def test_python_m_starts_without_keras_only_for_the_command(tmp_path):
    def imported(module):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", module, *(["--version"] if module != "other" else [])],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        return re.search(r"\| +keras$", done.stderr, re.MULTILINE) is not None

    (tmp_path / "other.py").write_text("import wavemix_tf\n")
    assert not imported("wavemix_tf")
    assert not imported("wavemix_tf.cli")
    assert imported("other")


@pytest.mark.parametrize(
    ("program", "keras"),
    [
        ("from wavemix_tf.cli import script\nimport sys; print('keras' in sys.modules)", "False"),
        ("import wavemix_tf\nimport sys; print('keras' in sys.modules)", "True"),
        ("import wavemix_tf.files\nimport sys; print('keras' in sys.modules)", "True"),
    ],
    ids=["script", "package", "module"],
)
@pytest.mark.slow
def test_only_the_console_script_starts_without_keras(program, keras):
    assert run("-c", program).stdout.split() == [keras]


def test_a_mistyped_setting_names_what_it_may_have_meant():
    recipe = RECIPES["digits"]
    with pytest.raises(ValueError, match=r"did you mean batch_size.*Received: batchsize=3"):
        apply_settings(recipe, ["batchsize=3"])
    with pytest.raises(ValueError, match=r"did you mean epochs or qat_epochs\? Received: epoch=3"):
        apply_settings(recipe, ["epoch=3"])
    with pytest.raises(ValueError, match=r"only model_args has parts"):
        apply_settings(recipe, ["epochs.width=3"])
    with pytest.raises(ValueError, match=r"with KEY one of name, dataset"):
        apply_settings(recipe, ["zzz=3"])


def test_wrong_words_end_in_one_full_stop(capsys):
    for words in (["benchmark", "--out", "x", "--threads", "0"], ["benchmark"], ["nothing"], ["verify"]):
        assert cli.main(words) == 2
        told = capsys.readouterr().err.strip()
        verb = "" if words == ["nothing"] else f"{words[0]} "
        assert told.endswith(f". See: wavemix-tf {verb}--help"), told
        assert ".. See" not in told


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("bad.png; on_bad_image='skip' leaves it out", "bad.png; --set on_bad_image=skip leaves it out"),
        ("use another folder, or overwrite=True. Received: epochs=3", None),
        (
            "must be whole. Received: a.png; on_bad_image='skip' leaves it",
            "must be whole. Received: a.png; --set on_bad",
        ),
        ("runs/seed=1 is no run folder. Received: runs/seed=1", "runs/seed=1 is no run folder. Received: runs/seed=1"),
        ("set download=True to fetch it. Received: data_dir=None", "set --set download=true to fetch it"),
        ("type --set mask_values=0,255. Received: x", "type --set mask_values=0,255. Received: x"),
        ("at least 2 (model_args.width=8)", "at least 2 (model_args.width=8)"),
    ],
)
def test_errors_advise_the_commands_options(message, shown):
    text = one_line(ValueError(message))
    assert text.startswith(shown or "use another folder, or --overwrite. Received: epochs=3")


@pytest.mark.parametrize(
    ("message", "export", "run"),
    [
        (
            "Received: 31 images (given). Give more, or accept a file by allow_unjudged=True.",
            "Received: 31 images (given). Give more, or accept a file by --allow-unjudged.",
            "Received: 31 images (given). Give more, or accept a file by `wavemix-tf export --allow-unjudged`.",
        ),
        ("accept it by min_snr_db.", "accept it by --min-snr-db.", "accept it by `wavemix-tf export --min-snr-db`."),
        ("Received: min_snr_db=nan", "Received: --min-snr-db nan", "Received: `wavemix-tf export --min-snr-db nan`"),
        ("allowed are max_flash_bytes=1,024. Its", "allowed are --max-flash-bytes 1,024. Its", None),
        ("and max_flash_bytes for the file.", "and --max-flash-bytes for the file.", None),
        ("io_dtype='int8', and no float layer", "--io-dtype int8, and no float layer", None),
        ("accelerator is one. Received: accelerator='x'", "accelerator is one. Received: --accelerator x", None),
        (
            "Give class_names=() where there are none, or upsample_form='subpixel_3x3', which",
            "Give class_names=() in Python where there are none, or upsample_form='subpixel_3x3' in Python, which",
            "Give class_names=() in Python where there are none, or upsample_form='subpixel_3x3' in Python, which",
        ),
    ],
)
def test_errors_advise_the_options_of_export(message, export, run):
    for verb, shown in (("export", export), ("run", run or message)):
        assert terminal.as_options(message, verb) == terminal.as_options(shown, verb) == shown


def test_a_refused_file_and_a_warning_advise_options(capsys):
    from wavemix_tf.command import exports
    from wavemix_tf.tflite import ExportError

    export, run = CommandLine(("export",)), CommandLine(("run",))
    refused = exports.Refusals()
    with exports._collecting_refusals(export, Path("a b"), "mcu", "int8", refused):
        raise ExportError("Received: x. Accept it by min_agreement.")
    assert refused == {"mcu-int8": "Received: x. Accept it by --min-agreement."}
    with exports._collecting_refusals(run, Path("a b"), "mcu", "int8", refused):
        raise ExportError("Received: x. Accept it by allow_unjudged=True.")
    command = "`wavemix-tf export --out 'a b' --target mcu --dtype int8 --allow-unjudged`"
    assert refused == {"mcu-int8": f"Received: x. Accept it by {command}."}
    with terminal.suppress_tensorflow_logs(export):
        warn_user("Far from it: accept it by min_snr_db.")
    assert capsys.readouterr().err == "note: Far from it: accept it by --min-snr-db.\n"
    with terminal.suppress_tensorflow_logs(run):
        with exports._collecting_refusals(run, Path("a b"), "mcu", "int8", refused):
            warn_user("Very far from it: accept it by min_snr_db.")
        warn_user("Nobody is asked: accept it by min_snr_db.")
    command = "`wavemix-tf export --out 'a b' --target mcu --dtype int8 --min-snr-db`"
    assert capsys.readouterr().err == (
        f"note: Very far from it: accept it by {command}.\n"
        "note: Nobody is asked: accept it by `wavemix-tf export --min-snr-db`.\n"
    )


@pytest.mark.parametrize("damaged", [False, True])
def test_only_a_judgment_of_a_file_is_the_answer_no(damaged):
    """A file that is too large is refused (exit code 3); a damaged one is an error (exit code 1)."""
    from wavemix_tf.command import exports
    from wavemix_tf.command.verdict import is_verdict
    from wavemix_tf.tflite import ExportError, MemoryLimitError
    from wavemix_tf.tflite.file.flatbuffer import read_file

    refused, line = exports.Refusals(), CommandLine(("export",))
    exports.raise_if_refused(refused)
    with exports._collecting_refusals(line, Path("out"), "mcu", "int8", refused):
        raise MemoryLimitError("The file is too large.")
    if damaged:
        with exports._collecting_refusals(line, Path("out"), "c", "int8", refused):
            read_file(b"no file")
    with pytest.raises(ValueError, match=r"mcu-int8 was not written\. The file is too large") as found:
        exports.raise_if_refused(refused)
    assert is_verdict(found.value) != damaged
    assert isinstance(found.value, ExportError) == damaged


def test_the_words_of_a_command():
    line = CommandLine(("run", "digits", "--out", "a b", "--overwrite", "--debug"))
    assert (line.verb, line.debug) == ("run", True)
    assert str(line.without("--overwrite")) == "wavemix-tf run digits --out 'a b' --debug"
    assert (CommandLine().verb, CommandLine().debug, str(CommandLine())) == ("", False, "wavemix-tf")


def help_of(capsys, verb, option):
    """The help of one option, without the breaks of its lines."""
    assert cli.main([verb, "--help"]) == 0
    lines = [line.strip("│ \n") for line in capsys.readouterr().out.splitlines()]
    start = next(index for index, line in enumerate(lines) if line.startswith(option))
    end = next(index for index in range(start + 1, len(lines)) if lines[index].startswith(("--", "╰")))
    return " ".join(" ".join(lines[start:end]).split())


def test_no_help_text_is_taken_for_markup():
    """Rich drops words in square brackets."""
    texts = []
    for name, command in typer.main.get_command(cli.app).commands.items():
        texts += [(name, command.help or "")]
        texts += [(f"{name} {part.name}", getattr(part, "help", None) or "") for part in command.params]
    assert len(texts) > 50
    assert [where for where, text in texts if re.search(r"\[[a-z]", text)] == []


@pytest.mark.parametrize(
    ("verb", "option", "names"),
    [
        ("export", "--target", TARGETS),
        ("export", "--dtype", DTYPES),
        ("export", "--io-dtype", IO_DTYPES),
        ("tune", "--space", SPACES),
        ("tune", "--tuner", TUNERS),  # repeated in the verb: importing this table imports Keras
    ],
)
def test_the_help_lists_what_the_tables_hold(capsys, verb, option, names):
    shown = help_of(capsys, verb, option)
    listed = re.search(r"(?:[\w-]+, )*[\w-]+ or [\w-]+", shown).group()
    assert sorted(re.split(", | or ", listed)) == sorted(names), shown


def test_the_version(tmp_path):
    assert run("-c", "from wavemix_tf.cli import main; main(['--version'])").stdout == f"wavemix-tf {wm.__version__}\n"


def test_networks_are_called_what_they_are():
    small = dict(num_classes=3, image_shape=(16, 16, 3))
    assert network_name(wm.WaveMixClassifier(**small, width=8, depth=2)) == "WaveMix 8/2"
    assert network_name(wm.ConvMixer(**small, width=8, depth=2)) == "ConvMixer 8/2"
    fourier = wm.TokenMixerClassifier(**small, width=8, depth=1, mixer="fourier")
    assert network_name(fourier) == "TokenMixerClassifier (fourier) 8/1"
    inputs = keras.Input((4,), name="x")
    assert network_name(keras.Model(inputs, keras.layers.Dense(2)(inputs), name="mine")) == "mine"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: out of memory")])
def test_no_memory_is_not_answered_by_a_larger_image(error):
    sizes = []

    def fails(images):
        sizes.append(images.shape[1:3])
        raise error

    with pytest.raises(type(error)):
        run_whole(SimpleNamespace(run=fails, scale=1, fixed=False), np.zeros((1, 100, 100, 3), np.float32))
    assert sizes == [(100, 100)]


def test_an_image_that_does_not_fit_in_memory_does_not_end_the_others():
    def run(images):
        if images[0].max() > 0.9 or len(images) > 1:
            raise RuntimeError("OOM: ResourceExhaustedError")
        return np.zeros((1, 3), np.float32)

    def image(name, level):
        return SimpleNamespace(name=name, read=lambda channels, deep: np.full((8, 8, 3), level, np.uint8))

    network = Network(run, (8, 8, 3), "classification", 3, 1, ("a", "b", "c"), None, (), most_images=4)
    failed = []
    images = [image("a.png", 10), image("b.png", 255), image("c.png", 20)]
    done = list(
        predicting._computed(images, network, False, lambda one, error: failed.append((one.name, str(error))), {})
    )
    assert [one.name for one, *_ in done] == ["a.png", "c.png"]
    assert [name for name, _ in failed] == ["b.png"]
    assert "--tile runs masks" in failed[0][1]


@pytest.mark.parametrize(("right", "count"), [(0, 5), (90, 92), (92, 92), (5000, 10000)])
def test_the_interval_is_wilsons(right, count):
    expected = binomtest(right, count).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(right / count, count), (expected.low, expected.high), atol=1e-6)


def test_the_interval_as_text():
    assert interval(90 / 92, 92) == "92.4–99.4 %"
    assert interval(None, 92) == interval(0.5, 0) == "–"


def test_a_folder_that_cannot_be_made_is_refused_before_data_are_read(tmp_path, capsys):
    (tmp_path / "file").touch()
    for verb in ("run", "fit", "tune", "compare"):
        words = [verb, "digits", "--out", str(tmp_path / "file" / "below")]
        assert cli.main([*words, "--budget", "3M-macs"] if verb == "tune" else words) == 1
        told = capsys.readouterr().err.strip()
        assert "--out must be a folder that can be created and written: use another. Received: " in told
        assert told.count("\n") == 0
    check_out(tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_damaged_recipe_is_reported_with_a_remedy(tmp_path, capsys):
    (tmp_path / "recipe.json").write_text('{"name": ')
    assert cli.main(["run", str(tmp_path / "recipe.json"), "--out", str(tmp_path / "out")]) == 1
    assert "Restore the file, or name another recipe" in capsys.readouterr().err
    (tmp_path / "images" / "a").mkdir(parents=True)
    assert cli.main(["run", "--data", str(tmp_path / "images"), "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert f"or start again: `wavemix-tf run RECIPE --out {tmp_path} --overwrite`" in told
