"""Loading official checkpoints, good, damaged and mismatched; and a live comparison with the official package."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_golden import golden_model, golden_state

import wavemix_tf as wm

CASE = "strided2"


def weights_of(model):
    return [np.asarray(variable) for variable in model.variables if "seed_generator" not in variable.path]


def test_importing_does_not_import_torch():
    top_level = ast.parse(Path(wm.load_torch_weights.__globals__["__file__"]).read_text()).body
    names = [alias.name for node in top_level if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in top_level if isinstance(node, ast.ImportFrom)]
    assert "torch" not in names


def test_returns_the_model_and_accepts_prefixed_and_wrapped_state_dicts():
    plain, wrapped = golden_model(CASE), golden_model(CASE)
    assert wm.load_torch_weights(plain, golden_state(CASE)) is plain
    wm.load_torch_weights(
        wrapped, {"epoch": 3, "state_dict": {f"module.{key}": array for key, array in golden_state(CASE).items()}}
    )
    for one, other in zip(weights_of(plain), weights_of(wrapped), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers.1.feedforward2.3.weight": None}, "missing keys: layers.1.feedforward2.3.weight"),
        ({"layers.9.reduction.bias": np.zeros(2)}, "unexpected keys: layers.9.reduction.bias"),
        ({"pool.2.bias": np.zeros(7)}, r"wrong shapes: pool.2.bias \(7,\) for head/bias \(5,\)"),
        (
            {"layers.0.feedforward1.0.weight": np.zeros((16, 3, 1, 1))},
            r"wrong shapes: layers.0.feedforward1.0.weight \(16, 3, 1, 1\)",
        ),
        ({"conv.0.weight": np.zeros(3)}, r"wrong shapes: conv.0.weight \(3,\)"),
    ],
)
def test_a_mismatch_is_named_and_changes_nothing(change, words):
    model = golden_model(CASE)
    before = weights_of(model)
    state = {key: array for key, array in (golden_state(CASE) | change).items() if array is not None}
    with pytest.raises(ValueError, match=words):
        wm.load_torch_weights(model, state)
    for one, other in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_level_count_names_the_keys():
    with pytest.raises(ValueError, match=r"layers.0.feedforward.0.weight.*layers.0.feedforward1.0.weight"):
        wm.load_torch_weights(golden_model("strided1"), golden_state(CASE))


@pytest.mark.parametrize("call", [lambda: wm.load_torch_weights(3, {}), lambda: wm.export_torch_weights(3)])
def test_only_our_networks_are_accepted(call):
    with pytest.raises(ValueError, match=r"WaveMixSegmenter, WaveMixSuperResolver, .*model=int"):
        call()


@pytest.mark.parametrize("case", ["strided2", "segmenter", "wavemixsr_v2_x4"])
@pytest.mark.slow
def test_new_head_keeps_the_models_own(case):
    """The checkpoint's head may be of any size, or absent."""
    state = golden_state(case)
    heads = ("pool", "expand", "final")
    is_head = {key: any(part in heads for part in key.split(".")) for key in state}
    assert any(is_head.values())
    whole = wm.load_torch_weights(golden_model(case), state)
    for others in ({}, {key: array[:1] for key, array in state.items() if is_head[key]}):
        model = golden_model(case)
        before = wm.export_torch_weights(model)
        kept = {key: array for key, array in state.items() if not is_head[key]}
        assert wm.load_torch_weights(model, kept | others, new_head=True) is model
        after, full = wm.export_torch_weights(model), wm.export_torch_weights(whole)
        for key, array in after.items():
            np.testing.assert_array_equal(array, (before if is_head[key] else full)[key], err_msg=key)


def test_a_classifiers_weights_start_a_segmenter():
    state = golden_state("strided2")
    config = {"width": 8, "depth": 2, "levels": 2, "ff_dim": 12, "image_shape": (16, 16, 3)}
    segmenter = wm.load_torch_weights(wm.WaveMixSegmenter(3, **config), state, new_head=True)
    exported = wm.export_torch_weights(segmenter)
    np.testing.assert_array_equal(exported["layers.1.reduction.weight"], state["layers.1.reduction.weight"])


@pytest.mark.slow
def test_a_head_under_its_other_name():
    for case, old, new in (("strided1", "pool.", "head."), ("segmenter", "expand.", "pool.")):
        state = {key.replace(old, new): array for key, array in golden_state(case).items()}
        one, other = (wm.load_torch_weights(golden_model(case), s) for s in (state, golden_state(case)))
        for mine, theirs in zip(weights_of(one), weights_of(other), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_no_official_counterpart_for_pixel_shuffle():
    model = wm.WaveMixClassifier(num_classes=2, image_shape=(8, 8, 3), width=8, depth=1, upsample="pixel_shuffle")
    for call in (lambda: wm.load_torch_weights(model, {}), lambda: wm.export_torch_weights(model)):
        with pytest.raises(ValueError, match="upsample='pixel_shuffle'"):
            call()


class TestFiles:
    """Reading needs PyTorch."""

    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch")

    def test_a_saved_state_dict_loads(self, torch, tmp_path):
        path = tmp_path / "official.pth"
        torch.save({key: torch.from_numpy(array) for key, array in golden_state(CASE).items()}, path)
        from_file = wm.load_torch_weights(golden_model(CASE), path)
        from_arrays = wm.load_torch_weights(golden_model(CASE), golden_state(CASE))
        for one, other in zip(weights_of(from_file), weights_of(from_arrays), strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("container", ["state_dict", "model_state_dict", "model"])
    def test_a_training_checkpoint_loads(self, torch, container, tmp_path):
        path = tmp_path / "checkpoint.pth"
        state = {f"module.{key}": torch.from_numpy(array) for key, array in golden_state(CASE).items()}
        torch.save({"epoch": 7, container: state, "optimizer": {"lr": 0.1}}, path)
        from_file = wm.load_torch_weights(golden_model(CASE), path)
        from_arrays = wm.load_torch_weights(golden_model(CASE), golden_state(CASE))
        for one, other in zip(weights_of(from_file), weights_of(from_arrays), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_exported_files_load_and_are_not_overwritten(self, torch, tmp_path):
        path = tmp_path / "ours.pth"
        model = wm.load_torch_weights(golden_model(CASE), golden_state(CASE))
        state = wm.export_torch_weights(model, path)
        stored = torch.load(path, weights_only=True)
        assert list(stored) == list(state)
        again = wm.load_torch_weights(golden_model(CASE), path)
        for one, other in zip(weights_of(model), weights_of(again), strict=True):
            np.testing.assert_array_equal(one, other)
        with pytest.raises(ValueError, match=r"overwrite=True.*ours\.pth"):
            wm.export_torch_weights(model, path)
        wm.export_torch_weights(model, path, overwrite=True)

    def test_missing_file(self, tmp_path):
        with pytest.raises(ValueError, match=r"nowhere\.pth"):
            wm.load_torch_weights(golden_model(CASE), tmp_path / "nowhere.pth")

    def test_a_pickled_module_is_refused(self, torch, tmp_path):
        path = tmp_path / "module.pth"
        torch.save(torch.nn.Linear(2, 2), path)
        with pytest.raises(ValueError, match=r"must be a state dict.*module.pth"):
            wm.load_torch_weights(golden_model(CASE), path)

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
    def test_a_damaged_file_is_refused(self, content, tmp_path):
        path = tmp_path / "damaged.pth"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged\.pth"):
            wm.load_torch_weights(golden_model(CASE), path)

    def test_a_tensor_instead_of_a_state_dict(self, torch, tmp_path):
        path = tmp_path / "tensor.pth"
        torch.save(torch.zeros(2), path)
        with pytest.raises(ValueError, match="must be a state dict"):
            wm.load_torch_weights(golden_model(CASE), path)

    def test_bfloat16_tensors_load(self, torch):
        state = {key: torch.from_numpy(array).bfloat16() for key, array in golden_state(CASE).items()}
        model = wm.load_torch_weights(golden_model(CASE), state)
        assert all(np.isfinite(array).all() for array in weights_of(model))


# In a separate process: PyTorch's and TensorFlow's threads and allocators stay separate, and importing the package
# needs a stand-in module.
LIVE = """
import sys
sys.path.insert(0, {fixtures!r})
import numpy as np, torch
import make_golden
from nets import official_network, official_outputs, our_network, our_outputs
import wavemix_tf as wm

for seed, (name, config) in enumerate(make_golden.cases().items(), start=100):
    config = config | {{"depth": 3}}
    network = official_network(config).eval()
    make_golden.randomize(network, seed)
    model = wm.load_torch_weights(our_network(config), network.state_dict())
    image = make_golden.random_images(2, config["image_shape"], seed)
    expected = official_outputs(network, config, image)
    difference = np.abs(our_outputs(model, image) - expected).max()
    largest = np.abs(expected).max()
    print(name, difference, largest)
    assert difference <= 1e-4 * max(1, largest / 10), (name, difference, largest)  # float32: six digits of the largest

    back = official_network(config).eval()  # the way back
    exported = wm.export_torch_weights(model)
    back.load_state_dict({{key: torch.from_numpy(array) for key, array in exported.items()}}, strict=True)
    assert np.array_equal(official_outputs(back, config, image), expected), name
"""


def test_live_comparison_with_the_official_package():
    pytest.importorskip("torch")
    from importlib.util import find_spec

    if find_spec("wavemix") is None or find_spec("einops") is None:
        pytest.skip("the official wavemix package is not installed")
    code = LIVE.format(fixtures=str(Path(__file__).parent / "fixtures"))
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
