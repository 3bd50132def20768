"""Models that end in probabilities: the losses take logits, so `fit` refuses them on every backend."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers, ops

import wavemix_tf as wm
from wavemix_tf.tflite import quantize
from wavemix_tf.training import Recipe, fit
from wavemix_tf.training.endings import check_logits, probabilities_at_the_end
from wavemix_tf.training.fitting.trainer import import_trained_model
from wavemix_tf.training.tasks import task_of

RECIPE = Recipe(
    name="x",
    dataset="digits",
    image_shape=(8, 8, 3),
    num_classes=3,
    epochs=1,
    warmup_epochs=0,
    batch_size=8,
    calibration_images=8,
)
IMAGES = np.random.default_rng(0).random((48, 8, 8, 3)).astype(np.float32)
LABELS = np.arange(48) % 3


def model(end):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, end(layers.Flatten()(inputs)))


def nested(x):
    inner = keras.Sequential([keras.Input((192,)), layers.Dense(3, activation="softmax", name="head")], name="inner")
    return layers.Reshape((3,))(inner(x))


PROBABILITIES = {
    "softmax in 'head'": lambda x: layers.Dense(3, activation="softmax", name="head")(x),
    "sigmoid in 'end'": lambda x: layers.Activation("sigmoid", name="end")(layers.Dense(3)(x)),
    "softmax in 'end'": lambda x: layers.Softmax(name="end")(layers.Dense(3)(x)),
    "softmax in 'softmax": lambda x: ops.softmax(layers.Dense(3)(x)),
    "sigmoid in 'sigmoid": lambda x: ops.sigmoid(layers.Dense(3)(x)),
    "softmax in 'head' ": nested,
    "softmax in 'a'": lambda x: layers.Activation("linear", dtype="float32")(
        ops.cast(layers.Dense(3, activation=layers.Softmax(), name="a")(x), "float16")
    ),
    "softmax in 'b'": lambda x: layers.Average()(
        [layers.Dense(3, activation="softmax", name=name)(x) for name in ("b", "c")]
    ),
}
LOGITS = {
    "dense": layers.Dense(3),
    "scaled": lambda x: layers.Rescaling(5.0)(layers.Dense(3, activation="softmax")(x)),
    "attention": lambda x: layers.Dense(3)(layers.Dense(8, activation="softmax")(x)),
    "linear": lambda x: layers.Activation("linear")(layers.Dense(3)(x)),
    "log": lambda x: layers.Activation("log_softmax")(layers.Dense(3)(x)),  # is its own log-softmax
}


@pytest.mark.parametrize("told", PROBABILITIES)
def test_a_classifier_that_ends_in_probabilities_is_refused(told, tmp_path):
    own = model(PROBABILITIES[told])
    rule = f"must return logits, not probabilities: .*activation=None.* Received: {told.strip()}"
    with pytest.raises(ValueError, match=rule) as caught:
        fit(RECIPE, model=own, data=(IMAGES, LABELS), out=tmp_path / "run", verbose=0)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=rule):
        import_trained_model(RECIPE, own, 3, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", LOGITS)
def test_logits_are_known(name):
    assert probabilities_at_the_end(model(LOGITS[name])) == ""


def test_a_quantized_model_that_ends_in_probabilities_is_refused_too():
    own = quantize(model(PROBABILITIES["softmax in 'head'"]), IMAGES)
    with pytest.raises(ValueError, match=r"not probabilities: .* Received: softmax in"):
        fit(RECIPE, model=own, data=(IMAGES, LABELS), stage="qat", verbose=0)
    assert probabilities_at_the_end(quantize(model(LOGITS["dense"]), IMAGES)) == ""


def test_masks_have_logits_and_pictures_may_end_in_a_sigmoid():
    inputs = keras.Input((8, 8, 3))
    masks = keras.Model(inputs, layers.UpSampling2D()(layers.Conv2D(3, 3, 2, "same", activation="softmax")(inputs)))
    recipe = dataclasses.replace(RECIPE, task="segmentation")
    with pytest.raises(ValueError, match="must return logits, not probabilities"):
        check_logits(task_of(recipe, 3), masks)
    large = keras.Model(
        inputs, layers.Conv2D(3, 3, padding="same", activation="sigmoid")(layers.UpSampling2D()(inputs))
    )
    check_logits(task_of(dataclasses.replace(RECIPE, task="super_resolution", num_classes=None), 0), large)


def test_the_packages_own_networks_return_logits():
    for name in ("WaveMixClassifier", "ConvMixer", "ViT"):
        options = {"width": 8, "depth": 1} if name == "WaveMixClassifier" else {}
        if name == "ViT":
            options = {"patch_size": 4, "width": 16, "depth": 1, "heads": 2}
        if name == "ConvMixer":
            options = {"patch_size": 2, "kernel_size": 3, "width": 8, "depth": 1}
        assert probabilities_at_the_end(wm.build_model(name, num_classes=3, image_shape=(8, 8, 3), **options)) == ""
