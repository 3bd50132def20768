"""``profile``: parameters, multiply-accumulates and activation memory of a Keras model, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from .checks import check_positive
from .keras_internals import without_new_calls
from .step_memory import TrainingMemory, check_model, training_memory
from .tracing import LayerProfile, Tracer, count_values


@dataclass(frozen=True)
class ModelProfile:
    """Cost of a model at batch 1. ``str()`` is a table.

    Args:
        name: Name of the model.
        layers: Layers in execution order.
        parameters: Trainable weights, as in the papers.
        other_parameters: The rest: moving statistics, fixed filters.
        macs: Multiply-accumulates of convolutions, dense layers and matrix products, including attention.
        peak_activation_bytes: Largest sum of live activations, including the input, if each is live from its creation
            to its last use and nothing is fused or written in place.
        uncounted: Layers that could not be traced: their products are missing in ``macs``.
        training: Memory of a training step; None if it was not asked for.
    """

    name: str
    layers: tuple[LayerProfile, ...]
    parameters: int
    other_parameters: int
    macs: int
    peak_activation_bytes: int
    uncounted: tuple[str, ...] = ()
    training: TrainingMemory | None = None

    def __str__(self) -> str:
        rows = [("layer", "kind", "output", "parameters", "MMAC", "KiB")]
        for row in self.layers:
            shape = "x".join(map(str, row.output_shape[1:]))
            macs = f"{row.macs / 1e6:.3f}" if row.macs else ""
            size = f"{row.activation_bytes / 1024:.1f}" if row.activation_bytes else ""
            rows.append((row.name, row.kind, shape, f"{row.parameters:,}" if row.parameters else "", macs, size))
        peak = f"peak {self.peak_activation_bytes / 1024:.1f}"
        rows.append((self.name, "total", "", f"{self.parameters:,}", f"{self.macs / 1e6:.3f}", peak))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                text.ljust(width) if column < 3 else text.rjust(width)
                for column, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        rule = "-" * max(map(len, lines))
        table = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        if self.uncounted:
            table.append(f"Not counted, because they cannot be traced: {', '.join(self.uncounted)}")
        if self.training is not None:
            table.append(str(self.training))
        return "\n".join(table)


def profile(model: Any, training: bool = False, batch_size: int = 32) -> ModelProfile:
    """Count a model's parameters, multiply-accumulates and activation memory at batch 1, at inference.

    The model is traced on symbolic tensors, so nothing is computed and the backend does not matter. Composite and
    custom layers are opened (by ``inline`` if they have it): every product inside counts, whether in a layer or in
    ``keras.ops``. Convolution taps on padding count; biases and elementwise operations do not. A transposed convolution
    has one product per input value, tap and output channel. A Haar transform (``DWT2D``, ``IDWT2D``) counts as no
    products, since it adds and halves, and folds into the next convolution (``fold_dwt``); other wavelets count.

    Args:
        model: ``keras.Model`` with known image sides: functional, ``Sequential`` or a subclass that runs on symbolic
            tensors.
        training: Also predict the memory of a training step (TensorFlow and JAX). The step is traced, not run; its
            tensors are those of the model's optimizer, if that is built, or of Adam.
        batch_size: Images of the training step.

    Returns:
        A ``ModelProfile``.

    Raises:
        ValueError: Not a Keras model, not built, or a side of its input is unknown.

    Example:
    >>> print(wm.profile(wm.WaveMixClassifier(10, (32, 32, 3), width=32, depth=7)))
    """
    specs = check_model(model)
    tracer = Tracer()
    with without_new_calls(model):
        # Call the graph again at batch 1: an unknown batch size may be merged with other axes.
        stand_ins = keras.tree.map_structure(
            lambda tensor: keras.Input(batch_shape=(1, *tensor.shape[1:]), dtype=tensor.dtype), specs
        )
        tracer.inputs(keras.tree.flatten(stand_ins))
        results = keras.tree.flatten(model.call(stand_ins))
        tracer.walk(results, owner=model)
    layers = tracer.rows()
    return ModelProfile(
        name=model.name,
        layers=layers,
        parameters=count_values(model.trainable_weights),
        other_parameters=count_values(model.non_trainable_weights),
        macs=sum(row.macs for row in layers),
        peak_activation_bytes=tracer.peak_bytes(results),
        uncounted=tuple(dict.fromkeys(tracer.uncounted)),
        training=training_memory(model, check_positive("batch_size", batch_size)) if training else None,
    )
