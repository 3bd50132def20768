"""The passes over a graph, in their order: one list for each purpose, one list per target.

A pass is a function that edits a ``Graph``, in its own file in ``passes/``, whose docstring starts with the rewrite. An
exact pass does not change the network's function at inference, up to float rounding; ``tests/test_tflite_passes.py``
checks every pass for that. A comment explains where the order matters.

- ``CANONICAL``: the many forms of a user's model -> the few forms that all other passes support. Starts every list.
- ``quantizing_passes``: the passes of ``quantize`` before it measures ranges.
- ``folding_passes``, ``AFFINES_TO_CONVOLUTIONS``: the same with ``engine="tfmot"``, which trains the folded network.
- ``target_passes``: the passes of ``export`` for a target: ``lowering_passes``, then ``finishing_passes`` in an
  upsample form. ``trace`` shows the graph after each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from wavemix_tf.checks import check_option

from ..targets.table import get_target
from .exportable import check_exportable
from .fake_quant_placement import insert_fake_quant, nodes_of
from .graph import Graph, Node
from .layer_kinds import FIXED_AFFINES, TRAINED_AFFINES
from .passes.bake_weights import bake_weights
from .passes.cut_before_permuting import cut_before_permuting
from .passes.decompose_swish import decompose_swish
from .passes.drop_inference_noops import drop_inference_noops
from .passes.drop_linear_activations import drop_linear_activations
from .passes.drop_wide_ranges import drop_wide_ranges
from .passes.fix_ranges import fix_ranges
from .passes.fold_affines import fold_affines
from .passes.fold_wavelets import fold_wavelets
from .passes.fuse_gelu import fuse_gelu
from .passes.gather_affines import gather_affines
from .passes.index_before_transposing import index_before_transposing
from .passes.lower_affines import lower_affines
from .passes.lower_wavelets import lower_wavelets
from .passes.norm_before_bilinear import norm_before_bilinear
from .passes.operations_to_layers import operations_to_layers
from .passes.pool_globally import pool_globally
from .passes.push_scales import push_scales
from .passes.read_pixels_as_numbers import read_pixels_as_numbers
from .passes.round_taps import round_taps
from .passes.shorten_names import shorten_names
from .passes.softmax_over_last import softmax_over_last
from .passes.split_activations import split_activations
from .passes.split_dense import split_dense
from .passes.split_hard_sigmoid import split_hard_sigmoid
from .passes.split_merges import split_merges
from .passes.split_separable import split_separable
from .passes.split_strides import split_strides
from .passes.substitute_activations import substitute_activations
from .passes.take_float_inputs import take_float_inputs
from .passes.unroll_layers import unroll_layers
from .passes.write_crops import write_crops
from .passes.write_dense_as_convolution import write_dense_as_convolution
from .passes.write_filter_banks import write_filter_banks
from .passes.write_fixed_convolutions import write_fixed_convolutions
from .passes.write_float_markers import write_float_markers
from .passes.write_indices import write_indices
from .passes.write_norms import write_norms
from .passes.write_rectifiers import write_rectifiers
from .passes.write_resizes import write_resizes
from .passes.write_token_layers import write_token_layers
from .passes.write_transposed import UPSAMPLE_FORMS, write_transposed


class Pass(NamedTuple):
    """One step of a pipeline.

    Args:
        name: Name of the function, and of its file in ``passes/``.
        run: Edits a graph; its result is ignored.
        exact: Whether every output of the network stays the same at inference, up to float rounding.
    """

    name: str
    run: Callable[[Graph], Any]
    exact: bool


CANONICAL: list[Pass] = [
    # First: other passes skip values that are not float, and an input of pixels is not float before this pass.
    Pass("read_pixels_as_numbers", read_pixels_as_numbers, True),
    Pass("write_crops", write_crops, True),
    Pass("write_rectifiers", write_rectifiers, True),
    # Before operations become layers: a transposition that moves the batch has no layer; this pass removes it.
    Pass("index_before_transposing", index_before_transposing, True),
    Pass("operations_to_layers", operations_to_layers, True),
    Pass("write_fixed_convolutions", write_fixed_convolutions, True),
    Pass("write_filter_banks", write_filter_banks, True),
    # Before the next pass: a separable convolution passes its activation to its second part, which is split there.
    Pass("split_separable", split_separable, True),
    Pass("split_activations", split_activations, True),
    # After all passes that make nodes of activations.
    Pass("drop_linear_activations", drop_linear_activations, True),
    Pass("split_hard_sigmoid", split_hard_sigmoid, True),
    Pass("split_merges", split_merges, True),
    Pass("pool_globally", pool_globally, True),
    Pass("softmax_over_last", softmax_over_last, True),
    Pass("write_token_layers", write_token_layers, True),
    # A piece must directly follow the dense layer that ``split_dense`` splits.
    Pass("cut_before_permuting", cut_before_permuting, True),
    Pass("split_dense", split_dense, True),
    Pass("push_scales", push_scales, True),
    # Last: it gathers the scalings that the passes above left.
    Pass("gather_affines", gather_affines, True),
]


def quantizing_passes(
    ranges: Sequence[tuple[float, float] | None],
    arrays: list[np.ndarray] | None,
    bits: int = 8,
    skipped: frozenset[str] = frozenset(),
    substitutes: dict[str, str] | None = None,
    keep_unsupported: bool = False,
) -> list[Pass]:
    """The passes of ``quantize`` on the graph of a float model before it measures ranges.

    Args:
        ranges: Range of each input; None: to be calibrated.
        arrays: Calibration images, one array per input. None: a batch norm that moves before a bilinear resize is not
            corrected by them, which affects weights but no op.
        bits: Bits of the activations.
        skipped: Names of layers that stay float.
        substitutes: Activations to replace.
        keep_unsupported: Whether layers without an int8 rule stay float, too.
    """
    kept: set[Node] = set()  # nodes that stay float because a file has no integer form of them

    def find_kept(graph: Graph) -> None:
        kept.update(check_exportable(graph, nodes_of(graph, skipped), keep_unsupported))

    return [
        *CANONICAL,
        # An epsilon below a step of the variance's grid is raised or omitted.
        Pass("write_norms", lambda graph: write_norms(graph, nodes_of(graph, skipped), integer=True), False),
        Pass("check_exportable", find_kept, True),  # edits nothing; requires canonical form
        Pass("substitute_activations", partial(substitute_activations, substitutes=substitutes or {}), False),
        # Before rounding: what is folded here trains as the single convolution of the file.
        Pass("fold_wavelets", fold_wavelets, True),
        # After the replacements, because quick_gelu is one of them.
        Pass("decompose_swish", decompose_swish, True),
        # Before quantizers are inserted, which would separate the norm from its convolution.
        Pass("norm_before_bilinear", partial(norm_before_bilinear, arrays=arrays), True),
        # Batch norms stay, because they continue to train.
        Pass("lower_affines", partial(lower_affines, kinds=(*FIXED_AFFINES, *TRAINED_AFFINES)), True),
        Pass("round_taps", round_taps, False),
        Pass("fuse_gelu", fuse_gelu, True),
        # Last: a quantizer for every tensor that the file will store.
        Pass(
            "insert_fake_quant",
            lambda graph: insert_fake_quant(graph, ranges, bits, skipped, keep_unsupported, kept),
            False,
        ),
    ]


def folding_passes(substitutes: dict[str, str], taps_on_grid: bool = True) -> list[Pass]:
    """The graph that ``engine="tfmot"`` translates, up to the affine maps and transforms that no weights absorbed.

    Args:
        substitutes: Activations to replace.
        taps_on_grid: Whether the taps of wavelets are rounded to the file's grid.
    """
    return [
        *CANONICAL,
        Pass("substitute_activations", partial(substitute_activations, substitutes=substitutes), not substitutes),
        Pass("fold_wavelets", fold_wavelets, True),
        *([Pass("round_taps", round_taps, False)] if taps_on_grid else []),
        # Before ``decompose_swish``, whose factor goes into the folded weights.
        Pass("fold_affines", fold_affines, True),
        Pass("decompose_swish", decompose_swish, True),
    ]


# After ``folding_passes``.
AFFINES_TO_CONVOLUTIONS: list[Pass] = [
    Pass("lower_affines", lower_affines, True),
    Pass("lower_wavelets", lower_wavelets, True),
]


def lowering_passes(substitutes: dict[str, str]) -> list[Pass]:
    """The passes of ``export`` that are common to every upsample form.

    Args:
        substitutes: Activations that the target has no op for -> their replacements.
    """
    return [
        # First: weights are rounded on the grids of their training, and folding scales grid and weight together.
        Pass("bake_weights", bake_weights, True),
        # Before canonical form, which would keep a random crop random.
        Pass("write_crops", partial(write_crops, inference=True), True),
        # Before all passes that depend on neighboring nodes.
        Pass("drop_inference_noops", drop_inference_noops, True),
        *CANONICAL,
        Pass("substitute_activations", partial(substitute_activations, substitutes=substitutes), not substitutes),
        Pass("write_norms", write_norms, True),
        # Before ``lower_wavelets``, which writes the transforms that no convolution absorbed.
        Pass("fold_wavelets", fold_wavelets, True),
        # Before ``lower_affines`` for the same reason; and before ``decompose_swish``, whose factor goes into weights.
        Pass("fold_affines", fold_affines, True),
        Pass("decompose_swish", decompose_swish, True),
        Pass("lower_affines", lower_affines, True),
        Pass("lower_wavelets", lower_wavelets, True),
        Pass("take_float_inputs", take_float_inputs, True),
    ]


def finishing_passes(upsample_form: str, max_stride: int | None, dense_as_convolution: bool = False) -> list[Pass]:
    """The remaining passes of ``export``, after ``lowering_passes``.

    They replace layers instead of changing them, so the graph may be a copy whose nodes share layers with another.

    Args:
        upsample_form: One of ``UPSAMPLE_FORMS``.
        max_stride: Largest stride of a convolution, in pixels, that the target runs in one piece; None: any.
        dense_as_convolution: As for ``Target``.
    """
    passes = [
        Pass("write_transposed", partial(write_transposed, form=upsample_form), True),
        Pass("write_resizes", write_resizes, True),
    ]
    # These two search for the quantizer after a layer, so ranges are fixed later.
    if max_stride is not None:
        passes.append(Pass("split_strides", partial(split_strides, largest=max_stride), True))
    if dense_as_convolution:
        passes.append(Pass("write_dense_as_convolution", write_dense_as_convolution, True))
    return [
        *passes,
        Pass("drop_wide_ranges", drop_wide_ranges, False),
        Pass("fix_ranges", fix_ranges, True),
        Pass("write_indices", write_indices, True),
        # After ``drop_wide_ranges``: a marker directly after an input is removed.
        Pass("write_float_markers", write_float_markers, True),
        Pass("unroll_layers", unroll_layers, True),
        # Last: until here, names state which activation was replaced.
        Pass("shorten_names", shorten_names, True),
    ]


def target_passes(target: str, upsample_form: str | None = None) -> list[Pass]:
    """All passes of ``export`` for a target, from a model's graph to the one that the converter gets.

    Args:
        target: Key of ``TARGETS``.
        upsample_form: One of ``UPSAMPLE_FORMS``; None: the target's first.
    """
    row = get_target(target)
    form = row.upsample_forms[0] if upsample_form is None else upsample_form
    check_option("upsample_form", form, UPSAMPLE_FORMS)
    return [
        *lowering_passes(row.substitutes),
        *finishing_passes(form, row.max_stride, row.dense_as_convolution),
    ]


def run(graph: Graph, passes: Iterable[Pass]) -> None:
    """Run all ``passes`` on ``graph``, in this order."""
    for step in passes:
        step.run(graph)


def canonicalize(graph: Graph) -> None:
    """Bring a graph into the forms that the other passes expect."""
    run(graph, CANONICAL)
