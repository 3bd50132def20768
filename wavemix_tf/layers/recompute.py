"""Blocks whose activations are computed again in the backward pass, so that training keeps only each block's input.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174). ``keras.remat`` computes a function
again; it must then draw the same random numbers and leave the moving statistics alone, which is what this file adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

RECOMPUTE = ("none", "elementwise", "block")

# (layer, mean, variance) of the batch norms inside a block that is computed again; None outside.
_statistics: ContextVar[list[tuple[Any, Any, Any]] | None] = ContextVar("statistics", default=None)


def hand_over_statistics(layer: Any, mean: Any, variance: Any) -> bool:
    """Give a batch's statistics to the block that is computed again; False where the layer must average them itself.

    Args:
        layer: With a method ``average(mean, variance)``.
        mean: (C,).
        variance: (C,), biased.
    """
    found = _statistics.get()
    if found is None:
        return False
    found.append((layer, mean, variance))
    return True


def is_recomputed() -> bool:
    """Whether the calling layer is inside a block that is computed again."""
    return _statistics.get() is not None


def recomputed(function: Callable[[Any], Any], layers: Sequence[Any], x: Any) -> Any:
    """Return ``function(x)``, whose activations are dropped and computed again in the backward pass.

    Args:
        function: Computes a tensor from a tensor with ``layers`` in training mode.
        layers: All layers that it uses, at any depth.
        x: Tensor.
    """
    generators = [layer.seed_generator for layer in layers if getattr(layer, "seed_generator", None) is not None]
    replays = [_Replay(generator) for generator in generators]
    norms: list[Any] = []

    def pure(x: Any) -> tuple[Any, ...]:
        token = _statistics.set([])
        try:
            with _replaying(replays, x):
                y = function(x)
            found = _statistics.get() or []
        finally:
            _statistics.reset(token)
        norms[:] = [layer for layer, _, _ in found]
        return (y, *(ops.stop_gradient(part) for _, *both in found for part in both))

    y, *statistics = keras.remat(pure)(x)
    for replay in replays:
        replay.advance()
    for layer, mean, variance in zip(norms, statistics[::2], statistics[1::2], strict=True):
        layer.average(mean, variance)
    return y


class _Replay:
    """The random numbers of a generator in one step, which may be drawn several times.

    Args:
        generator: A Keras ``SeedGenerator``.
    """

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self.first = generator.state.value * 1  # a copy
        self.draws = 0
        self.after: Any = None

    def next(self, ordered: bool = True) -> Any:
        """Return the seed that the generator would return in its place."""
        seed = self._seed(self.draws)
        self.draws += 1
        return seed if self.after is None else seed + ops.cast(self.after, seed.dtype)

    def advance(self) -> None:
        """Leave the generator as after the draws of one pass."""
        self.generator.state.assign(self._seed(self.draws))

    def _seed(self, draws: int) -> Any:
        return self.first + ops.convert_to_tensor([0, draws], dtype=self.first.dtype)


@contextmanager
def _replaying(replays: Sequence[_Replay], x: Any) -> Iterator[None]:
    """Let generators draw the numbers of this step, from the first one, when ``x`` is known.

    Otherwise TensorFlow would draw those of every backward pass at the start of the step and keep them until then.
    """
    never = ops.sum(ops.reshape(x, (-1,))[:1]) > float("inf")  # False, which no optimizer of graphs can know
    for replay in replays:
        replay.draws = 0
        replay.after = never
        replay.generator.next = replay.next
    try:
        yield
    finally:
        for replay in replays:
            replay.after = None
            del replay.generator.next
