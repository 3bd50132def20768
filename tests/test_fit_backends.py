"""`fit` on JAX and PyTorch: with arrays and without TensorFlow, interrupted and resumed."""

import importlib.util
import os
import subprocess
import sys

import keras
import pytest

from wavemix_tf.training.fitting.saving import portable_config

PROGRAM = """
import sys
sys.modules["tensorflow"] = None  # as if it were not installed
import dataclasses
import keras
import numpy as np
from wavemix_tf.training import Recipe, fit

generator = np.random.default_rng(0)
labels = generator.integers(0, 4, 160)
images = generator.integers(0, 60, (160, 8, 8, 1)).astype(np.uint8)
images[np.arange(160), labels] = 255
recipe = Recipe(
    name="arrays", dataset="digits", image_shape=(8, 8, 1), num_classes=4, calibration_images=16, batch_size=32,
    epochs=3, learning_rate=0.02, warmup_epochs=0, ema=0.5, label_smoothing=0.1, flip=True, shift=1, mixup=0.1,
)

def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3, strides=2)(inputs)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.9)(x))
    x = keras.layers.Dropout(0.2, seed=1)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(4)(x))

def run(out, **options):
    return fit(recipe, model=network(), data=(images, labels), out=sys.argv[1] + "/" + out, verbose=0, **options)

class Interrupt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

whole = run("whole")
try:
    run("broken", callbacks=[Interrupt()])
except KeyboardInterrupt:
    pass
result = run("broken")
assert result.resumed_epochs == 2, result.resumed_epochs
for column in ("loss", "val_loss", "val_accuracy"):
    np.testing.assert_allclose(result.history[column], whole.history[column], rtol=1e-5)
for ours, theirs in zip(result.model.get_weights(), whole.model.get_weights(), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
model = keras.saving.load_model(sys.argv[1] + "/broken/model.keras")
np.testing.assert_allclose(
    model.predict(images[:4] / 255, verbose=0), result.model.predict(images[:4] / 255, verbose=0), atol=1e-5
)
np.save(sys.argv[1] + "/outputs.npy", whole.model.predict(images / np.float32(255), verbose=0))

# Weights of one are none, and others reach the loss.
alike = fit(recipe, model=network(), data=(images, labels, np.ones(160)), class_weight={1: 1.0}, verbose=0)
np.testing.assert_allclose(alike.history["loss"], whole.history["loss"], rtol=1e-4)
twice = fit(recipe, model=network(), data=(images, labels, np.full(160, 2.0)), verbose=0)
np.testing.assert_allclose(twice.history["loss"][0], 2 * whole.history["loss"][0], rtol=0.2)
assert whole.evaluate((images.astype("float32") / 255, labels))["accuracy"] > 0.4

from wavemix_tf.training.augment import Augmenter, BatchSeed
policy = "rand_augment" if keras.backend.backend() == "torch" else None  # JAX compiles every operation: a minute
everything = dataclasses.replace(recipe, policy=policy, crop_area=0.5, rotation=9, zoom=0.2, cutmix=1.0, erase=0.2)
batch, targets = (keras.ops.convert_to_tensor(part) for part in (images[:16] / np.float32(255), np.eye(4)[labels[:16]]))
augment = Augmenter(everything, framework=keras.backend.backend())
once, again = (augment(batch, targets, BatchSeed(0, 1, 2, keras.backend.backend())) for _ in range(2))
for one, other in zip(once, again, strict=True):
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
assert 0 <= keras.ops.min(once[0]) <= keras.ops.max(once[0]) <= 1
np.testing.assert_allclose(keras.ops.convert_to_numpy(once[1]).sum(1), 1, rtol=1e-5)
print("as it should be")
"""


# A run that was trained on another backend is finished under TensorFlow.
AFTERWARDS = """
import sys
import keras
import numpy as np
from wavemix_tf.training import Recipe, fit

folder = sys.argv[1] + "/whole"
generator = np.random.default_rng(0)
labels = generator.integers(0, 4, 160)
images = generator.integers(0, 60, (160, 8, 8, 1)).astype(np.uint8)
images[np.arange(160), labels] = 255
expected = np.load(sys.argv[1] + "/outputs.npy")
model = keras.saving.load_model(folder + "/model.keras")
np.testing.assert_allclose(model.predict(images / np.float32(255), verbose=0), expected, atol=1e-4)
recipe = Recipe.from_json(open(folder + "/recipe.json").read())
result = fit(recipe, data=(images, labels), out=folder, verbose=0)  # nothing to do
assert result.resumed_epochs == 3
assert result.evaluate((images.astype("float32") / 255, labels))["accuracy"] > 0.4
print("as it should be")
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_arrays_need_no_tensorflow(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip().endswith("as it should be"), result.stderr[-3000:]
    # The run resumes under TensorFlow: its files name no class of the other backend.
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AFTERWARDS, str(tmp_path)],
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip().endswith("as it should be"), result.stderr[-3000:]


def test_public_names_of_what_each_back_end_has():
    inner = {
        "module": "keras.src.backend.torch.optimizers.torch_sgd",
        "class_name": "SGD",
        "config": {"learning_rate": 0.25, "momentum": 0.5},
        "registered_name": "SGD",
    }
    scaled = {
        "module": "keras.optimizers",
        "class_name": "LossScaleOptimizer",
        "config": {"name": "scaled", "inner_optimizer": inner},
        "registered_name": None,
    }
    optimizer = keras.optimizers.deserialize(
        portable_config({"optimizer": scaled, "metrics": [None, "x"]})["optimizer"]
    )
    assert type(optimizer.inner_optimizer) is keras.optimizers.SGD
    assert optimizer.inner_optimizer.momentum == 0.5
    own = {"module": "mine", "class_name": "SGD", "config": {}, "registered_name": "mine>SGD"}
    assert portable_config(own) == own
