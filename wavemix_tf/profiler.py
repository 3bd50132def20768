"""``profile``: parameters, multiply-accumulates and activation memory of a Keras model, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from .keras_internals import without_new_calls
from .tracing import LayerProfile, Tracer, count_values


@dataclass(frozen=True)
class ModelProfile:
    """What a model takes at batch 1. ``str()`` is a table.

    Args:
        name: Of the model.
        layers: In the order in which they run.
        parameters: Trainable weights, as the papers count.
        other_parameters: The rest: moving statistics, fixed filters.
        macs: Multiply-accumulates of convolutions, dense layers and matrix products, attention's included.
        peak_activation_bytes: Largest sum of the activations that are held at one time, the input included, if each is
            held from its making to its last use and nothing is fused or written in place.
        uncounted: Layers whose inside could not be seen: what they multiply is missing in ``macs``.
    """

    name: str
    layers: tuple[LayerProfile, ...]
    parameters: int
    other_parameters: int
    macs: int
    peak_activation_bytes: int
    uncounted: tuple[str, ...] = ()

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
            table.append(f"Not counted, their inside could not be seen: {', '.join(self.uncounted)}")
        return "\n".join(table)


def profile(model: Any) -> ModelProfile:
    """Count a model's parameters, multiply-accumulates and activation memory at batch 1, at inference.

    The model is traced on symbolic tensors, so nothing is computed and the backend does not matter. A layer that holds
    others is opened (by its ``inline`` where it has one), and so is a custom one: every product in it counts, whether
    written as a layer or with ``keras.ops``. Taps of a convolution that lie on padding count, biases and elementwise
    steps do not; a transposed convolution does one product for each input value, tap and output channel. A Haar
    transform (``DWT2D``, ``IDWT2D``) adds and halves, and contracts with the convolution behind it (``fold_dwt``): it
    counts as no products; other wavelets count.

    Args:
        model: ``keras.Model`` with known image sides: functional, ``Sequential`` or a subclass that runs on symbolic
            tensors.

    Returns:
        A ``ModelProfile``.

    Raises:
        ValueError: not a Keras model, not built, or a side of its input is unknown.

    Example:
    >>> print(wm.profile(wm.WaveMixClassifier(10, (32, 32, 3), width=32, depth=7)))
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"model must be a keras.Model. Received: model of type {type(model).__name__}")
    try:
        specs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    except (AttributeError, ValueError, TypeError):
        raise ValueError(
            f"model must know its inputs: functional, or a Sequential with an Input. Received: model={model.name!r}"
        ) from None
    for tensor in keras.tree.flatten(specs):
        if None in tensor.shape[1:]:
            raise ValueError(
                f"The sides of the model's input must be known. Received: input_shape={tuple(tensor.shape)}"
            )
    tracer = Tracer()
    with without_new_calls(model):
        # Once more through the graph, at batch 1: an unknown batch hides in shapes that merge it with other axes.
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
    )
