"""Translation of the Keras 3 arguments of ``compile`` to the tf_keras ones of the same names."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from wavemix_tf.keras_internals import excludes_from_weight_decay, learning_rate_or_schedule


def translate_option(what: str, given: Any, module: Any, **changes: Any) -> Any:
    """A name unchanged; a Keras 3 object as that of ``module`` with the same class name and configuration."""
    if given is None or isinstance(given, str) or type(given).__module__.startswith("tf_keras."):
        return given
    cls = getattr(module, type(given).__name__, None)
    if cls is None or not type(given).__module__.startswith("keras."):
        raise ValueError(
            f"engine='tfmot' supports {what} by name, or a Keras object whose class also exists in tf_keras. "
            f"Received: {what}={given!r}"
        )
    return cls(**_shared_options(what, type(given), cls, {**given.get_config(), **changes}))


def _shared_options(what: str, source: Any, cls: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The options that both versions of a class have; a lost one must be at its default."""
    taken, defaults = inspect.signature(cls.__init__).parameters, inspect.signature(source.__init__).parameters
    options = {}
    for key, value in config.items():
        if key in taken:
            options[key] = value
        elif key != "dtype" and value is not None and not (key in defaults and defaults[key].default == value):
            raise ValueError(f"tf_keras's {cls.__name__} has no option {key!r}. Received: {what} with {key}={value!r}")
    return options


def translate_optimizer(given: Any, keras2: Any) -> Any:
    if isinstance(given, keras.optimizers.Optimizer):
        if excludes_from_weight_decay(given):
            raise ValueError(
                "engine='tfmot' supports only an optimizer that decays every weight equally. "
                f"Received: optimizer={given.name!r} after exclude_from_weight_decay()"
            )
        schedule = learning_rate_or_schedule(given)
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            schedule = translate_option("learning_rate", schedule, keras2.optimizers.schedules)
            return translate_option("optimizer", given, keras2.optimizers, learning_rate=schedule)
    return translate_option("optimizer", given, keras2.optimizers)
