"""Parts of a network that are computed again in the backward pass, so that training keeps only their inputs.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174). ``keras.remat`` computes a function
again; it must then draw the same random numbers and update variables once, which is what this file adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

from ..keras_internals import global_generator, own_value

RECOMPUTE = ("none", "elementwise", "block")

_again: ContextVar[bool] = ContextVar("again", default=False)


def is_recomputed() -> bool:
    """Whether the calling layer is inside a part that is computed again."""
    return _again.get()


def recomputed(function: Callable[..., Any], layers: Sequence[Any], *inputs: Any) -> Any:
    """Return ``function(*inputs)``, whose activations are dropped and computed again in the backward pass.

    Variables that the layers update, such as moving statistics, are updated once, after the forward pass.

    Args:
        function: Computes a tensor, or a list of tensors, from tensors, with ``layers`` in training mode.
        layers: All layers that it uses, at any depth.
        inputs: Tensors; the gradient of those that are floating point is computed.
    """
    generators = [layer.seed_generator for layer in layers if getattr(layer, "seed_generator", None) is not None]
    shared = global_generator()
    generators += [] if shared is None else [shared]  # of layers that draw without a seed
    replays = [_Replay(generator) for generator in generators]
    states = {id(generator.state) for generator in generators}
    unique = {id(variable): variable for layer in layers for variable in layer.variables}.values()
    updated = [variable for variable in unique if not variable.trainable and id(variable) not in states]
    # JAX's functions are pure: there the values of all variables are those of the caller's scope.
    read = list(unique) if keras.backend.backend() == "jax" else updated
    values = [(variable, own_value(variable)) for variable in read if id(variable) not in states]
    places = [place for place, tensor in enumerate(inputs) if is_float(tensor)]
    changed: list[Any] = []
    losses: list[Any] = []
    structure: list[Any] = []

    def pure(*tensors: Any) -> tuple[Any, ...]:
        given = list(inputs)
        for place, tensor in zip(places, tensors, strict=True):
            given[place] = tensor
        token = _again.set(True)
        try:
            with keras.StatelessScope(values, collect_losses=True) as scope, _replaying(replays, tensors[0]):
                y = function(*given)
        finally:
            _again.reset(token)
        initial = {id(variable): value for variable, value in values}
        current = [(variable, scope.get_current_value(variable)) for variable in updated]
        found = [(variable, value) for variable, value in current if value is not initial[id(variable)]]
        changed[:], losses[:] = [variable for variable, _ in found], scope.losses
        structure[:] = [keras.tree.map_structure(lambda _: 0, y)]
        return (*keras.tree.flatten(y), *scope.losses, *(ops.stop_gradient(value) for _, value in found))

    results = keras.remat(pure)(*(inputs[place] for place in places))
    end = len(results) - len(changed)
    count = end - len(losses)
    y, after = keras.tree.pack_sequence_as(structure[0], results[:count]), results[end:]
    for loss in results[count:end]:
        layers[0].add_loss(loss)  # whichever layer holds it: the model adds up those of all
    for replay in replays:
        replay.advance()
    for variable, value in zip(changed, after, strict=True):
        variable.assign(value)
    return y


def is_float(tensor: Any) -> bool:
    """Return whether a tensor is floating point."""
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


class _Replay:
    """The random numbers of a generator in one step, which may be drawn several times.

    Args:
        generator: A Keras ``SeedGenerator``.
    """

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        replayed = vars(generator).get("next")
        self.outer: _Replay | None = replayed and replayed.__self__  # of a part that this one is in
        self.first = generator.state.value * 1 if self.outer is None else self.outer.peek()  # a copy
        self.draws: list[bool] = []  # for each whether it is ordered, see ``SeedGenerator.next``
        self.after: Any = None

    def next(self, ordered: bool = True) -> Any:
        """Return the seed that the generator would return in its place."""
        seed = self.peek()
        self.draws.append(ordered)
        return seed

    def peek(self) -> Any:
        """Return what ``next`` will return."""
        seed = self._seed()
        return seed if self.after is None else seed + ops.cast(self.after, seed.dtype)

    def advance(self) -> None:
        """Leave the generator as after the draws of one pass."""
        if self.outer is not None:
            self.outer.draws += self.draws
        elif self.draws:
            self.generator.state.assign(self._seed())

    def _seed(self) -> Any:
        """Return the generator's state behind the draws."""
        if all(self.draws):
            return self.first + ops.convert_to_tensor([0, len(self.draws)], dtype=self.first.dtype)
        seed = self.first
        for ordered in self.draws:
            one = ops.convert_to_tensor([0, 1], dtype=seed.dtype)
            seed = seed + one if ordered else (seed + 1) * 5387 % 933199  # as Keras does
        return seed


@contextmanager
def _replaying(replays: Sequence[_Replay], x: Any) -> Iterator[None]:
    """Let generators draw the numbers of this step, from the first one, when ``x`` is known.

    Otherwise TensorFlow would draw those of every backward pass at the start of the step and keep them until then.
    """
    never = ops.sum(ops.reshape(x, (-1,))[:1]) > float("inf")  # False, which no optimizer of graphs can know
    before = [vars(replay.generator).get("next") for replay in replays]
    for replay in replays:
        replay.draws = []
        replay.after = never
        replay.generator.next = replay.next
    try:
        yield
    finally:
        for replay, replaced in zip(replays, before, strict=True):
            replay.after = None
            if replaced is None:
                del replay.generator.next
            else:
                replay.generator.next = replaced
