"""Whether a model ends in probabilities, where the losses take logits."""

from __future__ import annotations

from typing import Any

from wavemix_tf.keras_internals import producer

from .tasks import Task

PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid", "sparsemax")
# Layers and operations that leave probabilities what they are: other shapes, places, dtypes and steps.
PASSED = (
    *("Reshape", "Flatten", "Permute", "Transpose", "Squeeze", "ExpandDims", "GetItem", "Cast", "Identity", "Dropout"),
    *("Cropping2D", "UpSampling2D", "Resizing", "Resize", "Average", "FakeQuant"),
)


def check_logits(task: Task, model: Any) -> None:
    """ValueError if a model of classes ends in probabilities.

    The losses, and what is made of a model later, take logits. A softmax of a softmax learns little, on JAX and PyTorch
    in silence.

    Args:
        task: Of the model.
        model: Functional or Sequential.
    """
    found = probabilities_at_the_end(model) if task.has_classes else ""
    if found:
        raise ValueError(
            f"The model must return logits, not probabilities: build it with activation=None at its end. "
            f"Received: {found}"
        )


def probabilities_at_the_end(model: Any) -> str:
    """What makes the output of a model probabilities, as "softmax in 'head'"; "" where none is found.

    Args:
        model: Functional or Sequential; a layer of code of its own is not looked into.
    """
    (tensor,) = model.outputs[:1] or (None,)
    while tensor is not None:
        operation, call = producer(tensor)
        kind = type(operation).__name__
        inner = getattr(operation, "outputs", None)
        if inner and hasattr(operation, "layers"):  # a model in the model
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
