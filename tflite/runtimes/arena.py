"""The tensor arena of TensorFlow Lite Micro on a 32-bit device, calculated from a file.

Its allocator fills the arena from both ends. The tail holds what lives as long as the interpreter: structures of the
file's tensors and ops, and each kernel's own data. The head holds feature maps and scratch buffers, where the greedy
planner put them. While tensors are allocated, the head also holds the planner's own lists, so a file may need more to
start than it uses afterwards. The same steps are made here in the same order, with the sizes of the structures on a
32-bit device (revision 90b983c2, August 2026).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..file.arena_plan import MICRO_ALIGNMENT_BYTES, aligned, plan_file
from ..file.flatbuffer import FileInfo, OpInfo, TensorInfo
from ..file.op_costs import tensor_bytes
from ..names import CMSIS_NN, REFERENCE_KERNELS
from ..targets.cmsis_nn import BUILDS as CMSIS_NN_BUILDS
from ..targets.cmsis_nn import not_run
from ..targets.kernel_memory import WORD, kernel_memory

# Structures of the allocator, one after the other: SingleArenaBufferAllocator, GreedyMemoryPlanner, MicroAllocator.
ALLOCATOR_BYTES = (36, 44, 36)
OPTIONS_ALLOCATOR_BYTES, SUBGRAPH_BYTES = 8, 8
EVAL_TENSOR_BYTES, NODE_BYTES, TENSOR_BYTES, QUANTIZATION_BYTES = 12, 32, 32, 12
# While tensors are allocated: a request for scratch memory, of which every op may make so many more; a row of the list
# of lifetimes; a row of the planner's lists.
REQUEST_BYTES, REQUESTS, LIFETIME_BYTES, PLANNED_BYTES = 12, 12, 24, 40
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
LOOKS_TWICE = {REFERENCE_KERNELS: CONVOLUTIONS, CMSIS_NN: (*CONVOLUTIONS, "AVERAGE_POOL_2D")}
# Kernels that a file is planned for -> their builds.
BUILDS = {REFERENCE_KERNELS: ("",), CMSIS_NN: CMSIS_NN_BUILDS}


@dataclass(frozen=True)
class ArenaUse:
    """Bytes of an arena that is aligned to 16 bytes, as its size is.

    Args:
        used_bytes: What ``MicroInterpreter::arena_used_bytes`` returns.
        start_bytes: The smallest arena in which ``AllocateTensors`` succeeds.
        planned_bytes: Feature maps and scratch buffers, of the used bytes.
    """

    used_bytes: int
    start_bytes: int
    planned_bytes: int


def arena_by_kernels(info: FileInfo) -> dict[str, int]:
    """The smallest arena in which a file starts, for each of ``names.KERNELS`` that runs it.

    Of CMSIS-NN it is the largest of its builds.

    Args:
        info: The file.
    """
    return {
        kernels: max(arena_use(info, kernels, build).start_bytes for build in builds)
        for kernels, builds in BUILDS.items()
        if kernels != CMSIS_NN or not_run(info) is None
    }


def arena_use(info: FileInfo, kernels: str = REFERENCE_KERNELS, build: str = "") -> ArenaUse:
    """The arena of a file.

    Args:
        info: The file.
        kernels: Key of ``names.KERNELS``.
        build: Of CMSIS-NN, a name of ``cmsis_nn.BUILDS``.
    """
    memory = [kernel_memory(op, kernels, build) for op in info.ops]
    scratch = {id(op): one.scratch for op, one in zip(info.ops, memory, strict=True)}
    arena = _Arena()
    for size in (*ALLOCATOR_BYTES, OPTIONS_ALLOCATOR_BYTES):
        arena.keep(size, WORD)
    arena.request(0)
    arena.keep(SUBGRAPH_BYTES, WORD)
    arena.keep(EVAL_TENSOR_BYTES * len(info.tensors), WORD)
    arena.keep(NODE_BYTES * len(info.ops), WORD)
    for one in memory:
        arena.keep(*one.options)
    for one in memory:
        arena.keep(one.data_bytes)
    requests = 0
    for op, one in zip(info.ops, memory, strict=True):
        for size in one.prepared:
            arena.keep(size)
        arena.borrow(_looked_at_bytes(op, kernels))
        requests += len(one.scratch)
        arena.request(requests)
    arena.keep(WORD * requests, WORD)
    plan = plan_file(info, lambda op: scratch[id(op)])
    lists = WORD + LIFETIME_BYTES * (len(info.tensors) + requests)
    for tensor in info.tensors:
        if tensor.variable:
            arena.keep(tensor_bytes(tensor))
    arena.borrow(lists, PLANNED_BYTES * len(plan.placements))
    arena.head = plan.arena_bytes
    arena.grow()
    for ends in (info.inputs, info.outputs):
        arena.keep(WORD * len(ends))
        for tensor in ends:
            for size in _tensor_parts(tensor):
                arena.keep(size, WORD)
    return ArenaUse(arena.head + arena.tail, aligned(arena.most, MICRO_ALIGNMENT_BYTES), plan.arena_bytes)


class _Arena:
    """Bytes in use at both ends, and the most that were in use at one time."""

    def __init__(self) -> None:
        self.head = 0
        self.tail = 0
        self.most = 0

    def keep(self, size: int, alignment: int = MICRO_ALIGNMENT_BYTES) -> None:
        """Take memory from the tail."""
        self.tail = aligned(self.tail + size, alignment) if size else self.tail
        self.grow()

    def request(self, count: int) -> None:
        """Make room at the head for the requests for scratch memory until now, and for the next op's."""
        self.head = REQUEST_BYTES * (count + REQUESTS)
        self.grow()

    def borrow(self, *sizes: int) -> None:
        """Take memory behind the head for a moment; each part but the first begins aligned, and so does the tail."""
        used = self.head + sizes[0]
        for size in sizes[1:]:
            used = aligned(used, MICRO_ALIGNMENT_BYTES) + size
        self.most = max(self.most, used + (aligned(self.tail, MICRO_ALIGNMENT_BYTES) if len(sizes) > 1 else self.tail))

    def grow(self) -> None:
        self.most = max(self.most, self.head + self.tail)


def _tensor_parts(tensor: TensorInfo) -> tuple[int, ...]:
    """Structures of a tensor in its long form: itself, its quantization and its zero points."""
    count = tensor.channel_scales
    return (TENSOR_BYTES, QUANTIZATION_BYTES, WORD + WORD * count) if count else (TENSOR_BYTES,)


def _looked_at_bytes(op: OpInfo, kernels: str) -> int:
    """Tensors in their long form while a kernel prepares: some read all but the bias twice."""
    once = sum(sum(_tensor_parts(tensor)) for tensor in (*op.inputs, *op.outputs))
    if op.name not in LOOKS_TWICE[kernels]:
        return once
    return once + sum(sum(_tensor_parts(tensor)) for tensor in (*op.inputs[:2], *op.outputs))
