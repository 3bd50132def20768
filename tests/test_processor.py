"""The processor's instructions, and the dtype policies that follow from them."""

import dataclasses
import warnings

import keras
import pytest
from keras import layers

from wavemix_tf import processor
from wavemix_tf.command.pages.result_table import section
from wavemix_tf.training import RECIPES, dtypes
from wavemix_tf.training.tasks import task_of
from wavemix_tf.warning import WavemixWarning

LAPTOP = "processor\t: 0\nmodel name\t: AMD Ryzen 5\nflags\t\t: fpu sse2 avx2 fma\nprocessor\t: 1\nflags\t\t: avx512f\n"
SERVER = "model name\t: Xeon\nflags\t\t: avx512f avx2 amx_bf16 avx512_vnni avx512_bf16 avx512_fp16\n"
PHONE = "processor\t: 0\nFeatures\t: fp asimd asimddp bf16\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Make this machine's /proc/cpuinfo say something else."""

    def set_text(text):
        (tmp_path / "cpuinfo").write_text(text)
        for function in (processor.processor_name, processor.processor_features):
            function.cache_clear()

    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    yield set_text
    for function in (processor.processor_name, processor.processor_features):
        function.cache_clear()


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        (LAPTOP, "AMD Ryzen 5", ("avx2",)),  # of the first core
        (SERVER, "Xeon", ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16")),
        (PHONE, None, ("asimddp", "bf16")),
        ("flags : fpu\n", None, ()),
    ],
    ids=["laptop", "server", "phone", "old"],
)
def test_features_are_read_as_linux_names_them(text, name, features, machine):
    machine(text)
    assert processor.processor_features() == features
    assert processor.features_text() == (", ".join(features) or "none")
    assert name is None or processor.processor_name() == name


def test_an_unknown_system_has_unknown_features(machine, monkeypatch):
    machine("")
    monkeypatch.setattr(processor.platform, "system", lambda: "Windows")
    assert processor.processor_features() is None
    assert processor.features_text() == ""
    assert processor.processor_name()


def network(policy):
    keras.backend.clear_session()
    return keras.Sequential([layers.Input((4,)), layers.Dense(2, dtype=policy)])


@pytest.mark.parametrize(
    ("text", "chosen", "slow"),
    [
        (LAPTOP, "float32", ("mixed_bfloat16", "mixed_float16")),
        (SERVER, "mixed_bfloat16", ()),
        (PHONE, "mixed_bfloat16", ("mixed_float16",)),
    ],
    ids=["laptop", "server", "phone"],
)
def test_the_policy_follows_the_processor(text, chosen, slow, machine, monkeypatch):
    machine(text)
    monkeypatch.setattr(dtypes, "accelerator", lambda: None)
    assert dtypes.chosen_policy("auto") == chosen
    assert dtypes.chosen_policy("mixed_float16") == "mixed_float16"
    recipe = dataclasses.replace(RECIPES["digits"], dtype_policy="auto", model_args=dict(width=8, depth=1))
    assert task_of(recipe, 10).build().layers[2].dtype_policy.name == chosen
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            dtypes.warn_if_emulated(network(policy))
        assert [str(one.message)[:40] for one in found if one.category is WavemixWarning] == (
            ["This processor has no instructions for " + policy.removeprefix("mixed_")[0]] if policy in slow else []
        )


def test_unknown_features_give_no_warning(machine, monkeypatch):
    machine("")
    monkeypatch.setattr(processor.platform, "system", lambda: "Windows")
    monkeypatch.setattr(dtypes, "accelerator", lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dtypes.warn_if_emulated(network("mixed_bfloat16"))
    assert dtypes.chosen_policy("auto") == "float32"


@pytest.mark.parametrize(
    ("instructions", "dtype", "slow"),
    [("avx2", "int8", True), ("avx2, avx_vnni", "int8", False), ("avx2", "float32", False), (None, "int8", False)],
)
def test_the_report_says_where_int8_is_slow(instructions, dtype, slow):
    machine = {"cpu": "X (2 cores)", **({"instructions": instructions} if instructions else {})}
    row = {"name": "file", "runtime": "LiteRT", "dtype": dtype, "accuracy": 0.5, "images": 10}
    assert ("int8 may be no faster" in section({"machine": machine, "results": [row]})) == slow
