"""Progress of long functions: they say what they do, and a caller may show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_show: ContextVar[Callable[[str], None] | None] = ContextVar("show", default=None)


@contextmanager
def showing(show: Callable[[str], None]) -> Iterator[None]:
    """Call ``show`` with every text that ``report`` gets inside the block, in the same thread."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)


def report(task: str, done: int | None = None, total: int | None = None) -> None:
    """Say what is being done, and how much of it is done.

    Args:
        task: What, e.g. "calibrate".
        done: Images that are finished; None: unknown.
        total: All of them.
    """
    show = _show.get()
    if show is not None:
        show(task if done is None or total is None else f"{task}, {done:,} of {total:,} images")
