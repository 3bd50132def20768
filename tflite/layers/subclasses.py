"""Training methods that a subclass of ``keras.Model`` adds to a functional model, such as ``train_step``."""

from __future__ import annotations

from typing import Any

import keras

from wavemix_tf.warning import warn_user

# Methods that define how a model is trained; called by `fit`, `evaluate` and `predict`.
METHODS = (
    "train_step",
    "test_step",
    "predict_step",
    "compute_loss",
    "compute_metrics",
    "compile",
    "fit",
    "evaluate",
    "stateless_compute_loss",
)


def own_methods(model: Any) -> list[str]:
    """Names of the training methods that the model's class defines."""
    kind = type(model)
    return [name for name in METHODS if not getattr(kind, name).__module__.startswith(("keras.", "wavemix_tf."))]


def with_training_of(model: Any, copy: Any) -> Any:
    """``copy`` as a model of the class of ``model`` if that class has custom training methods; else ``copy``.

    Public attributes of the model are set on the copy, too. If the class cannot be made from inputs and outputs, a
    warning is given.

    Args:
        model: The model that was copied.
        copy: Functional model.
    """
    methods = own_methods(model)
    if not methods:
        return copy
    kind = type(model)
    try:
        if not kind.__init__.__module__.startswith("keras."):
            raise TypeError(f"{kind.__name__}.__init__ takes different arguments")
        twin = kind(copy.input, copy.output, name=copy.name)
        fresh = keras.Model(copy.input, copy.output)
        fresh.compile("sgd", "mse")
        standard = {*vars(fresh), "history"}
        for name, value in vars(model).items():
            if name not in standard and not name.startswith("_"):
                setattr(twin, name, value)
        return twin
    except Exception as error:  # a user's class may raise anything
        warn_user(
            f"The quantized model trains with Keras's own {' and '.join(methods)}, not with those of class "
            f"{kind.__name__} ({error}): let the class take inputs and outputs as keras.Model does, and set other data "
            "that it needs in compile() or as attributes.",
        )
        return copy
