"""The forms of one program: its own kernels, and one form for each library. Each has its steps and its memory plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .libraries.table import LIBRARIES, Library
from .memory_plan import ProgramPlan, Use, plan_memory
from .program import Program, Step

# Kernels in the order in which they build on each other.
KERNEL_ORDER = (
    *(
        "clamp",
        "saturate",
        "scale",
        "scale_wide",
        "round_shift",
        "requantize",
        "channels",
        "finish",
        "blocks",
        "spread",
    ),
    *(
        "convolution",
        "convolve_separately",
        "convolve_pairs",
        "filters",
        "depthwise",
        "depthwise_1x1",
        "look_up",
        "broadcast",
        "finish_binary",
    ),
    *("add", "subtract", "multiply", "squared_difference", "maximum", "minimum", "prelu", "copy", "pick", "pool"),
    *(
        "pool_window",
        "average_pool",
        "max_pool",
        "sum",
        "extreme",
        "arg_max",
        "resize_bilinear",
        "inverse",
        "reciprocal",
        "divide",
    ),
    *(
        "softmax",
        "log_softmax",
        "matmul",
        "library",
        "apply_table",
        "library_binary",
        "cmsis_nn",
        "cmsis_nn_convolution",
        "esp_nn_convolution",
    ),
    *("library_convolution", "cmsis_nn_depthwise", "cmsis_nn_add", "cmsis_nn_multiply", "cmsis_nn_pool", "esp_nn_add"),
    "esp_nn_multiply",
)
SUM_LIMIT = 1 << 29  # of kernels/scale.c


@dataclass(frozen=True)
class Variant:
    """One form.

    Args:
        library: None: the program's own kernels.
        steps: In order.
        plan: Where each feature map lies in the arena.
        kernels: Files of ``kernels/``, in order.
    """

    library: Library | None
    steps: tuple[Step, ...]
    plan: ProgramPlan
    kernels: tuple[str, ...]


def make_variants(program: Program, outside: set[int]) -> tuple[Variant, ...]:
    """The own kernels first, then every library.

    Args:
        program: Whose steps are merged already.
        outside: Keys of the maps that the caller has.
    """
    variants = []
    for library in (None, *LIBRARIES):
        steps = tuple((library.translate(step) if library else None) or step for step in program.steps)
        kernels = {kernel for step in steps for kernel in step.kernels}
        if "scale" in kernels and program.largest_sum >= SUM_LIMIT:
            kernels = kernels - {"scale"} | {"scale_wide"}
        plan = plan_memory(
            [_use(step, program) for step in steps],
            {key: words for key, words in program.names.items() if key not in outside},
            library.alignment_bytes if library else 4,
        )
        variants.append(Variant(library, steps, plan, tuple(one for one in KERNEL_ORDER if one in kernels)))
    return tuple(variants)


def _use(step: Step, program: Program) -> Use:
    over = [step.reads[place] for place in step.in_place]
    return Use(
        tuple(step.keys_read()),
        tuple((key, program.sizes[key]) for key in step.writes),
        step.scratch_bytes,
        tuple((step.writes[0], key) for key in over if isinstance(key, int)),
        step.op,
    )


def forms(name: str) -> str:
    """Text of a header that says which form a build compiles: ``<NAME>_KERNELS``, unless the build defines it."""
    lines = [f"#ifndef {name.upper()}_KERNELS"]
    for index, library in enumerate(LIBRARIES, 1):
        lines += [
            f"#{'if' if index == 1 else 'elif'} {library.condition}",
            f"#define {name.upper()}_KERNELS {index} /* {library.title} */",
        ]
    return "\n".join([*lines, "#else", f"#define {name.upper()}_KERNELS 0 /* {name}.c alone */", "#endif", "#endif"])


def condition(users: set[int], name: str) -> str:
    """Of the preprocessor, true of some forms by their places; "": of all."""
    count, macro = len(LIBRARIES) + 1, f"{name.upper()}_KERNELS"
    if len(users) == count:
        return ""
    if len(users) == count - 1:
        return f"{macro} != {(set(range(count)) - users).pop()}"
    return " || ".join(f"{macro} == {user}" for user in sorted(users))


def guarded(texts: Iterable[tuple[str, set[int]]], name: str) -> str:
    """Texts, each of some forms, with what lets the preprocessor pass over those of other forms."""
    lines: list[str] = []
    now = ""
    for text, users in texts:
        wanted = condition(users, name)
        if wanted != now:
            lines += ([f"#endif /* {now} */"] if now else []) + ([f"#if {wanted}"] if wanted else [])
            now = wanted
        lines.append(text)
    return "\n".join([*lines, *([f"#endif /* {now} */"] if now else [])])


def by_form(variants: Sequence[Variant], text: Callable[[Variant], str], name: str) -> str:
    """A text of each form, of which a build compiles one."""
    texts: dict[str, set[int]] = {}
    for index, variant in enumerate(variants):
        texts.setdefault(text(variant), set()).add(index)
    return guarded([(one, users) for one, users in texts.items() if one or len(texts) == 1], name)
