"""``quantize`` on JAX and PyTorch: trained there, loaded under TensorFlow, exported."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from tflite_support import export_random, spread

from wavemix_tf.tflite.graph.inputs import generated_images, predict

PROGRAM = """
import sys
sys.modules["tensorflow"] = None  # as if it were not installed
import keras
import numpy as np
from keras import layers
import wavemix_tf as wm
from wavemix_tf.tflite.graph.inputs import generated_images, predict
from wavemix_tf.tflite.quantization.ranges import ClippedShare

flat = keras.ops.convert_to_tensor([0.0, 3.0, -1.0])  # one number an image
clipped = keras.ops.convert_to_numpy(ClippedShare(0.0, 1.0)(flat)).tolist()
assert clipped == [[0, 0], [1, 4], [1, 1]], clipped
keras.utils.set_random_seed(0)
inputs = keras.Input((16, 16, 3))
twice = layers.SeparableConv2D(3, 3, padding="same", activation="relu6")
again = "block" if sys.argv[2] == "skip" else "none"
stem = layers.Conv2D(8, 3, padding="same")(twice(twice(inputs)))
x = wm.WaveMixBlock(8, levels=2, upsample="bilinear", name="block", recompute=again)(stem)
x = layers.Multiply()([x, layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))])
x = layers.BatchNormalization(momentum=0.8)(layers.LeakyReLU(0.1)(x))
model = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
images = generated_images((16, 16, 3), 96, seed=1)
labels = images.mean((1, 2)).argmax(-1)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-2), loss)
model.fit(images, labels, epochs=4, verbose=0)
qat = wm.tflite.quantize(model, images[:64], rounding="gptq", skip=["block"] if sys.argv[2] == "skip" else ())
assert isinstance(qat, wm.RecomputedModel) == (sys.argv[2] == "skip")
left = [layer for layer in qat.layers if type(layer).__name__ == "FakeQuant" and not layer.fixed][-1]
left.set_range(-0.01, 0.01)  # training must widen it by itself, and say so
qat.compile(keras.optimizers.AdamW(1e-3, use_ema=True, ema_momentum=0.5), loss, jit_compile="auto")
history = qat.fit(images, labels, epochs=4, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()]).history["loss"]
assert history[-1] < history[0], history
assert left.get_range()[1] > 0.1, left.get_range()
qat.save(sys.argv[1] + "/qat.keras")
np.save(sys.argv[1] + "/logits.npy", predict(qat, images[64:]))
"""


@pytest.mark.parametrize(
    ("backend", "part"), [("jax", "whole"), ("torch", "whole"), ("jax", "skip"), ("torch", "skip")]
)
def test_trained_elsewhere_exported_here(backend, part, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), part]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    qat = keras.saving.load_model(tmp_path / "qat.keras", compile=False)
    images = generated_images((16, 16, 3), 96, seed=1)[64:]
    expected = np.load(tmp_path / "logits.npy")
    assert spread(expected) > 0.1
    # Sums in another order may round to the next integer.
    assert np.abs(predict(qat, images) - expected).mean() < 0.02 * spread(expected)
    artifact = export_random(qat, "android-cpu", images=images)
    assert artifact.verification["fidelity"]["runtimes"][0]["mean_error_steps"] <= 0.5
    assert bool(artifact.float_layers) == (part == "skip")
