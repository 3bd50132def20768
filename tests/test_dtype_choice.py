"""`dtype_policy="auto"`: chosen by the time of a step, once for a run."""

import dataclasses

import keras
import numpy as np
import pytest

import wavemix_tf as wm
from wavemix_tf.training.distribution import Devices
from wavemix_tf.training.fitting import dtype_choice
from wavemix_tf.training.fitting.dtype_choice import with_dtype_policy
from wavemix_tf.training.run_files import RunFiles

RECIPE = dataclasses.replace(
    wm.training.RECIPES["digits"],
    dtype_policy="auto",
    epochs=1,
    warmup_epochs=0,
    model_args=dict(width=8, depth=1, dropout=0.0),
)


@pytest.fixture
def cpu(monkeypatch):
    """A processor that multiplies bfloat16, on which the steps take the given times."""
    monkeypatch.setattr(dtype_choice, "chosen_policy", lambda name: "mixed_bfloat16")
    monkeypatch.setattr(dtype_choice, "accelerator", lambda: None)
    times = {}

    def set_times(bfloat16, float32):
        times.update({"mixed_bfloat16": bfloat16, "float32": float32})
        monkeypatch.setattr(dtype_choice, "_step_ms", lambda recipe, policy, classes: times[policy])

    return set_times


@pytest.mark.parametrize(
    ("bfloat16", "float32", "chosen"),
    [(50, 100, "mixed_bfloat16"), (100, 100, "float32"), (200, 100, "float32"), (94, 100, "mixed_bfloat16")],
)
def test_the_faster_policy_is_chosen(cpu, capsys, bfloat16, float32, chosen):
    cpu(bfloat16, float32)
    assert with_dtype_policy(RECIPE, None, 10, Devices()).dtype_policy == chosen
    assert f"dtype_policy: {chosen} (auto, a step of 32 images" in capsys.readouterr().out


def test_the_hardware_decides_on_several_devices_and_where_it_has_no_bfloat16(cpu, monkeypatch):
    cpu(200, 100)
    assert with_dtype_policy(RECIPE, None, 10, Devices(count=2)).dtype_policy == "mixed_bfloat16"
    monkeypatch.setattr(dtype_choice, "accelerator", object)
    assert with_dtype_policy(RECIPE, None, 10, Devices()).dtype_policy == "mixed_bfloat16"
    monkeypatch.setattr(dtype_choice, "chosen_policy", lambda name: "float32")
    assert with_dtype_policy(RECIPE, None, 10, Devices()).dtype_policy == "float32"


def test_what_the_user_names_or_builds_stays(cpu):
    cpu(50, 100)
    named = dataclasses.replace(RECIPE, dtype_policy="float32")
    assert with_dtype_policy(named, None, 10, Devices()) is named
    assert with_dtype_policy(RECIPE, None, None, Devices()) is RECIPE


@pytest.mark.slow
def test_a_resumed_run_keeps_the_choice(cpu, tmp_path, rng):
    data = rng.integers(0, 256, (80, 8, 8, 1)).astype("uint8"), np.arange(80) % 10

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    recipe = dataclasses.replace(RECIPE, epochs=2)
    cpu(50, 100)
    with pytest.raises(KeyboardInterrupt):
        wm.training.fit(recipe, data=data, out=tmp_path, callbacks=[Stop()], verbose=0)
    assert RunFiles(tmp_path, "float").read_recipe().dtype_policy == "mixed_bfloat16"
    cpu(200, 100)
    result = wm.training.fit(recipe, data=data, out=tmp_path, verbose=0)
    assert result.resumed_epochs == 1
    assert result.model.dtype_policy.name == "mixed_bfloat16"
    again = wm.training.fit(recipe, data=data, out=tmp_path, verbose=0)  # nothing to do
    assert again.resumed_epochs == 2
    with pytest.raises(ValueError, match="dtype_policy='float32'"):
        wm.training.fit(dataclasses.replace(recipe, dtype_policy="float32"), data=data, out=tmp_path, verbose=0)


@pytest.mark.slow
def test_a_step_is_timed():
    assert 0 < dtype_choice._step_ms(RECIPE, "float32", 10) < 60_000
