"""Memory of a training step, from its traced graph: nothing is computed.

Uses TensorFlow or JAX, whichever Keras runs on.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from .gradient_registry import releasing_gradients

# Of a process on Linux: the program, pages that are free in pieces, and the copies of weights that TensorFlow's kernels
# keep in layouts of their own. Fitted to trainings; tests/test_step_memory.py compares others' growth.
PROGRAM_BYTES = 110 << 20
FRAGMENTATION = 0.18
WEIGHT_COPIES = 4
LARGEST_BATCH = 1 << 16
ADAM_SLOTS = 2  # moments that Adam and AdamW keep of each weight
# Ops of TensorFlow whose output is the memory of an input.
VIEWS = frozenset({
    *("Identity", "IdentityN", "Reshape", "ExpandDims", "Squeeze", "StopGradient", "PreventGradient", "Bitcast"),
    *("ReadVariableOp", "CheckNumerics", "EnsureShape"),
})  # fmt: skip
# Ops that write their output over an input of the same size which nothing else needs.
IN_PLACE = frozenset({
    *("Add", "AddV2", "AddN", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "Neg", "Square", "Sqrt", "Rsqrt", "Exp"),
    *("Erf", "Tanh", "Sigmoid", "Relu", "Relu6", "ReluGrad", "Relu6Grad", "SelectV2", "BiasAdd", "Softmax", "Log"),
    *("TanhGrad", "SigmoidGrad", "SquaredDifference", "LogicalAnd", "LogicalNot", "Abs", "Sign"),
})  # fmt: skip


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training step needs at its peak.

    On a GPU or TPU that is ``total``. A process on the CPU grows by ``process`` when it begins to train; its libraries
    are not part of it.

    Args:
        batch_size: Images of the step.
        weights: All variables of the model.
        optimizer: Moments of the trainable weights.
        step: Activations, gradients and other tensors that live at the same time.
    """

    batch_size: int
    weights: int
    optimizer: int
    step: int

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {getattr(self, name) / 2**20:.1f}" for name in ("weights", "optimizer", "step"))
        return f"A training step of {self.batch_size} images: {self.total / 2**20:.1f} MiB ({parts})"

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return self.weights + self.optimizer + self.step

    @property
    def process(self) -> int:
        """Growth of a process that trains on the CPU."""
        return self.total + PROGRAM_BYTES + int(FRAGMENTATION * self.step) + WEIGHT_COPIES * self.weights


def training_memory(model: Any, batch_size: int, optimizer: Any = None) -> TrainingMemory:
    """Predict the memory of a training step.

    Args:
        model: Keras model with one input or a structure of inputs, whose sides are known.
        batch_size: Images of a step.
        optimizer: A Keras optimizer, built for the model; None: the model's own, or Adam's two moments of each weight.

    Raises:
        ValueError: Keras runs on a backend other than TensorFlow or JAX, or ``check_model``.
    """
    check_model(model)
    backend = keras.backend.backend()
    if backend not in STEPS:
        raise ValueError(f"Training memory is predicted on TensorFlow and JAX. Received: backend {backend}")
    optimizer = optimizer or getattr(model, "optimizer", None)
    trainable = _bytes_of(model.trainable_variables)
    if optimizer is not None and optimizer.built:
        moments = _bytes_of(optimizer.variables)
    else:
        moments = ADAM_SLOTS * trainable
    return TrainingMemory(batch_size, _bytes_of(model.variables), moments, STEPS[backend](model, batch_size))


def largest_batch_size(model: Any, memory_bytes: int, optimizer: Any = None) -> int:
    """Return the largest power of two whose training step needs no more memory; 0 if one image needs more.

    Args:
        model: As for ``training_memory``.
        memory_bytes: That the step may take, see ``TrainingMemory.total``.
        optimizer: As for ``training_memory``.

    Raises:
        ValueError: As for ``training_memory``; ``memory_bytes`` is not a number of at least 0.
    """
    if isinstance(memory_bytes, bool) or not isinstance(memory_bytes, (int, float)) or not 0 <= memory_bytes < math.inf:
        raise ValueError(f"memory_bytes must be a number of at least 0. Received: memory_bytes={memory_bytes!r}")
    small, large = (training_memory(model, batch_size, optimizer).total for batch_size in (2, 4))
    image = max(1, (large - small) // 2)  # all that grows is linear in the batch
    images = 2 + (int(memory_bytes) - small) // image
    return 0 if images < 1 else min(1 << (images.bit_length() - 1), LARGEST_BATCH)


def check_model(model: Any) -> Any:
    """Return the inputs of a model as it is called with them; ValueError if it is none, or a side is unknown."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"model must be a keras.Model. Received: model of type {type(model).__name__}")
    try:
        specs = _structure(model)
    except (AttributeError, ValueError, TypeError):
        raise ValueError(
            f"model must have inputs: functional, or a Sequential with an Input. Received: model={model.name!r}"
        ) from None
    for tensor in keras.tree.flatten(specs):
        if None in tensor.shape[1:]:
            raise ValueError(
                f"The sides of the model's input must be known. Received: input_shape={tuple(tensor.shape)}"
            )
    return specs


def _bytes_of(variables: Iterable[Any]) -> int:
    unique = {id(one): one for one in variables}.values()
    return sum(math.prod(one.shape) * _item_bytes(keras.backend.standardize_dtype(one.dtype)) for one in unique)


def _item_bytes(dtype: str) -> int:
    bits = re.search(r"\d+$", dtype)
    return max(1, int(bits.group()) // 8) if bits else 1  # "bool" has no number


def _inputs(model: Any, batch_size: int) -> list[tuple[tuple[int, ...], str]]:
    """Return (shape, dtype) of the inputs."""
    return [((batch_size, *tensor.shape[1:]), str(tensor.dtype)) for tensor in keras.tree.flatten(_structure(model))]


def _structure(model: Any) -> Any:
    """Return the inputs as ``model`` is called with them."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


# --- TensorFlow -------------------------------------------------------------------------------------------------------


@releasing_gradients
def _tensorflow_step(model: Any, batch_size: int) -> int:
    import tensorflow as tf

    specs = [tf.TensorSpec(shape, dtype) for shape, dtype in _inputs(model, batch_size)]

    def step(*inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = model(keras.tree.pack_sequence_as(_structure(model), list(inputs)), training=True)
            loss = tf.add_n([ops.sum(ops.square(ops.cast(one, "float32"))) for one in keras.tree.flatten(outputs)])
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    return _peak(tf.function(step).get_concrete_function(*specs).graph)


def _peak(graph: Any) -> int:
    """Return the most bytes alive at once, if the needed ops of a graph run in the order of their creation."""
    needed = _needed(graph)
    roots: dict[str, str] = {}  # tensor -> the tensor whose memory it has
    left: Counter[str] = Counter()  # uses of a memory that are still to come
    for op in needed:
        for tensor in op.outputs:
            view = op.type in VIEWS and len(op.inputs) > 0
            roots[tensor.name] = roots[op.inputs[0].name] if view else tensor.name
        for tensor in op.inputs:
            left[roots[tensor.name]] += 1
    for tensor in graph.outputs:
        left[roots[tensor.name]] += 1
    held: dict[str, int] = {}
    now = most = 0
    for op in needed:
        ending = [name for name, uses in Counter(roots[one.name] for one in op.inputs).items() if left[name] == uses]
        for tensor in op.outputs:
            if roots[tensor.name] != tensor.name or op.type in ("Placeholder", "Const"):
                continue
            size = held[tensor.name] = _tensor_bytes(tensor)
            if op.type in IN_PLACE and (over := next((name for name in ending if held.get(name) == size), None)):
                del held[over]
            else:
                now += size
        most = max(most, now)
        for name in ending:
            now -= held.pop(name, 0)
        for tensor in op.inputs:
            left[roots[tensor.name]] -= 1
        for tensor in op.outputs:  # never used
            if left[roots[tensor.name]] == 0:
                now -= held.pop(roots[tensor.name], 0)
    return most


def _needed(graph: Any) -> list[Any]:
    """Return the ops that the outputs of a graph need, in the order of their creation, but behind their inputs.

    A loop gets the stacks of its backward pass as inputs after it was created.
    """
    found: set[str] = set()
    stack = [tensor.op for tensor in graph.outputs]
    while stack:
        op = stack.pop()
        if op.name not in found:
            found.add(op.name)
            stack += [tensor.op for tensor in op.inputs]
    ordered: dict[str, Any] = {}
    for op in graph.get_operations():
        stack = [op] if op.name in found else []
        while stack:
            missing = [tensor.op for tensor in stack[-1].inputs if tensor.op.name not in ordered]
            if missing:
                stack += missing
            else:
                last = stack.pop()
                ordered[last.name] = last
    return list(ordered.values())


def _tensor_bytes(tensor: Any) -> int:
    if tensor.dtype.name in ("resource", "variant", "string") or not tensor.shape.is_fully_defined():
        return 0
    return int(tensor.shape.num_elements()) * tensor.dtype.size


# --- JAX --------------------------------------------------------------------------------------------------------------


def _jax_step(model: Any, batch_size: int) -> int:
    import jax

    def shapes(variables: Iterable[Any]) -> list[Any]:
        return [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in variables]

    def loss(trainable: Any, others: Any, inputs: Any) -> Any:
        given = keras.tree.pack_sequence_as(_structure(model), inputs)
        outputs, _ = model.stateless_call(trainable, others, given, training=True)
        return sum(ops.sum(ops.square(ops.cast(one, "float32"))) for one in keras.tree.flatten(outputs))

    inputs = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in _inputs(model, batch_size)]
    lowered = jax.jit(jax.grad(loss)).lower(
        shapes(model.trainable_variables), shapes(model.non_trainable_variables), inputs
    )
    found = lowered.compile().memory_analysis()
    return int(found.temp_size_in_bytes + found.output_size_in_bytes)


STEPS = {"tensorflow": _tensorflow_step, "jax": _jax_step}
