"""Layers, networks and `fit` where only Keras, NumPy, PyWavelets and JAX are installed.

Run by .ci/run in an environment into which the wheel was installed with `pip install --no-deps`.
"""

import importlib.util
import os
import tempfile

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

import wavemix_tf as wm

for name in (
    "tensorflow",
    "tensorflow_datasets",
    "keras_tuner",
    "ai_edge_litert",
    "sklearn",
    "typer",
    "PIL",
    "matplotlib",
):
    assert importlib.util.find_spec(name) is None, f"{name} is installed: this environment is not bare"

rng = np.random.default_rng(0)
labels = np.arange(96) % 3
images = rng.uniform(0, 0.4, (96, 16, 16, 3)).astype("float32")
for image, label in zip(images, labels, strict=True):
    image[:, 5 * label : 5 * label + 5] += 0.5

keras.utils.set_random_seed(0)
model = wm.WaveMixClassifier(num_classes=3, image_shape=(16, 16, 3), width=8, depth=2, dropout=0.0)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
accuracy = model.fit(images, labels, batch_size=16, epochs=6, verbose=0).history["accuracy"][-1]
assert accuracy > 0.8, accuracy
for mixer in sorted(wm.MIXERS):
    mixed = wm.TokenMixerClassifier(mixer, num_classes=3, image_shape=(16, 16, 3), width=8, depth=1)
    assert mixed(images[:2]).shape == (2, 3), mixer
assert wm.profile(model).macs > 0

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.keras")
    model.save(path)
    again = keras.models.load_model(path)
    assert np.abs(np.asarray(again(images)) - np.asarray(model(images))).max() < 1e-6
    recipe = wm.training.Recipe(
        "bare", "folder", (16, 16, 3), num_classes=3, epochs=2, batch_size=16, model_args=dict(width=8, depth=1)
    )
    result = wm.training.fit(recipe, data=(images, labels), out=os.path.join(folder, "run"), verbose=0)
    assert len(result.history["loss"]) == 2
print(f"bare install: trained on {keras.backend.backend()} to {accuracy:.0%}")
