"""The order of a file's inputs and outputs in the card, the kit and the firmware's header."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from tflite_support import randomise

from wavemix_tf.tflite import Artifact, UnsupportedOpError, export, quantize
from wavemix_tf.tflite.runtimes.running import run_file
from wavemix_tf.tflite.targets.audit import ALIKE_SHOWN

SHAPE = (8, 8, 3)


def images(count, seed):
    rng = np.random.default_rng(seed)
    return {name: rng.random((count, *SHAPE)).astype("float32") for name in ("zeta", "alpha")}


@pytest.fixture(scope="module")
def quantized():
    """Two inputs and two outputs of one shape, in dicts whose order is not that of the alphabet."""
    zeta, alpha = keras.Input(SHAPE, name="zeta"), keras.Input(SHAPE, name="alpha")
    x = layers.Conv2D(4, 3, padding="same")(zeta)
    y = layers.Conv2D(4, 3, padding="same")(alpha)
    first = layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Add()([x, y])))
    second = layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Subtract()([x, y])))
    model = keras.Model({"zeta": zeta, "alpha": alpha}, {"zz": first, "aa": second})
    randomise(model)
    return quantize(model, images(64, 1))


@pytest.mark.slow
def test_inputs_and_outputs_are_reported_by_name_everywhere(quantized, tmp_path):
    held_out = images(32, 2)
    artifact = export(quantized, "mcu", images=held_out, allow_unjudged=True, min_snr_db=0)
    card = artifact.to_dict()
    orders = {side: [entry["name"] for entry in card[side]] for side in ("inputs", "outputs")}
    assert orders == {"inputs": ["alpha", "zeta"], "outputs": ["aa", "zz"]}
    ran = run_file(artifact.content, [held_out[name] for name in orders["inputs"]], "litert-reference")
    expected = quantized.predict(held_out, verbose=0)
    for name, values in zip(orders["outputs"], ran, strict=True):
        np.testing.assert_allclose(values, expected[name], atol=0.05 * np.ptp(expected[name]))

    path = artifact.save(tmp_path / "two.tflite")
    assert Artifact.load(path).to_dict()["inputs"] == card["inputs"]
    header = path.with_suffix(".h").read_text()
    for line in ('Input 0, "alpha": 1 x 8 x 8 x 3 int8.', 'Input 1, "zeta"', 'Output 0, "aa"', 'Output 1, "zz": 1 x 3'):
        assert f"// {line}" in header
    kit = artifact.save_kit(tmp_path / "kit")
    (vectors,) = kit.rglob("vectors.json")
    for side, names in orders.items():
        assert [entry["name"] for entry in json.loads(vectors.read_text())[side]] == names
    words = (kit / "MODEL_CARD.md").read_text()
    assert "input 0, `alpha`" in words
    assert "output 1, `zz`" in words


@pytest.mark.slow
def test_an_input_that_no_output_needs_stays():
    image, meta = keras.Input(SHAPE), keras.Input((4,), name="meta")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    model = randomise(keras.Model([image, meta], layers.Dense(3)(x)))
    arrays = [images(96, 3)["zeta"], np.random.default_rng(4).random((96, 4)).astype("float32")]
    quantized = quantize(model, [part[:64] for part in arrays])
    artifact = export(
        quantized, "android-cpu", images=[part[64:] for part in arrays], allow_unjudged=True, min_snr_db=0
    )
    assert [entry["shape"] for entry in artifact.to_dict()["inputs"]] == [[1, 8, 8, 3], [1, 4]]
    assert artifact.to_dict()["inputs"][1]["name"] == "meta"


def test_a_refusal_of_many_ops_alike_is_short_and_says_what_to_do():
    inputs = keras.Input((8, 6))
    model = keras.Model(inputs, layers.TimeDistributed(layers.Dense(2))(inputs))
    with pytest.raises(UnsupportedOpError, match=r"more STRIDED_SLICE alike.*docs/targets.md") as told:
        export(randomise(model), "android-cpu", images=np.random.default_rng(0).random((32, 8, 6)).astype("float32"))
    assert str(told.value).count("plain slice") == ALIKE_SHOWN
