"""Checkpoint files of training scripts: wrappers, prefixes, objects next to the weights; and damaged files."""

import argparse
import pathlib
from collections import OrderedDict

import numpy as np
import pytest
from test_golden import golden_model, golden_state

import wavemix_tf as wm

CASE = "strided2"


def tensors():
    """The network's tensors by their official names; without PyTorch arrays serve as well."""
    return golden_state(CASE)


def other(state):
    """Another network's tensors of the same names."""
    return {key: value + 1 for key, value in state.items()}


def named(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def assert_loads(source, **options):
    """`source` gives the very weights that the plain state dict gives."""
    expected = wm.load_torch_weights(golden_model(CASE), tensors())
    model = wm.load_torch_weights(golden_model(CASE), source, **options)
    for one, two in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(one, two, err_msg=one.path)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"net": state, "acc": 93.1, "epoch": 7},
        lambda state: {"state_dict": named("model.", state), "hyper_parameters": {"lr": 0.1}, "callbacks": {}},
        lambda state: named("_orig_mod.", state),
        lambda state: {
            "model": named("module._orig_mod.", state),
            "optimizer": {"state": {0: {"exp_avg": np.ones(3)}}},
        },
        lambda state: {"weights": {"backbone": OrderedDict(state)}},
        lambda state: {"n_averaged": np.array(3), **named("module.", state)},
        lambda state: {"ema": state},
    ],
    ids=["net", "lightning", "compile", "parallel compile", "nested", "averaged model", "only a moving average"],
)
@pytest.mark.slow
def test_wrapped(wrap):
    assert_loads(wrap(tensors()))


@pytest.mark.slow
def test_of_a_network_and_its_moving_average_the_network_is_taken_and_the_other_is_reported():
    source = {"state_dict": tensors(), "state_dict_ema": other(tensors())}
    with pytest.warns(UserWarning, match="entry='state_dict_ema'"):
        assert_loads(source)
    assert_loads({"state_dict": other(tensors()), "state_dict_ema": tensors()}, entry="state_dict_ema")
    prefixed = {**named("online_model.", tensors()), **named("ema_model.", other(tensors())), "step": np.array(5)}
    with pytest.warns(UserWarning, match="ema_model"):
        assert_loads(prefixed)
    with pytest.raises(ValueError, match=r"entry='ema'; places: state_dict, state_dict_ema"):
        wm.load_torch_weights(golden_model(CASE), source, entry="ema")


def test_two_networks_are_not_chosen_between():
    with pytest.raises(ValueError, match=r"entry must name its place.*at first, second"):
        wm.load_torch_weights(golden_model(CASE), {"first": tensors(), "second": other(tensors())})


def test_tensors_of_other_modules_are_left_out_and_reported():
    source = {"state_dict": {**named("model.", tensors()), "criterion.weight": np.ones(3)}}
    with pytest.warns(UserWarning, match=r"network is at state_dict\.model; skipped: criterion\.weight"):
        assert_loads(source)
    with pytest.raises(ValueError, match=r"unexpected keys: criterion\.weight"):  # nothing is skipped here
        wm.load_torch_weights(golden_model(CASE), {**tensors(), "criterion.weight": np.ones(3)})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(value):
    state = {key: np.array(array) for key, array in tensors().items()}
    key = next(key for key, array in state.items() if array.ndim == 4)
    state[key][0, 0, 0, 0] = value
    model = golden_model(CASE)
    before = [np.array(weight) for weight in model.weights]
    with pytest.raises(ValueError, match=rf"must be finite.*{key}"):
        wm.load_torch_weights(model, state)
    for one, two in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"epoch,loss\n1,2\n", "a text that begins with 'epoch,loss"),
        (b'\x40\0\0\0\0\0\0\0{"a":{"dtype":"F32"}}', "safetensors"),
        (b"\x89HDF\r\n\x1a\n\0\0", "HDF5"),
        (b"\x01\x02\x03\x04", "another kind, or damaged"),
    ],
)
def test_files_of_another_kind_are_named_without_pytorch(content, words, tmp_path):
    path = tmp_path / "some.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        wm.load_torch_weights(golden_model(CASE), path)
    assert str(path) in str(error.value)


class Meter:
    """What a script of somebody's own saves along."""


class TestWithPyTorch:
    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch")

    def save(self, torch, path, **more):
        state = {key: torch.from_numpy(np.array(array)) for key, array in tensors().items()}
        torch.save({"state_dict": state, **more}, path)
        return path

    def test_options_numpy_scalars_and_paths_beside_the_weights(self, torch, tmp_path):
        args = argparse.Namespace(lr=0.1, out=pathlib.Path("runs"), sizes=[np.float32(1.5)])
        more = {"args": args, "metric": np.float64(93.25), "epoch": np.int64(7), "curve": np.arange(3.0)}
        assert_loads(self.save(torch, tmp_path / "timm.pth.tar", **more))

    def test_an_object_of_another_class_is_named(self, torch, tmp_path):
        path = self.save(torch, tmp_path / "own.pth", meter=Meter())
        with pytest.raises(ValueError, match=r"own\.pth.*class test_torch_files\.Meter"):
            wm.load_torch_weights(golden_model(CASE), path)

    @pytest.mark.parametrize("legacy", [False, True])
    @pytest.mark.parametrize("damage", ["half", "40 bytes", "garbage inside"])
    def test_a_damaged_file_is_named(self, torch, tmp_path, damage, legacy):
        path = tmp_path / "cut.pth"
        torch.save({"a": torch.zeros(1000)}, path, _use_new_zipfile_serialization=not legacy)
        content = bytearray(path.read_bytes())
        if damage == "garbage inside":
            content[2:200] = b"e" * 198
        path.write_bytes(content[: len(content) // 2 if damage == "half" else 40 if damage == "40 bytes" else None])
        with pytest.raises(ValueError, match=r"cut\.pth.*(damaged|another kind)"):
            wm.load_torch_weights(golden_model(CASE), path)
