"""A generated program before it is text: steps, each a call of a kernel, and the constants that they read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UnsupportedOpError
from ..file.flatbuffer import FileInfo, OpInfo, TensorInfo
from ..targets.audit import describe

REQUANTIZE = ("scale", "round_shift", "requantize")  # kernels
Operand = int | np.ndarray  # a feature map's key, or what a constant holds
Fields = dict[str, Any]  # of a struct in C, in its order: int, array, None, a list of ints, another struct


@dataclass
class Step:
    """One call.

    Args:
        ops: What it computes, for a comment.
        kernels: Files of ``kernels/`` that it needs.
        call: C text with ``{r0}`` ... for what it reads, ``{w0}`` for what it writes, ``{k}`` for its parameters and
            ``{scratch}``.
        reads: Feature maps and constants.
        writes: Keys of feature maps.
        struct: Type of its parameters in C; "": none.
        fields: They themselves.
        scratch_bytes: Memory that it needs while it runs.
        in_place: Places in ``reads`` of the maps that it may write over.
        channels: The fields that end an output value, where a table of 256 entries may be put behind it.
        form: What a convolution beside it can do by itself. One before it: ("blocks", block, rows, columns) of
            DEPTH_TO_SPACE, ("crop", top, left, rows, columns) of a slice. One behind it: ("pad", top, left, rows,
            columns of what is padded, value).
        op: Index of the op of the file that it ends with.
    """

    ops: list[str]
    kernels: tuple[str, ...]
    call: str
    reads: list[Operand]
    writes: list[int]
    struct: str = ""
    fields: Fields = field(default_factory=dict)
    scratch_bytes: int = 0
    in_place: tuple[int, ...] = ()
    channels: Fields | None = None
    form: tuple[Any, ...] = ()
    op: int = 0

    def keys_read(self) -> list[int]:
        return [key for key in self.reads if isinstance(key, int)]


class Program:
    """Collects the steps of a file, op by op.

    Args:
        info: The file.
    """

    def __init__(self, info: FileInfo):
        self.info = info
        self.steps: list[Step] = []
        self.sizes: dict[int, int] = {}  # key -> bytes
        self.names: dict[int, str] = {}
        self._keys: dict[int, int] = {}  # id of a tensor -> key
        # Key -> the map that it is a function of, value by value, and the 256 results: written when it is read.
        self._functions: dict[int, tuple[int, np.ndarray]] = {}
        self._words: dict[int, list[str]] = {}
        self._written_by: dict[int, int] = {}  # key of a function -> index of its op
        self.index = 0
        self.largest_sum = 0  # that any accumulator may reach
        for tensor in info.inputs:
            self.new_map(tensor)

    @property
    def op(self) -> OpInfo:
        return self.info.ops[self.index]

    def refuse(self, reason: str) -> UnsupportedOpError:
        """The error that names the op."""
        return UnsupportedOpError(
            f"The generator of C takes the op forms of docs/targets.md, target 'c'. Received: "
            f"{describe(self.index, self.op)} {reason}. Choose target 'mcu', whose interpreter runs it"
        )

    def require(self, fulfilled: bool, reason: str) -> None:
        if not fulfilled:
            raise self.refuse(reason)

    def reach(self, magnitude: int) -> None:
        """An accumulator of the current op may be so large."""
        self.largest_sum = max(self.largest_sum, magnitude)

    # --- feature maps -------------------------------------------------------------------------------------------------

    def new_map(self, tensor: TensorInfo) -> int:
        """The key of a tensor that an op, or the caller of the program, writes."""
        key = self._keys.setdefault(id(tensor), len(self._keys))
        self.sizes[key] = math.prod(tensor.shape) * (4 if tensor.dtype == "int32" else 1)
        self.names[key] = f"map {key}"
        return key

    def alias(self, output: TensorInfo, source: TensorInfo) -> None:
        """The same bytes in the same order."""
        self._keys[id(output)] = self._keys[id(source)]

    def read(self, tensor: TensorInfo) -> Operand:
        """What an op reads; a function that was not yet written is written here."""
        if tensor.constant:
            return tensor.values()
        key = self._keys[id(tensor)]
        self._write_function(key)
        return key

    def key(self, tensor: TensorInfo) -> int:
        return self._keys[id(tensor)]

    def function(self, tensor: TensorInfo) -> tuple[int, np.ndarray]:
        """(map, table): every value of ``tensor`` is ``table[value of the map + 128]``."""
        key = self._keys[id(tensor)]
        return self._functions.get(key, (key, np.arange(-128, 128, dtype=np.int8)))

    def set_function(self, output: TensorInfo, source: int, table: np.ndarray) -> None:
        """``output`` is a function of ``source``, value by value; it is written when something else reads it."""
        before = [self._keys[id(tensor)] for tensor in self.op.inputs if not tensor.constant]
        key = self.new_map(output)
        self._functions[key] = (source, table)
        self._written_by[key] = self.index
        names = [name for other in before if other in self._functions for name in self._words[other]]
        self._words[key] = [*dict.fromkeys(names), self.op.name]

    def _write_function(self, key: int) -> None:
        if key not in self._functions:
            return
        source, table = self._functions.pop(key)
        self.steps.append(
            Step(
                self._words[key],
                ("look_up",),
                f"look_up({{r0}}, {{r1}}, {{w0}}, {self.sizes[key]});",
                [table, source],
                [key],
                in_place=(1,),
                op=self._written_by.pop(key),
            )
        )

    def emit(
        self, kernels: Sequence[str], call: str, reads: Sequence[Operand], writes: Sequence[int], **more: Any
    ) -> None:
        """Add a step of the current op."""
        self.steps.append(Step([self.op.name], tuple(kernels), call, list(reads), list(writes), op=self.index, **more))


Lowering = Callable[[Program], None]
