"""The core computes the same on every Keras backend; each, in its own process, is compared with TensorFlow."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

TOLERANCE = 1e-5

# Computes everything that is compared, and saves it with a trained model. Weights come from NumPy, as the backends draw
# differently from the same seed; `predict_on_batch` compiles, which spares JAX from compiling op by op.
PROGRAM = """
import sys
import numpy as np
import keras
import wavemix_tf as wm

folder = sys.argv[1]
random = np.random.default_rng(0)
found = {}

def as_array(tensor):
    return keras.ops.convert_to_numpy(tensor)

def run_layers(layers, x):
    inputs = keras.Input(x.shape[1:])
    outputs = layers[0](inputs)
    if len(layers) == 2:
        outputs = [outputs, layers[1](outputs)]
    return keras.Model(inputs, outputs).predict_on_batch(x)

def set_weights(layer):
    for variable in layer.trainable_variables:
        fan_in = int(np.prod(variable.shape[:-1]))
        variable.assign(random.normal(size=variable.shape, scale=min(1.0, fan_in**-0.5)).astype("float32"))

image = random.random((2, 9, 12, 3), dtype="float32")
for wavelet, mode in (("haar", "zero"), ("db2", "zero"), ("db2", "periodization")):
    layers = [wm.DWT2D(wavelet, mode=mode), wm.IDWT2D(wavelet, mode=mode, output_size=(9, 12))]
    found[f"dwt-{wavelet}-{mode}"], found[f"idwt-{wavelet}-{mode}"] = run_layers(layers, image)
found["dwt-level1"], found["dwt-level2"] = run_layers([wm.DWT2D("haar", levels=2)], image)

features = random.normal(size=(2, 10, 12, 8)).astype("float32")
for options in ({"levels": 2}, {"upsample": "bilinear"}, {"upsample": "pixel_shuffle"}):
    block = wm.WaveMixBlock(width=8, **options)
    block.build(features.shape)
    set_weights(block)
    found["block-" + "-".join(f"{key}={value}" for key, value in options.items())] = run_layers([block], features)

for name in ("dct", "convmixer", "wtconv", "inverted_bottleneck", "resnet", "mlp_mixer", "poolformer", "fourier"):
    kind, options = wm.MIXERS[name]
    block = kind(width=8, **options)
    block.build(features.shape)
    set_weights(block)
    found[f"mixer-{name}"] = run_layers([block], features)

convolution = wm.WTConv2D(3, levels=3)
convolution.build(image.shape)
set_weights(convolution)
found["wtconv-odd"] = run_layers([convolution], image)

stages = {"patch_size": 2, "depths": (1, 1), "widths": (8, 12), "segments": (2, 3), "strides": (3,)}
mixer = wm.DynaMixer(num_classes=4, image_shape=(6, 12, 3), **stages)
set_weights(mixer)
found["dynamixer-logits"] = mixer.predict_on_batch(image[:, :6])

model = wm.WaveMixClassifier(num_classes=4, image_shape=(10, 12, 3), width=8, depth=1, levels=2, dropout=0.0)
set_weights(model)
images = random.random((8, 10, 12, 3), dtype="float32")
labels = np.arange(8) % 4
found["logits"] = model.predict_on_batch(images)
model.compile(optimizer=keras.optimizers.SGD(0.05), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
found["loss"] = np.array([model.train_on_batch(images, labels) for _ in range(2)])
for variable in model.variables:
    if "seed" not in variable.path:
        found["trained/" + "/".join(variable.path.split("/")[-2:])] = as_array(variable)
found["trained-logits"] = model.predict_on_batch(images)

# Dropout draws from each backend's own generator: only that it trains can be compared.
dropping = wm.WaveMixClassifier(num_classes=4, image_shape=(8, 8, 3), width=8, depth=1, dropout=0.3)
dropping.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
assert np.isfinite(dropping.train_on_batch(images[:, :8, :8], labels))

model.save(f"{folder}/{keras.backend.backend()}.keras")
np.savez(f"{folder}/{keras.backend.backend()}.npz", images=images, **found)
"""

# Loads what the other backends saved, in one process.
LOAD = """
import sys
import keras
import numpy as np
import wavemix_tf
folder, *others = sys.argv[1:]
for saved in others:
    stored = np.load(f"{folder}/{saved}.npz")
    # An optimizer's state is the backend's own business; a user of another backend compiles anew.
    model = keras.saving.load_model(f"{folder}/{saved}.keras", compile=False)
    logits = keras.ops.convert_to_numpy(model(stored["images"], training=False))
    np.testing.assert_allclose(logits, stored["trained-logits"], atol=1e-5, err_msg=saved)
"""
OTHERS = [backend for backend in ("jax", "torch") if find_spec(backend) is not None]


def run(program, backend, *arguments):
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{backend}:\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """backend -> folder with what PROGRAM saved, computed once."""
    folder = tmp_path_factory.mktemp("backends")
    done = set()

    def of(backend):
        if backend not in done:
            run(PROGRAM, backend, folder)
            done.add(backend)
        return np.load(folder / f"{backend}.npz")

    of.folder = folder
    return of


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_forward_and_training_step_agree_with_tensorflow(backend, results):
    if backend not in OTHERS:
        pytest.skip(f"{backend} is not installed")
    expected, found = results("tensorflow"), results(backend)
    assert set(found.files) == set(expected.files)
    for name in expected.files:
        np.testing.assert_allclose(
            found[name], expected[name], atol=TOLERANCE, rtol=TOLERANCE, err_msg=f"{name} under {backend}"
        )


@pytest.mark.skipif(not OTHERS, reason="neither jax nor torch is installed")
def test_models_saved_under_other_backends_load_under_tensorflow(results):
    for backend in OTHERS:
        results(backend)
    run(LOAD, "tensorflow", results.folder, *OTHERS)
