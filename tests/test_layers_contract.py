"""One contract for every serializable layer of the package; a layer without an entry in CASES fails."""

import importlib
import inspect
import json
import pkgutil

import keras
import numpy as np
import pytest
from keras import ops

import wavemix_tf as wm

# Layer -> arguments and input shapes (with the batch) that together reach its branches.
CASES = {
    "DWT2D": [
        ({}, (2, 6, 8, 3)),
        ({"wavelet": "db2", "mode": "periodization"}, (2, 8, 8, 2)),
        ({"levels": 2}, (1, 7, 9, 2)),
    ],
    "LowPass2D": [({}, (2, 6, 8, 3)), ({"wavelet": "sym4"}, (1, 9, 7, 2))],
    "IDWT2D": [({}, (2, 3, 4, 12)), ({"wavelet": "db2", "output_size": (5, 6)}, (1, 4, 4, 8))],
    "PixelShuffle": [({}, (2, 3, 4, 8)), ({"factor": 3}, (1, 2, 2, 9))],
    "FusedActivation": [({"activation": "gelu"}, (2, 3, 4, 8)), ({"activation": "relu"}, (2, 3, 5))],
    "ByteDropout": [({"rate": 0.5}, (2, 3, 4, 8)), ({"rate": 0.3}, (2, 3, 5))],
    "FusedBatchNormalization": [({}, (4, 3, 4, 5)), ({"epsilon": 1e-5, "momentum": 0.9, "scale": False}, (4, 5))],
    "WaveMixBlock": [
        ({"width": 8}, (2, 6, 8, 8)),
        ({"width": 8, "levels": 3, "ff_dim": 12, "expansion": 3}, (2, 9, 10, 8)),  # padded and cropped
        ({"width": 8, "levels": 2, "upsample": "pixel_shuffle", "activation": "hard_swish"}, (2, 8, 8, 8)),
        ({"width": 8, "upsample": "bilinear", "activation": "quick_gelu", "dropout": 0.2}, (2, 4, 4, 8)),
        ({"width": 8, "upsample": "nearest", "activation": "relu6"}, (2, 4, 4, 8)),
        ({"width": 8, "upsample": "pixel_shuffle_conv", "expansion": 4}, (2, 4, 6, 8)),
        ({"width": 8, "upsample": "pixel_shuffle_conv", "expansion": 1, "ff_dim": 32}, (2, 5, 6, 8)),
        *(({"width": 8, "transform": name}, (2, 5, 8, 8)) for name in ("dct", "random", "learned", "none")),
    ],
    "WaveMixV1Block": [
        ({"width": 8}, (2, 16, 32, 8)),
        ({"width": 12, "levels": 2, "ff_dim": 8, "expansion": 1, "activation": "relu6"}, (2, 6, 7, 12)),
        ({"width": 8, "levels": 1, "dropout": 0.2}, (2, 4, 4, 8)),
    ],
    "FilterBank2D": [({}, (2, 6, 8, 3)), ({"basis": "random"}, (2, 4, 4, 2)), ({"basis": "learned"}, (2, 4, 4, 2))],
    "LayerScale": [({}, (2, 3, 4, 5)), ({"initial": 0.5}, (2, 5))],
    "FourierMatrix": [({}, (2, 3, 5)), ({"complex_input": True, "complex_output": True}, (2, 12))],
    "ConvMixerBlock": [({"width": 8}, (2, 6, 7, 8)), ({"width": 6, "kernel_size": 4, "dropout": 0.2}, (2, 5, 5, 6))],
    "WTConv2D": [
        ({}, (2, 6, 8, 3)),
        ({"kernel_size": 3, "levels": 3, "use_bias": False}, (2, 9, 10, 4)),  # padded and cropped
    ],
    "WTConvBlock": [
        ({"width": 8}, (2, 6, 7, 8)),
        ({"width": 6, "kernel_size": 3, "levels": 2, "dropout": 0.2, "activation": "relu6"}, (2, 5, 6, 6)),
    ],
    "MLPMixerBlock": [
        ({"width": 8}, (2, 4, 6, 8)),
        ({"width": 6, "token_dim": 5, "expansion": 2, "norm": "batch", "activation": "relu6"}, (2, 4, 4, 6)),
        ({"width": 8, "dropout": 0.2, "stochastic_depth": 0.2, "layer_scale": 0.1}, (8, 4, 4, 8)),
    ],
    "FourierBlock": [({"width": 8}, (2, 4, 6, 8)), ({"width": 6, "expansion": 2, "norm": "batch"}, (2, 5, 4, 6))],
    "PoolFormerBlock": [
        ({"width": 8}, (2, 5, 6, 8)),
        ({"width": 6, "pool_size": 5, "expansion": 2, "norm": "batch", "layer_scale": None}, (2, 6, 6, 6)),
    ],
    "InvertedBottleneckBlock": [
        ({"width": 8}, (2, 6, 7, 8)),
        ({"width": 6, "kernel_size": 5, "expansion": 2, "dropout": 0.2, "activation": "relu"}, (2, 5, 5, 6)),
    ],
    "ResidualConvBlock": [
        ({"width": 8}, (2, 6, 7, 8)),
        ({"width": 6, "kernel_size": 5, "dropout": 0.2, "activation": "gelu"}, (2, 5, 5, 6)),
    ],
    "StagedClassifier": [
        (
            {"num_classes": 3, "image_shape": (12, 8, 3), "widths": (8, 12), "depths": (2, 1), "dropout": 0.1},
            (2, 12, 8, 3),
        ),
        (
            {
                "mixer": "inverted_bottleneck",
                "num_classes": 3,
                "image_shape": (9, 8, 1),
                "widths": (8,),
                "depths": (0,),
                "mixer_args": {"expansion": 3},
                "normalize": ((0.5,), (0.25,)),
            },
            (2, 9, 8, 1),
        ),
    ],
    "TokenMixerClassifier": [
        (
            {"mixer": name, "num_classes": 3, "image_shape": (16, 8, 3), "width": 8, "depth": 1, "patch_size": 2},
            (2, 16, 8, 3),
        )
        for name in wm.MIXERS
    ],
    "ConvMixer": [
        (
            {"num_classes": 3, "image_shape": (9, 8, 3), "width": 8, "depth": 1, "kernel_size": 3, "patch_size": 2},
            (2, 9, 8, 3),
        )
    ],
    "MLPMixer": [
        (
            {
                "num_classes": 3,
                "image_shape": (12, 8, 1),
                "width": 8,
                "depth": 2,
                "patch_size": 4,
                "normalize": ((0.5,), (0.25,)),
            },
            (2, 12, 8, 1),
        )
    ],
    "PoolFormer": [
        (
            {"num_classes": 3, "image_shape": (20, 16, 3), "depths": (1, 2), "widths": (8, 12), "layer_scale": 0.1},
            (2, 20, 16, 3),
        )
    ],
    "ReplicatePadding2D": [({}, (2, 3, 4, 5)), ({"padding": 2}, (1, 2, 3, 1))],
    "BicubicUpsampling2D": [({}, (2, 3, 4, 2)), ({"factor": 3}, (1, 5, 4, 1))],
    "RGBToYCbCr": [({}, (2, 3, 4, 3)), ({"channels": (1, 3)}, (2, 3, 4, 3))],
    "YCbCrToRGB": [({}, (2, 3, 4, 3))],
    "PadToMultiple2D": [({"multiple": 4}, (2, 5, 8, 3))],
    "WaveMixClassifier": [
        ({"num_classes": 3, "image_shape": (8, 8, 3), "width": 8, "depth": 1, "dropout": 0.0}, (2, 8, 8, 3)),
        (
            {
                "num_classes": 3,
                "image_shape": (12, 8, 1),
                "width": 8,
                "depth": 2,
                "levels": 2,
                "stem": "patchify",
                "patch_size": 2,
                "normalize": ((0.5,), (0.25,)),
            },
            (2, 12, 8, 1),
        ),
    ],
    "WaveMixSegmenter": [
        ({"num_classes": 3, "image_shape": (8, 12, 3), "width": 8, "depth": 1, "levels": 2}, (2, 8, 12, 3)),
        (
            {
                "num_classes": 2,
                "image_shape": (9, 7, 1),
                "width": 8,
                "depth": 1,
                "levels": 1,
                "stem": "patchify",
                "patch_size": 2,
                "head_dims": (6,),
                "normalize": ((0.5,), (0.25,)),
            },
            (2, 9, 7, 1),
        ),
    ],
    "WaveMixSuperResolver": [
        ({"image_shape": (6, 4, 3), "width": 8, "depth": 1, "scale": 4}, (2, 6, 4, 3)),
        ({"variant": "wavemixsr", "image_shape": (4, 5, 3), "width": 8, "depth": 1, "scale": 3}, (2, 4, 5, 3)),
        ({"variant": "wavemixsr_v2", "image_shape": (4, 6, 3), "width": 8, "depth": 1, "scale": 4}, (2, 4, 6, 3)),
    ],
    "DynaMixerOp": [
        ({"segments": 2}, (2, 5, 8)),
        ({"segments": 4, "reduced_dim": 3, "axis": -3}, (2, 3, 4, 8)),
    ],
    "DynaMixerBlock": [
        ({"width": 8, "segments": 2}, (2, 3, 4, 8)),
        (
            {
                "width": 12,
                "segments": 3,
                "reduced_dim": 1,
                "mlp_ratio": 1.5,
                "dropout": 0.1,
                "stochastic_depth": 0.1,
                "activation": "relu6",
            },
            (8, 4, 2, 12),
        ),
    ],
    "DynaMixer": [
        (
            {
                "num_classes": 3,
                "image_shape": (8, 12, 3),
                "patch_size": 2,
                "depths": (1, 2),
                "widths": (8, 12),
                "segments": (2, 3),
                "strides": (2,),
            },
            (2, 8, 12, 3),
        ),
        (
            {
                "num_classes": 2,
                "image_shape": (9, 6, 1),
                "patch_size": 3,
                "depths": (1,),
                "widths": (8,),
                "segments": (4,),
                "strides": (),
                "reduced_dim": 3,
                "mlp_ratio": 2,
                "activation": "hard_swish",
                "normalize": ((0.5,), (0.25,)),
            },
            (2, 9, 6, 1),
        ),
    ],
    "ClassTokenAndPositions": [({}, (2, 6, 8))],
    # With sampling they also return integers, which have no precision: tests/test_token_sampling.py.
    "SelfAttention": [({"width": 12, "heads": 3, "dropout": 0.1}, (2, 7, 12))],
    "TransformerBlock": [({"width": 12, "heads": 3, "mlp_ratio": 1.5, "stochastic_depth": 0.1}, (2, 7, 12))],
    "ViT": [
        (
            {"num_classes": 3, "image_shape": (8, 12, 3), "patch_size": 4, "width": 8, "depth": 2, "heads": 2},
            (2, 8, 12, 3),
        ),
        (
            {
                "num_classes": 3,
                "image_shape": (16, 16, 1),
                "patch_size": 4,
                "width": 8,
                "depth": 3,
                "heads": 2,
                "mlp_ratio": 2,
                "sampling_blocks": (0, 2),
                "sampling_tokens": (12, None),
                "normalize": ((0.5,), (0.25,)),
            },
            (2, 16, 16, 1),
        ),
    ],
    "FakeQuant": [({}, (2, 3, 4, 5)), ({"fixed": True}, (2, 5))],
    "QuantPReLU": [({}, (2, 3, 4, 5)), ({"shared_axes": (1, 2)}, (2, 3, 4, 5))],
    "RandomThenCentreCrop": [({"height": 3, "width": 2}, (2, 5, 5, 3))],
    "KeepFloat": [({}, (2, 3, 4, 5)), ({"limits": (0.0, 255.0)}, (2, 5))],
    "QuantConv2D": [
        ({"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"}, (2, 6, 6, 4)),
        ({"filters": 6, "kernel_size": 1, "input_step": 0.01}, (2, 6, 6, 4)),
    ],
    "QuantDepthwiseConv2D": [({"kernel_size": 2, "strides": 2}, (2, 6, 6, 4))],
    "QuantConv2DTranspose": [({"filters": 6, "kernel_size": 4, "strides": 2, "padding": "same"}, (2, 4, 4, 3))],
    "QuantDense": [({"units": 5}, (2, 7)), ({"units": 5, "input_step": 0.01}, (2, 7))],
    "QuantBatchNormalization": [({}, (4, 3, 4, 5)), ({"input_step": 0.01}, (4, 3, 4, 5))],
    "Cut": [({"starts": (0, 1), "stops": (3, 2)}, (2, 4, 5))],
    "Mean": [({"axes": (1,)}, (2, 4, 5)), ({"axes": (1, 2), "keepdims": True}, (2, 3, 4, 5))],
    "Rsqrt": [({}, (2, 3, 4)), ({"floor": 0.5}, (2, 5))],
    "AddConstant": [({"shape": (3, 4)}, (2, 3, 4)), ({"shape": (1, 4), "rounded": True}, (2, 3, 4))],
    "ChannelAffine": [({}, (2, 3, 4))],
}
# Layers with several inputs, which the contract does not support; tests/test_models.py, tests/test_tflite_mixers.py and
# tests/test_token_sampling.py run them.
SEVERAL_INPUTS = {"AdaptiveTokenSampling", "CropTo2D", "GatherTokens", "MatMul"}
# Layers followed by a batch normalization with only linear layers in between.
BEFORE_BATCH_NORM = ("project", "upsample", "stem")
# Relative error that a reduced precision may cause in a layer: its rounding step times a few consecutive operations.
TOLERANCE = {"float32": 0.0, "mixed_bfloat16": 0.1, "float16": 0.02}


def serialisable_layers():
    """Every keras Layer registered under this package's name, after all of its modules were imported."""
    for package in (wm, wm.training, wm.tflite):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            if not module.name.endswith((".cli", ".__main__")):
                importlib.import_module(module.name)
    return {
        name.removeprefix("wavemix_tf>"): value
        for name, value in keras.saving.get_custom_objects().items()
        if name.startswith("wavemix_tf>") and isinstance(value, type) and issubclass(value, keras.layers.Layer)
    }


LAYERS = serialisable_layers()
ENTRIES = [
    pytest.param(LAYERS[name], arguments, shape, id="-".join([name, *(f"{k}={v}" for k, v in arguments.items())]))
    for name, cases in CASES.items()
    if name in LAYERS
    for arguments, shape in cases
]


def test_every_layer_has_an_entry():
    of_tensors = {"RecomputedModel"}  # made of symbolic tensors: tests/test_recompute.py
    assert set(LAYERS) == set(CASES) | SEVERAL_INPUTS | of_tensors


@pytest.mark.parametrize(("cls", "arguments", "shape"), ENTRIES)
@pytest.mark.slow
def test_layer_contract(cls, arguments, shape, tmp_path):
    check_layer(cls, arguments, shape, tmp_path)


def check_layer(cls, arguments, shape, folder):
    """Config, build, dtype policies, gradients and .keras file of one layer with one set of arguments.

    Args:
        cls: the registered class.
        arguments: its constructor arguments.
        shape: of the input, batch included.
        folder: where a file may be written.
    """
    x = np.random.default_rng(0).uniform(0.05, 0.95, shape).astype("float32")
    layer = cls(**arguments, name="layer")
    check_config(cls, layer, arguments)
    expected = check_build(cls, layer, arguments, x)
    check_policies(cls, layer, arguments, x, expected)
    check_gradients(layer, x)
    check_file(layer, x, folder)


def outputs(layer, x, **options):
    return [ops.convert_to_numpy(ops.cast(y, "float32")) for y in keras.tree.flatten(layer(x, **options))]


def check_config(cls, layer, arguments):
    config = layer.get_config()
    json.dumps(keras.saving.serialize_keras_object(layer))
    assert keras.saving.get_registered_name(cls) == f"wavemix_tf>{cls.__name__}"
    if cls.__init__.__module__.startswith("wavemix_tf"):  # otherwise it is Keras's constructor with its conventions
        for name in inspect.signature(cls.__init__).parameters:
            if name not in ("self", "kwargs"):
                assert name in config, f"{cls.__name__}.get_config lacks {name!r}"
                if name in arguments:
                    assert tuple_if_list(getattr(layer, name)) == tuple_if_list(arguments[name]), name
    twin = cls.from_config(config)
    assert twin.get_config() == config
    assert type(twin) is cls


def tuple_if_list(value):
    return tuple(tuple_if_list(v) for v in value) if isinstance(value, (list, tuple)) else value


def check_build(cls, layer, arguments, x):
    """Builds from a shape alone; the announced shape is the computed one; a second instance counts the same weights."""
    if not layer.built:
        layer.build(x.shape)
    randomise(layer)
    computed = outputs(layer, x)
    shapes = layer.compute_output_shape(x.shape)
    announced = [shapes] if isinstance(shapes[0], int) else shapes
    assert [tuple(shape) for shape in announced] == [y.shape for y in computed]
    called = cls(**arguments)
    called(x)
    assert [(w.path.split("/")[-1], tuple(w.shape), w.trainable) for w in called.weights] == [
        (w.path.split("/")[-1], tuple(w.shape), w.trainable) for w in layer.weights
    ]
    for y in computed:
        assert np.isfinite(y).all()
    for once, again in zip(computed, outputs(layer, x), strict=True):
        np.testing.assert_array_equal(once, again)  # inference is a pure function
    symbolic = keras.tree.flatten(layer(keras.Input(x.shape[1:])))
    assert [tuple(y.shape) for y in symbolic] == [(None, *y.shape[1:]) for y in computed]
    return computed


def check_policies(cls, layer, arguments, x, expected):
    for policy, tolerance in TOLERANCE.items():
        twin = cls(**arguments, dtype=policy)
        if not twin.built:
            twin.build(x.shape)
        twin.set_weights(layer.get_weights())
        compute = keras.DTypePolicy(policy).compute_dtype
        found = keras.tree.flatten(twin(ops.convert_to_tensor(x)))
        for y, reference in zip(found, expected, strict=True):
            # A whole model may end in float32 logits; a layer returns its policy's compute dtype.
            allowed = {compute, "float32"} if issubclass(cls, keras.Model) else {compute}
            assert keras.backend.standardize_dtype(y.dtype) in allowed, policy
            difference = np.abs(ops.convert_to_numpy(ops.cast(y, "float32")) - reference).max()
            assert difference <= tolerance * max(np.abs(reference).max(), 1.0), f"{policy}: {difference}"
        for weight in twin.trainable_weights:
            assert keras.backend.standardize_dtype(weight.dtype) == keras.DTypePolicy(policy).variable_dtype


def check_gradients(layer, x):
    """Finite, and not zero everywhere, for the input and every trainable weight."""
    import tensorflow as tf

    random = np.random.default_rng(1)
    image = tf.Variable(x - 0.5 if hasattr(layer, "alpha") else x)  # slopes act below zero
    with tf.GradientTape() as tape:
        takes_training = "training" in inspect.signature(layer.call).parameters
        found = keras.tree.flatten(layer(image, training=True) if takes_training else layer(image))
        loss = sum(tf.reduce_sum(y * random.normal(size=y.shape).astype("float32")) for y in found)
    sources = {"input": image} | {weight.path: weight.value for weight in layer.trainable_weights}
    before_batch_norm = {
        path for path in sources if path.endswith("bias") and any(name in path for name in BEFORE_BATCH_NORM)
    }
    for path, gradient in zip(sources, tape.gradient(loss, list(sources.values())), strict=True):
        assert gradient is not None, f"no gradient reaches {path}"
        value = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(value).all(), path
        # A bias directly before a batch normalization has no effect in training: its gradient must be zero.
        assert np.abs(value).max() > 0 or path in before_batch_norm, f"the gradient of {path} is zero"


def check_file(layer, x, folder):
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    model.save(folder / "layer.keras")
    loaded = keras.saving.load_model(folder / "layer.keras")
    assert [type(part) for part in loaded.layers] == [type(part) for part in model.layers]
    assert [w.trainable for w in loaded.weights] == [w.trainable for w in model.weights]
    for found, expected in zip(outputs(loaded, x), outputs(model, x), strict=True):
        np.testing.assert_array_equal(found, expected)


def randomise(layer):
    """Spread-out weights and batch statistics; fixed filters and ranges keep their values."""
    random = np.random.default_rng(2)
    for weight in layer.weights:
        name = weight.path.split("/")[-1]
        if name == "moving_variance":
            weight.assign(random.uniform(0.5, 2.0, weight.shape))
        elif weight.trainable or name == "moving_mean":
            scale = max(int(np.prod(weight.shape[:-1])), 1) ** -0.5
            weight.assign(random.normal(size=weight.shape) * scale)
