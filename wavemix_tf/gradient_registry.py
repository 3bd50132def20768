"""Gradients that TensorFlow registers while it traces, let go together with the graph they belong to.

``tf.custom_gradient`` adds an entry to TensorFlow's registry of gradients for every call that it traces, and takes none
away. An entry holds its graph: a process keeps every training step that it ever traced, several MiB a ``fit``. Keras's
own layers and quantizers call it as ours do, so this is mended at the registry and not at the callers.
"""

from __future__ import annotations

import functools
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

PREFIX = "CustomGradient-"  # of the names under which ``tf.custom_gradient`` registers
ATTRIBUTE = "_wavemix_tf_gradients"  # of a graph: the gradients that live as long as it does


def release_gradients() -> int:
    """Let the registered gradients of traced functions go as soon as their graph does; returns how many were found.

    A graph that is still in use keeps its gradients, whoever traced it: nothing that worked before stops to. Without
    TensorFlow in the process there is nothing to do.
    """
    framework = sys.modules.get("tensorflow.python.framework.ops")
    if framework is None:
        return 0
    entries = framework.gradient_registry._registry
    found = 0
    for name in [name for name in entries if name.startswith(PREFIX)]:
        gradient = entries[name]["type"]
        if isinstance(gradient, _Weak):
            continue
        graph = next(_graphs(gradient), None)
        if graph is None:
            continue
        # The graph owns the gradient, a cycle that Python collects; the registry only knows where it is.
        if not hasattr(graph, ATTRIBUTE):
            setattr(graph, ATTRIBUTE, [])
        getattr(graph, ATTRIBUTE).append(gradient)
        entries[name]["type"] = _Weak(gradient)
        weakref.finalize(graph, entries.pop, name, None).atexit = False
        found += 1
    return found


def releasing_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that traces Keras models: what it leaves in the registry goes with the models."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        finally:
            release_gradients()

    return wrapped


class _Weak:
    """Calls a gradient function that something else keeps alive."""

    def __init__(self, gradient: Callable[..., Any]) -> None:
        self._gradient = weakref.ref(gradient)

    def __call__(self, *args: Any) -> Any:
        gradient = self._gradient()
        if gradient is None:  # an operation exists only in a graph, and the graph keeps the gradient
            raise LookupError("The graph of this gradient is gone")
        return gradient(*args)


def _graphs(function: Any) -> Iterator[Any]:
    """Graphs of the symbolic tensors that a function and the functions in its closure hold."""
    stack, seen = [function], set()
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, types.FunctionType):
            for cell in item.__closure__ or ():
                try:
                    stack.append(cell.cell_contents)
                except ValueError:  # not filled yet
                    continue
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        elif type(item).__name__ in ("SymbolicTensor", "Tensor") and hasattr(item, "graph"):
            yield item.graph
