"""The command starts without Keras; a script of any name that imports the package has all of it."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binomtest

from wavemix_tf.command.arguments import apply_settings
from wavemix_tf.command.formats import interval, wilson_interval
from wavemix_tf.training import RECIPES

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


@pytest.mark.parametrize(
    ("program", "keras"),
    [
        ("from wavemix_tf.cli import script\nimport sys; print('keras' in sys.modules)", "False"),
        ("import wavemix_tf\nimport sys; print('keras' in sys.modules)", "True"),
        ("import wavemix_tf.files\nimport sys; print('keras' in sys.modules)", "True"),
    ],
)
def test_only_the_console_script_starts_without_keras(program, keras):
    assert run("-c", program).stdout.split() == [keras]


def test_a_mistyped_setting_names_what_it_may_have_meant():
    recipe = RECIPES["digits"]
    with pytest.raises(ValueError, match=r"did you mean batch_size.*Received: batchsize=3"):
        apply_settings(recipe, ["batchsize=3"])
    with pytest.raises(ValueError, match=r"did you mean epochs"):
        apply_settings(recipe, ["epoch=3"])
    with pytest.raises(ValueError, match=r"model_args alone has parts"):
        apply_settings(recipe, ["epochs.width=3"])
    with pytest.raises(ValueError, match=r"with KEY one of name, dataset"):
        apply_settings(recipe, ["zzz=3"])


@pytest.mark.parametrize(("right", "count"), [(0, 5), (90, 92), (92, 92), (5000, 10000)])
def test_the_interval_is_wilsons(right, count):
    expected = binomtest(right, count).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(right / count, count), (expected.low, expected.high), atol=1e-6)


def test_the_interval_as_text():
    assert interval(90 / 92, 92) == "92.4–99.4 %"
    assert interval(None, 92) == interval(0.5, 0) == "–"
