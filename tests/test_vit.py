"""ViT and DeiT: timm's outputs from timm's weights, published sizes and products, serialization, errors, export."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import wavemix_tf as wm

GOLDEN = np.load(Path(__file__).parent / "fixtures" / "timm_golden.npz")
SMALL = dict(num_classes=3, image_shape=(16, 24, 3), patch_size=8, width=16, depth=2, heads=2)


def golden_state():
    prefix = "vit/state/"
    return {key.removeprefix(prefix): GOLDEN[key] for key in GOLDEN.files if key.startswith(prefix)}


def golden_model(**options):
    return wm.ViT(**json.loads(str(GOLDEN["vit/config"])) | options)


def test_outputs_equal_timms():
    model = wm.load_torch_weights(golden_model(), golden_state())
    np.testing.assert_allclose(model(GOLDEN["vit/image"]), GOLDEN["vit/outputs"], atol=1e-5, rtol=0)


def test_exported_weights_are_timms():
    state = golden_state()
    exported = wm.export_torch_weights(wm.load_torch_weights(golden_model(), state))
    assert set(exported) == set(state)
    for key, array in state.items():
        np.testing.assert_array_equal(exported[key], array, err_msg=key)


def test_timms_weights_load_into_a_network_that_samples():
    plain = wm.load_torch_weights(golden_model(), golden_state())
    sampled = wm.load_torch_weights(golden_model(sampling_blocks=(1, 2), sampling_tokens=9), golden_state())
    image = GOLDEN["vit/image"]
    expected = wm.with_token_sampling(plain, (1, 2), 9).predict_on_batch(image)
    np.testing.assert_array_equal(sampled.predict_on_batch(image), expected)
    assert np.abs(expected - GOLDEN["vit/outputs"]).max() > 1e-3  # otherwise nothing was sampled


def test_positions_of_another_image_size_are_refused_by_name():
    model = golden_model(image_shape=(16, 20, 3))
    words = r"pos_embed \(1, 16, 24\) for embed/positions \(1, 21, 24\), one for each token: another image_shape"
    with pytest.raises(ValueError, match=words):
        wm.load_torch_weights(model, golden_state())


@pytest.mark.slow
def test_new_head_keeps_the_models_own():
    model = golden_model(num_classes=7)
    before = wm.export_torch_weights(model)
    wm.load_torch_weights(model, golden_state(), new_head=True)
    after = wm.export_torch_weights(model)
    np.testing.assert_array_equal(after["head.weight"], before["head.weight"])
    np.testing.assert_array_equal(after["norm.weight"], golden_state()["norm.weight"])


def test_a_missing_block_is_named():
    state = {key: value for key, value in golden_state().items() if not key.startswith("blocks.2.")}
    with pytest.raises(ValueError, match=r"missing keys: blocks\.2\.attn\.proj\.bias"):
        wm.load_torch_weights(golden_model(), state)


# In a separate process, like the other live comparison.
LIVE = """
import sys
sys.path.insert(0, {fixtures!r})
import numpy as np, torch
from make_timm_golden import outputs, random_images, randomize
import timm
import wavemix_tf as wm

network = timm.create_model("deit_tiny_patch16_224").eval()
randomize(network, 1)
model = wm.load_torch_weights(wm.build_model("deit_tiny"), network.state_dict())
images = random_images(2, (224, 224, 3), 1)
expected = outputs(network, images)
difference = np.abs(model.predict_on_batch(images) - expected).max()
print(difference, np.abs(expected).max(), np.ptp(expected, axis=0).max())
assert np.ptp(expected, axis=0).max() > 0.1  # images differ
assert difference <= 1e-4, difference
network.load_state_dict({{k: torch.from_numpy(v) for k, v in wm.export_torch_weights(model).items()}}, strict=True)
assert np.array_equal(outputs(network, images), expected)
"""


def test_live_comparison_with_timm():
    pytest.importorskip("torch")
    from importlib.util import find_spec

    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    code = LIVE.format(fixtures=str(Path(__file__).parent / "fixtures"))
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "gmacs"), [("deit_tiny", 1.26), ("deit_small", 4.61), ("deit_base", 17.58)])
@pytest.mark.slow
def test_products_are_the_published_ones(name, gmacs):
    """fvcore, by which they are published, counts five operations a value of each of the 25 LayerNorms beside."""
    model = wm.build_model(name)
    found = wm.profile(model)
    assert (found.macs + 25 * 5 * 197 * model.width) / 1e9 == pytest.approx(gmacs, abs=0.005)
    assert found.uncounted == ()


def test_rates_rise_with_depth():
    model = wm.ViT(**SMALL | {"depth": 3}, stochastic_depth=0.2, dropout=0.1)
    assert [model.get_layer(f"block{n}").stochastic_depth for n in (1, 2, 3)] == [0.0, 0.1, 0.2]
    assert model.get_layer("block1").drop1.rate == 0.1


@pytest.mark.parametrize(
    "options",
    [
        {"normalize": "imagenet"},
        {"mlp_ratio": 2.5, "dropout": 0.1, "stochastic_depth": 0.1},
        {"sampling_blocks": [0, 1], "sampling_tokens": [None, 8], "sampling_mode": "static", "patch_size": 4},
    ],
)
@pytest.mark.slow
def test_keras_file_round_trip(options, rng, tmp_path):
    options = dict(options)
    if options.get("normalize"):
        options["normalize"] = wm.CHECKPOINT_NORMALIZATION["imagenet"]
    model = wm.ViT(**SMALL | options)
    x = rng.uniform(size=(2, 16, 24, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is wm.ViT
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 3}, "width must be a multiple of heads. Received: width=16, heads=3"),
        ({"image_shape": (16, 20, 3)}, r"multiples of patch_size\. Received: image_shape=\(16, 20, 3\), patch_size=8"),
        ({"image_shape": (None, 24, 3)}, r"known sides.* Received: image_shape=\(None, 24, 3\)"),
        ({"depth": 0}, "depth must be an integer of at least 1"),
        ({"dropout": 1.0}, r"dropout must be a rate in \[0, 1\)"),
        ({"mlp_ratio": 0}, "mlp_ratio times width must be at least 1"),
        ({"window": 7}, "The arguments are num_classes, .*Received: window"),
    ],
)
def test_mistakes_are_reported(options, words):
    with pytest.raises(ValueError, match=words):
        wm.ViT(**SMALL | options)


def test_blocks_refuse_other_channels():
    with pytest.raises(ValueError, match=r"takes \(B, N, 16\)\. Received: input_shape=\(2, 5, 12\)"):
        wm.TransformerBlock(16, 2)(np.zeros((2, 5, 12), "float32"))
