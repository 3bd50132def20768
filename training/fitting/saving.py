"""Save a trained model as a .keras file that any backend loads without this package's training code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from wavemix_tf.files import replacing
from wavemix_tf.keras_internals import public_module
from wavemix_tf.preprocessing import write_to_keras_file

from ..recipe import Recipe
from ..tasks import Task


def compile_for_use(model: Any, task: Task) -> None:
    """Compile with losses and metrics of Keras or the core package, so that a saved file needs no training code.

    Plain SGD has no variables; any other optimizer that is saved before its first step warns when it is loaded.
    """
    model.compile(
        optimizer="sgd",
        **task.plain_compile_arguments(),
        jit_compile=keras.backend.backend() == "jax",
    )


def save_model(model: Any, path: Path, recipe: Recipe) -> None:
    """Save as .keras atomically, with the preprocessing of images and without classes of a single backend."""
    compiled = model.get_compile_config()
    with replacing(path) as temporary:
        model.get_compile_config = lambda: portable_config(compiled)
        try:
            model.save(temporary)
        finally:
            del model.get_compile_config
        write_to_keras_file(temporary, recipe.preprocessing)


def portable_config(config: Any) -> Any:
    """Replace the names of backend-specific Keras classes in a serialized configuration by public names.

    On PyTorch ``keras.optimizers.SGD`` creates a "keras.src.backend.torch.optimizers.torch_sgd" SGD: other backends do
    not have that module, and ``load_model`` fails there.
    """
    if isinstance(config, (list, tuple)):
        return [portable_config(part) for part in config]
    if not isinstance(config, dict):
        return config
    config = {key: portable_config(value) for key, value in config.items()}
    module = public_module(config.get("module"), str(config.get("class_name")))
    return config if module == config.get("module") else {**config, "module": module, "registered_name": None}
