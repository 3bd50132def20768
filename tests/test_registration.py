"""After `import wavemix_tf` Keras can load every class that the package registers, imported or not."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import wavemix_tf as wm

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import sys
import keras
import numpy as np
import wavemix_tf
print(*sorted(keras.saving.get_custom_objects()))
print([name for name in ("training", "tflite") if f"wavemix_tf.{name}" in sys.modules])
for name in sys.argv[1:]:
    model = keras.models.load_model(name)
    images = np.random.default_rng(0).random((4, *model.input_shape[1:]), np.float32)
    np.testing.assert_allclose(model(images, training=False), np.load(name + ".npy"), atol=1e-5)
    print(sorted({type(layer).__name__ for layer in model.layers}))
    print((model.get_compile_config() or {}).get("metrics"))
"""


@pytest.mark.skipif(not (ROOT / "training").is_dir(), reason="runs in a checkout")
@pytest.mark.slow
def test_a_fresh_process_loads_what_the_package_saves(tmp_path, rng):
    registered = {
        node.name
        for folder in ("wavemix_tf", "training", "tflite")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any("register_keras" in ast.unparse(d) for d in node.decorator_list)
    }
    images = rng.random((32, 16, 16, 3), np.float32)
    network = wm.WaveMixClassifier(3, (16, 16, 3), width=8, depth=1)
    resolver = wm.WaveMixSuperResolver(image_shape=(8, 8, 3), width=8, depth=1)
    from wavemix_tf.training import Recipe
    from wavemix_tf.training.tasks import task_of

    recipe = Recipe(name="x", dataset="folder", task="super_resolution", image_shape=(8, 8, 3))
    resolver.compile(optimizer="sgd", **task_of(recipe, 0).plain_compile_arguments())
    tokens = wm.ViT(3, (16, 16, 3), patch_size=8, width=16, depth=1, heads=2)
    models = {
        "qat": wm.tflite.quantize(network, images),
        "tokens": wm.tflite.quantize(tokens, images),
        "resolver": resolver,
    }
    names = []
    for name, model in models.items():
        names.append(str(tmp_path / f"{name}.keras"))
        model.save(names[-1])
        probe = np.random.default_rng(0).random((4, *model.input_shape[1:]), np.float32)
        np.save(names[-1] + ".npy", keras.ops.convert_to_numpy(model(probe, training=False)))
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names], env=os.environ, capture_output=True, text=True, timeout=300
    )
    lines = result.stdout.splitlines()
    assert result.returncode == 0, result.stderr[-3000:]
    found = {name.removeprefix("wavemix_tf>") for name in lines[0].split()}
    assert registered <= found, "a row of wavemix_tf.registration.LATER is missing"
    assert lines[1] == "[]"
    assert "FakeQuant" in lines[2]
    assert "MatMul" in lines[4]
    assert "LumaPSNR" in lines[7]


@pytest.mark.slow
def test_a_network_that_was_saved_before_its_module_moved_loads():
    """Its file names ``wavemix_tf.models``, where no class is any more: classes are found by their registered names."""
    folder = Path(__file__).parent / "fixtures"
    model = keras.saving.load_model(folder / "flat_network.keras")
    stored = np.load(folder / "flat_network.npz")
    np.testing.assert_allclose(model.predict(stored["images"], verbose=0), stored["outputs"], atol=1e-5)
