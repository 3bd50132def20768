"""Every pass of every pipeline on small graphs: an exact pass keeps all outputs, others stay within their dB.

Also the text that shows the changes of a pass.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops
from mixer_support import SYSTEMS, stand_in
from tflite_support import NETWORKS, network, randomise

import wavemix_tf as wm
from wavemix_tf.layers.activations import quick_gelu
from wavemix_tf.layers.pixel_shuffle import PixelShuffle
from wavemix_tf.tflite import TARGETS
from wavemix_tf.tflite.graph.graph import Graph, Value
from wavemix_tf.tflite.graph.inputs import generated_values, value_ranges
from wavemix_tf.tflite.graph.lowering import deploy
from wavemix_tf.tflite.graph.pass_trace import trace, trace_passes
from wavemix_tf.tflite.graph.passes.write_transposed import UPSAMPLE_FORMS
from wavemix_tf.tflite.graph.pipeline import (
    CANONICAL,
    Pass,
    finishing_passes,
    lowering_passes,
    quantizing_passes,
    run,
    target_passes,
)
from wavemix_tf.tflite.layers.augmentation import takes_training
from wavemix_tf.tflite.quantization.ranges import connect_steps, find_ranges

TOLERANCE = 2e-5  # of the largest output, of an exact pass over float layers
# After quantizers a sum in another order may round differently: mean error, in 255ths of the range.
ROUNDED_STEPS = 0.1
MORE_STEPS = {"images": 0.5}  # noise or the quantizer decides an average halfway between two integers
# Minimum SNR of a pass that is not exact, on a random network: power of an output's variation over the images, divided
# by that of the difference, in dB.
LEAST_DB = {
    "substitute_activations": 25.0,
    "write_norms": 50.0,  # in ``quantize``, which may drop an epsilon; exact in ``export``
    "round_taps": 30.0,
    "insert_fake_quant": 15.0,
    "drop_wide_ranges": 60.0,
}
SMALL = {"num_classes": 5, "image_shape": (16, 16, 3)}


def functional(build, shape=(16, 16, 3), dtype="float32"):
    image = keras.Input(shape, dtype=dtype, name="image")
    return randomise(keras.Model(image, build(image), name="body"))


def usual_cnn(x):
    """What keras.applications are made of."""
    x = layers.Rescaling(2.0, -1.0)(x)
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 0.6, 0.7])(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(layers.ZeroPadding2D(1)(x))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    y = layers.SeparableConv2D(8, 3, padding="same", activation="relu")(x)
    y = layers.BatchNormalization()(layers.Activation("linear")(y))
    x = layers.Add()([x, y, x])
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(4, 1, activation="swish")(gate)
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="hard_sigmoid")(gate)])
    x = layers.LeakyReLU(0.1)(layers.BatchNormalization()(layers.DepthwiseConv2D(3)(x)))
    x = layers.Concatenate()([layers.AveragePooling2D(2)(x), layers.MaxPooling2D(2)(x)])
    x = layers.PReLU()(layers.BatchNormalization()(x))
    return layers.Dense(5, activation="softmax")(layers.Dropout(0.2)(layers.GlobalMaxPooling2D()(x)))


def operations(x):
    """Operators and ``keras.ops``, on pixels of one byte."""
    x = layers.RandomCrop(12, 12)(layers.RandomFlip()(ops.cast(x, "float32") / 255.0))
    x = layers.Conv2D(8, 4, strides=4)(layers.ReLU(max_value=2.0)(3.0 * x - 0.3))
    x = layers.ReLU(negative_slope=0.2)(layers.Average()([x, ops.tanh(x), 1.0 - x]))
    x = ops.reshape(x, (-1, 9, 8))
    q, k, v = ops.unstack(ops.transpose(ops.reshape(layers.Dense(24)(x), (-1, 9, 3, 2, 4)), (2, 0, 3, 1, 4)))
    x = ops.matmul(ops.softmax(ops.matmul(q, ops.swapaxes(k, -1, -2)) * 0.5), v)
    x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, 3, 3, 8))
    first = layers.Dense(4)(ops.transpose(ops.mean(layers.Softmax(axis=1)(x) * x, 2), (0, 2, 1))[:, :4])
    return first, ops.argmax(x, axis=-1)


def images(x):
    """Layers that work on pictures, and upsampling of each kind."""
    y = PixelShuffle(2)(layers.Conv2D(12, 1)(layers.CenterCrop(12, 12)(x)))
    x = layers.Conv2DTranspose(6, 4, strides=2, padding="same")(layers.Cropping2D(2)(x))
    x = layers.BatchNormalization()(layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(6, 1)(x)))
    y = layers.Conv2D(6, 3, padding="same")(layers.Resizing(48, 48)(y))
    x = layers.Add()([x, y])
    return layers.Conv2D(4, 3, activation=quick_gelu)(wm.DWT2D("db2")(layers.Activation("silu")(x)))


def recurrent(x):
    x = layers.GRU(8)(layers.Reshape((16, 48))(x))
    return layers.Dense(5)(x)


def super_resolution(x):
    from wavemix_tf.layers.imaging import BicubicUpsampling2D, RGBToYCbCr

    return layers.Conv2D(3, 3, padding="same")(BicubicUpsampling2D(2)(RGBToYCbCr()(x)))


BODIES = {
    **{name: lambda name=name: network(**NETWORKS[name]) for name in NETWORKS},
    **{
        f"{name} mixer": lambda name=name: randomise(
            wm.TokenMixerClassifier(name, **SMALL, width=16, depth=1, patch_size=2)
        )
        for name in ("random_filters", "dct", "convmixer", "wtconv", "mlp_mixer", "poolformer", "fourier")
    },
    "ViT": lambda: randomise(wm.ViT(**SMALL, patch_size=4, width=16, depth=1, heads=2, mlp_ratio=2)),
    **{f"{name} as written": lambda name=name: stand_in(SYSTEMS[name]) for name in ("ViT", "DynaMixer")},
    "usual CNN": lambda: functional(usual_cnn),
    "operations": lambda: functional(operations, dtype="uint8"),
    "images": lambda: functional(images),
    "super-resolution": lambda: functional(super_resolution),
    "recurrent": lambda: functional(recurrent),
}
# A body that each pass changes; otherwise the pass is not tested.
CHANGES = {
    "read_pixels_as_numbers": "operations",
    "write_crops": "images",
    "write_rectifiers": "operations",
    "index_before_transposing": "operations",
    "operations_to_layers": "operations",
    "write_fixed_convolutions": "super-resolution",
    "write_filter_banks": "dct mixer",
    "split_separable": "usual CNN",
    "split_activations": "usual CNN",
    "drop_linear_activations": "usual CNN",
    "split_hard_sigmoid": "usual CNN",
    "split_merges": "usual CNN",
    "pool_globally": "usual CNN",
    "softmax_over_last": "operations",
    "write_token_layers": "ViT",
    "cut_before_permuting": "operations",
    "split_dense": "operations",
    "push_scales": "operations",
    "gather_affines": "usual CNN",
    "write_norms": "ViT",
    "substitute_activations": "deconv",
    "fold_wavelets": "deconv",
    "decompose_swish": "usual CNN",
    "norm_before_bilinear": "images",
    "lower_affines": "usual CNN",
    "round_taps": "images",
    "fuse_gelu": "deconv",
    "insert_fake_quant": "deconv",
    "bake_weights": "deconv",
    "drop_inference_noops": "usual CNN",
    "fold_affines": "usual CNN",
    "lower_wavelets": "images",
    "take_float_inputs": "operations",
    "write_transposed": "images",
    "write_resizes": "images",
    "split_strides": "operations",
    "write_dense_as_convolution": "operations",
    "drop_wide_ranges": "pixel_shuffle",
    "fix_ranges": "deconv",
    "write_indices": "operations",
    "write_float_markers": "recurrent",
    "unroll_layers": "recurrent",
    "shorten_names": "deconv",
}
EDITS_NOTHING = {"check_exportable"}
# Bodies that are also rounded: a few, because calibration takes time.
ROUNDED = {"deconv": 8, "pixel_shuffle": 16, "usual CNN": 8, "ViT": 8, "operations": 8, "images": 8, "recurrent": 8}


def outputs(graph, arrays):
    """What a graph computes at inference, layer by layer."""
    values = {
        value: ops.convert_to_tensor(array, dtype=value.dtype)
        for value, array in zip(graph.inputs, arrays, strict=True)
    }

    def tensor(leaf):
        return values[leaf] if isinstance(leaf, Value) else leaf

    for node in graph.nodes():
        if node.layer is not None:
            args, kwargs = keras.tree.map_structure(tensor, (node.args, node.kwargs))
            if takes_training(node.layer):
                kwargs = {**kwargs, "training": False}  # the default of an augmentation layer is True
            values.update(zip(node.outputs, keras.tree.flatten(node.layer(*args, **kwargs)), strict=True))
    return [ops.convert_to_numpy(values[value]) for value in graph.outputs]


def state(graph):
    """Everything of a graph that a pass may edit."""
    (snapshot,) = trace_passes(graph, [])
    options = [
        {key: repr(part) for key, part in vars(node.layer).items() if not key.startswith("_") and key != "built"}
        for node in graph.nodes()
        if node.layer is not None and isinstance(node.layer, keras.Layer)
    ]
    return snapshot.layers, list(graph.dtypes), options


def snr_db(expected, found):
    told = np.square(expected - expected.mean(0)).sum()
    return 10 * np.log10(told / max(np.square(found - expected).sum(), 1e-30))


def check(graph, passes, arrays, changed, steps=None):
    """Run ``passes``, and hold the outputs behind each that edits something to those before it.

    ``steps``: of a graph with quantizers, the mean error allowed.
    """
    expected, before = outputs(graph, arrays), state(graph)
    for step in passes:
        step.run(graph)
        after = state(graph)
        if after == before:
            continue
        changed.add(step.name)
        if step.name == "insert_fake_quant":
            find_ranges(graph, arrays, "minmax")
            connect_steps(graph)
        found, before = outputs(graph, arrays), state(graph)
        for one, other in zip(expected, found, strict=True):
            assert one.shape == other.shape, step.name
            if one.dtype.kind in "iu":  # indices: a tie may resolve differently
                assert (one != other).mean() <= (0.02 if step.exact and steps is None else 0.3), step.name
            elif not step.exact:
                assert snr_db(one, other) >= LEAST_DB[step.name], step.name
            elif steps is not None:
                assert np.abs(one - other).mean() <= steps * np.ptp(one) / 255, step.name
            else:
                assert np.abs(one - other).max() <= TOLERANCE * np.abs(one).max(), step.name
        expected = found


def inputs_of(model, count):
    whole = "int" in model.inputs[0].dtype
    limits = (0.0, 255.0) if whole else (0.0, 1.0)
    return [generated_values(model.input_shape[1:], limits, count=count, whole=whole)]


@pytest.mark.filterwarnings("ignore:At inference the file crops:UserWarning")
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.slow
def test_each_pass_leaves_what_a_network_computes(name):
    model, changed = BODIES[name](), set()
    run_on = model
    if name == "operations":  # Keras's layer returns the whole image; another test checks the crop
        graph = Graph.from_model(model)
        CANONICAL[1].run(graph)
        run_on = graph.to_model("cropped")
    arrays = inputs_of(model, 8)
    graph = Graph.from_model(run_on, dtype="float32")
    check(graph, lowering_passes({"gelu": "quick_gelu"}), arrays, changed)
    for form in UPSAMPLE_FORMS if name in ("deconv", "images") else UPSAMPLE_FORMS[::3]:
        check(graph.copy(), finishing_passes(form, 3, dense_as_convolution=form == "transposed_crop"), arrays, changed)
    if name in ROUNDED:
        bits, arrays = ROUNDED[name], inputs_of(model, 16)
        graph = Graph.from_model(run_on)
        ranges = value_ranges((0.0, 1.0), graph.inputs)
        check(graph, quantizing_passes(ranges, arrays, bits, keep_unsupported=True), arrays, changed)
        steps = MORE_STEPS.get(name, ROUNDED_STEPS)
        check(graph, lowering_passes({}), arrays, changed, steps)
        check(graph, finishing_passes("subpixel_crop", 3, True), arrays, changed, steps)
    missed = {step for step, body in CHANGES.items() if body == name} - changed
    assert not missed, f"this body is to test {', '.join(sorted(missed))}"


def pipelines():
    yield from (target_passes(target) for target in TARGETS)
    yield quantizing_passes([None], None)


def test_every_pass_has_a_body_that_it_changes_and_what_is_not_exact_a_bound():
    steps = [step for passes in pipelines() for step in passes]
    assert {step.name for step in steps} == {*CHANGES, *EDITS_NOTHING}
    assert {step.name for step in steps if not step.exact} == set(LEAST_DB)
    assert set(CHANGES.values()) <= set(BODIES)


def test_a_pass_that_is_wrong_is_seen():
    """The check above, on a pass that loses a bias."""

    def lose_bias(graph):
        node = next(node for node in graph.nodes() if node.kind == "Conv2D")
        node.layer.bias.assign(node.layer.bias + 0.01)

    model = network(**NETWORKS["deconv"])
    graph = Graph.from_model(model, dtype="float32")
    with pytest.raises(AssertionError, match="lose_bias"):
        check(graph, [Pass("lose_bias", lose_bias, True)], inputs_of(model, 8), set())


@pytest.mark.slow
def test_a_target_s_list_is_what_export_runs():
    model = network(**NETWORKS["deconv"])
    for target, row in TARGETS.items():
        form = row.upsample_forms[0]
        graph = Graph.from_model(model, dtype="float32")
        run(graph, target_passes(target))
        deployed = deploy(model, row.substitutes, form, row.max_stride, row.dense_as_convolution)
        assert [node.name for node in graph.nodes()] == [node.name for node in Graph.from_model(deployed).nodes()], (
            target
        )


# --- the changes of a pass, as text -----------------------------------------------------------------------------------


def test_trace_tells_the_graph_behind_each_pass():
    model = network(**NETWORKS["deconv"])
    found = trace(model, "mcu")
    assert [snapshot.name for snapshot in found] == ["given", *(step.name for step in target_passes("mcu"))]
    by_name = {snapshot.name: snapshot for snapshot in found}
    folded = by_name["fold_wavelets"]
    assert folded.removed == ("block1_dwt1", "block2_dwt1")
    assert folded.changed == ("block1_expand1", "block2_expand1")
    assert str(folded) == (
        "fold_wavelets                           19 layers; changed block1_expand1, block2_expand1; "
        "removed block1_dwt1, block2_dwt1"
    )
    assert "not exact" in str(by_name["substitute_activations"])
    assert by_name["split_separable"].changed == ()
    head = found[-1].layers[-1]
    assert head.startswith("head: Dense (5,) <- pool weights ")
    assert len(found[-1].layers) == 19
    # A change of only the weights counts as a change.
    assert "block1_upsample1" in by_name["fold_affines"].changed


@pytest.mark.slow
def test_trace_shows_what_quantize_does_and_what_becomes_of_it():
    model = network(**NETWORKS["deconv"])
    found = trace(model, "mcu", stage="quantize")
    assert found[-1].name == "insert_fake_quant"
    assert sum("FakeQuant" in line for line in found[-1].layers) == 19
    with pytest.raises(ValueError, match=r"stage must be one of 'export', 'quantize'"):
        trace(model, stage="fold")
    with pytest.raises(ValueError, match=r"upsample_form must be one of"):
        trace(model, upsample_form="resize")
