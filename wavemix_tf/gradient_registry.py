"""Release the gradients that TensorFlow registers during tracing together with their graph.

``tf.custom_gradient`` adds an entry to TensorFlow's registry of gradients for every traced call, and never removes one.
An entry keeps its graph alive, so a process leaks every training step that it traced, several MiB per ``fit``. Keras's
own layers and quantizers use it as well, so the fix is in the registry and not in the callers.
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

PREFIX = "CustomGradient-"  # prefix of the names that ``tf.custom_gradient`` registers
ATTRIBUTE = "_wavemix_tf_gradients"  # attribute of a graph: gradients that live as long as the graph


def release_gradients() -> int:
    """Make registered gradients of traced functions end with their graph; return the number found.

    A graph that is still in use keeps its gradients, so existing functions keep working. Without TensorFlow in the
    process this does nothing.
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
        # The graph owns the gradient, a cycle that Python collects; the registry has only a weak reference.
        if not hasattr(graph, ATTRIBUTE):
            setattr(graph, ATTRIBUTE, [])
        getattr(graph, ATTRIBUTE).append(gradient)
        entries[name]["type"] = _Weak(gradient)
        weakref.finalize(graph, entries.pop, name, None).atexit = False
        found += 1
    return found


def releasing_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that traces Keras models: its registered gradients end with the models."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        finally:
            release_gradients()

    return wrapped


class _Weak:
    """Weak reference to a gradient function, callable."""

    def __init__(self, gradient: Callable[..., Any]) -> None:
        self._gradient = weakref.ref(gradient)

    def __call__(self, *args: Any) -> Any:
        gradient = self._gradient()
        if gradient is None:  # cannot happen: an operation exists only in its graph, which keeps the gradient
            raise LookupError("The graph of this gradient is gone")
        return gradient(*args)


def _graphs(function: Any) -> Iterator[Any]:
    """Yield the graphs of the symbolic tensors in a function's closure, recursively."""
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
