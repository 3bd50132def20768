"""The dtype policy that is fast on the devices of this process."""

from __future__ import annotations

from typing import Any

import keras

from wavemix_tf.keras_internals import flatten_layers
from wavemix_tf.processor import BFLOAT16, FLOAT16, processor_features
from wavemix_tf.warning import warn_user

from .recipe_fields import AUTO

BFLOAT16_CAPABILITY = (8, 0)  # first CUDA compute capability whose tensor cores multiply bfloat16


def chosen_policy(name: str) -> str:
    """Return a recipe's ``dtype_policy``; for "auto" the policy that is fast here.

    That is "mixed_bfloat16" on TPUs, on GPUs of compute capability 8.0 or more, and on processors that multiply
    bfloat16 if there is no GPU; otherwise "float32". "mixed_float16" is never chosen: it needs loss scaling.
    """
    if name != AUTO:
        return name
    return "mixed_bfloat16" if _multiplies_bfloat16() else "float32"


def warn_if_emulated(model: Any) -> None:
    """Warn if layers of a model compute in a dtype that this processor converts to float32 and back at every step."""
    features = processor_features()
    if features is None or accelerator() is not None:
        return
    native = {"bfloat16": BFLOAT16, "float16": FLOAT16}
    dtypes = {layer.compute_dtype for layer in flatten_layers(model)}
    slow = sorted(dtype for dtype in dtypes & set(native) if not native[dtype] & set(features))
    if slow:
        warn_user(
            f"This processor has no instructions for {' and '.join(slow)} and emulates it, several times slower than "
            'float32: use dtype_policy="float32", or "auto".'
        )


def accelerator() -> Any:
    """Return the first GPU or TPU of Keras's backend, an object of the backend; None if it computes on the CPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return next((device for kind in ("TPU", "GPU") for device in tf.config.list_logical_devices(kind)), None)
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device
    if backend == "torch":
        import torch

        kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return next((torch.device(kind) for kind, there in kinds.items() if there), None)
    return None


def _multiplies_bfloat16() -> bool:
    device = accelerator()
    if device is None:
        return bool(BFLOAT16 & set(processor_features() or ()))
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if device.device_type == "TPU":
            return True
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        return tuple(details.get("compute_capability", (0, 0))) >= BFLOAT16_CAPABILITY
    if backend == "jax":
        if device.platform == "tpu":
            return True
        major, _, minor = str(getattr(device, "compute_capability", "0.0")).partition(".")
        return major.isdigit() and (int(major), int(minor or 0)) >= BFLOAT16_CAPABILITY
    import torch

    return device.type == "cuda" and torch.cuda.get_device_capability() >= BFLOAT16_CAPABILITY
