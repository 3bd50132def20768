"""The package's networks other than WaveMix, through quantize, export and the runtimes: all in int8."""

from collections import Counter

import keras
import numpy as np
import pytest
from tflite_support import export_random as export
from tflite_support import float_ops, randomise, spread, spread_statistics

import wavemix_tf as wm
from wavemix_tf.tflite import UnsupportedOpError, quantize
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.graph.inputs import generated_images, predict

# With random weights a target's substitutes may cost a lot.
pytestmark = [pytest.mark.filterwarnings(f"ignore:{said}") for said in ("Replacing", "Calibration image")]

SMALL = {"num_classes": 5, "image_shape": (16, 16, 3)}
MIXER = {**SMALL, "width": 16, "depth": 2, "patch_size": 2}
NETWORKS = {
    **{name: lambda name=name: wm.TokenMixerClassifier(name, **MIXER) for name in wm.MIXERS},
    **{
        f"{name}, batch norm": lambda name=name: wm.TokenMixerClassifier(name, **MIXER, mixer_args={"norm": "batch"})
        for name in ("mlp_mixer", "poolformer", "fourier")
    },
    "poolformer, layer scale": lambda: wm.TokenMixerClassifier("poolformer", **MIXER, mixer_args={"layer_scale": 0.5}),
    "stages": lambda: wm.StagedClassifier("resnet", **SMALL, widths=(8, 16), depths=(1, 1)),
    "wtconv, two levels": lambda: wm.TokenMixerClassifier(
        "wtconv", 5, (18, 14, 3), width=16, depth=1, patch_size=2, mixer_args={"levels": 2}
    ),
    "PoolFormer": lambda: wm.PoolFormer(5, (32, 32, 3), (1, 1), (8, 16)),
    "ViT": lambda: wm.ViT(**SMALL, patch_size=4, width=16, depth=2, heads=2, mlp_ratio=2),
    "DynaMixer": lambda: wm.DynaMixer(
        **SMALL, patch_size=4, depths=(1, 1), widths=(16, 16), segments=(2, 4), strides=(2,)
    ),
}
# Error of int8 as a share of the logits' spread over the images; a ViT's images share the class token, so that their
# spread is smaller with random weights.
COST = {"ViT": 0.6}
SAMPLED_BOUND_STEPS = 1.5  # an image whose tokens differ by one differs by more than rounding
BOUND_STEPS = 1.0  # under XNNPACK, mean, as in tests/test_tflite_mixers.py


@pytest.fixture(scope="module")
def quantized():
    """name -> (network, images, quantized network), each made once."""
    made = {}

    def get(name):
        if name not in made:
            keras.utils.set_random_seed(0)
            model = NETWORKS[name]()
            images = generated_images(model.input_shape[1:], 96, seed=1)
            randomise(model)
            spread_statistics(model, images[:16])
            made[name] = model, images, quantize(model, images[:64], target="android-cpu")
        return made[name]

    return get


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_every_network_runs_in_int8_as_its_quantized_model_does(name, quantized):
    model, images, rounded = quantized(name)
    expected, held = predict(model, images[64:]), predict(rounded, images[64:])
    assert np.abs(held - expected).mean() < COST.get(name, 0.25) * spread(expected)
    artifact = export(rounded, "android-cpu", images=images[64:])
    assert float_ops(read_file(artifact.content)) == []
    assert artifact.float_layers == ()
    rows = artifact.verification["fidelity"]["runtimes"]
    assert next(row for row in rows if row["runtime"] == "litert-xnnpack")["mean_error_steps"] <= BOUND_STEPS


@pytest.mark.parametrize("name", ["dct", "random_filters", "no_transform", "PoolFormer"])
@pytest.mark.slow
def test_float_files_compute_the_network(name, quantized):
    model, images, _ = quantized(name)
    artifact = export(model, "android-cpu", dtype="float32", images=images[64:])
    assert {op.name for op in read_file(artifact.content).ops}.isdisjoint({"QUANTIZE", "DEQUANTIZE", "GATHER"})


def test_filters_in_the_transforms_place_cost_no_op_of_their_own(quantized):
    """As the Haar transform: one convolution with the 1x1 behind it; the DCT's windows overlap and stay."""
    ops = {name: export(quantized(name)[2], "android-cpu", images=quantized(name)[1][64:]).ops for name in
           ("wavemix", "random_filters", "learned_filters", "dct")}  # fmt: skip
    assert ops["random_filters"] == ops["learned_filters"] == ops["wavemix"]
    assert ops["dct"].count("DEPTHWISE_CONV_2D") == ops["wavemix"].count("DEPTHWISE_CONV_2D") + 2 * 4


@pytest.mark.parametrize(
    "name", ["convmixer", "wtconv, two levels", "mlp_mixer, batch norm", "dct", "poolformer, layer scale"]
)
@pytest.mark.slow
def test_a_microcontroller_runs_them(name, quantized):
    pytest.importorskip("tflite_micro", reason="no wheel for this platform")
    model, images, _ = quantized(name)
    artifact = export(quantize(model, images[:64], target="mcu"), "mcu", images=images[64:])
    assert float_ops(read_file(artifact.content)) == []
    assert artifact.arena_bytes > 0


def test_ops_of_a_wavelet_level(quantized):
    """Beside ConvMixer's: a convolution of the bands, four for the transform and four for its inverse, and copies.

    A further level joins LL from the level above, and is repeated and added.
    """
    models = {"none": quantized("convmixer")[2], 1: quantized("wtconv")[2]}
    two = wm.TokenMixerClassifier("wtconv", **MIXER, mixer_args={"levels": 2})
    images = quantized("wtconv")[1]
    models[2] = quantize(randomise(two), images[:64], target="android-cpu")
    ops = {level: Counter(export(model, "android-cpu", images=images[64:]).ops) for level, model in models.items()}
    inverse = {"STRIDED_SLICE": 2, "CONCATENATION": 4, "RESHAPE": 2, "DEPTHWISE_CONV_2D": 4}
    level = Counter(inverse) + Counter({"DEPTHWISE_CONV_2D": 5, "CONCATENATION": 1, "ADD": 1})
    depth = MIXER["depth"]
    assert ops[1] - ops["none"] == Counter({op: depth * count for op, count in level.items()})
    deeper = level + Counter({"STRIDED_SLICE": 1, "RESIZE_NEAREST_NEIGHBOR": 1})
    assert ops[2] - ops[1] == Counter({op: depth * count for op, count in deeper.items()})


def test_a_vit_that_samples_keeps_the_choice_of_tokens_in_float(quantized):
    """Its form of fixed shapes, as float file and as int8 file; a rank is decided by less than an int8 step."""
    model, images, _ = quantized("ViT")
    sampled = wm.with_token_sampling(model, blocks=[1], tokens=10, mode="static")
    artifact = export(sampled, "android-cpu", dtype="float32", images=images[64:])
    assert artifact.verification["fidelity"]["runtimes"][0]["mean_error_steps"] <= 0.01
    rounded = quantize(sampled, images[:64], target="android-cpu", skip="unsupported")
    artifact = export(rounded, "android-cpu", images=images[64:])
    assert artifact.verification["fidelity"]["runtimes"][0]["mean_error_steps"] <= SAMPLED_BOUND_STEPS
    expected, held = predict(sampled, images[64:]), predict(rounded, images[64:])
    assert np.abs(held - expected).mean() < COST["ViT"] * spread(expected)
    assert "block2_attention_sampling" in artifact.float_layers
    info = read_file(artifact.content)
    floats = set(float_ops(info))
    assert floats.isdisjoint({"BATCH_MATMUL", "FULLY_CONNECTED", "CONV_2D", "SOFTMAX", "GELU", "GATHER"})
    assert {"GATHER", "BATCH_MATMUL"} <= {op.name for op in info.ops}
    with pytest.raises(UnsupportedOpError, match="SELECT"):
        export(rounded, "mcu", images=images[64:])


def test_an_adaptive_vit_has_no_file(quantized):
    model, images, _ = quantized("ViT")
    adaptive = wm.with_token_sampling(model, blocks=[1])
    with pytest.raises(UnsupportedOpError, match="has a side that is unknown until run time"):
        export(adaptive, "android-cpu", dtype="float32", images=images[64:])
