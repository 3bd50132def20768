"""Check that a model returns logits, not probabilities: the losses take logits."""

from __future__ import annotations

from typing import Any

from wavemix_tf.keras_internals import producer

from .tasks import Task

PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid", "sparsemax")
# Layers and operations whose output is still probabilities: they change shape, order, dtype or resolution only.
PASSED = (
    *("Reshape", "Flatten", "Permute", "Transpose", "Squeeze", "ExpandDims", "GetItem", "Cast", "Identity", "Dropout"),
    *("Cropping2D", "UpSampling2D", "Resizing", "Resize", "Average", "FakeQuant"),
)


def check_logits(task: Task, model: Any) -> None:
    """Raise ValueError if the model of a task with classes ends in probabilities.

    The losses and all later steps (quantization, export) take logits. A softmax of a softmax learns little; JAX and
    PyTorch do not warn.

    Args:
        task: The task of the model.
        model: Functional or Sequential.
    """
    found = probabilities_at_the_end(model) if task.has_classes else ""
    if found:
        raise ValueError(
            f"The model must return logits, not probabilities: build it with activation=None at its end. "
            f"Received: {found}"
        )


def probabilities_at_the_end(model: Any) -> str:
    """Name the activation that makes a model's output probabilities, as "softmax in 'head'"; "" if none is found.

    Args:
        model: Functional or Sequential; the code of custom layers is not inspected.
    """
    (tensor,) = model.outputs[:1] or (None,)
    while tensor is not None:
        operation, call = producer(tensor)
        kind = type(operation).__name__
        inner = getattr(operation, "outputs", None)
        if inner and hasattr(operation, "layers"):  # a nested model
            tensor = inner[0]
            continue
        activation = getattr(operation, "activation", None)
        name = getattr(activation, "__name__", type(activation).__name__) if activation is not None else kind
        name = {"HardSigmoid": "hard_sigmoid"}.get(name, name.lower())
        if name in PROBABILITIES:
            return f"{name} in {operation.name!r}"
        inputs = call.arguments.keras_tensors
        tensor = inputs[0] if inputs and (kind in PASSED or (kind == "Activation" and name == "linear")) else None
    return ""
