"""Small networks for meaningful tests: random weights and batch norm statistics, images that differ."""

import keras
import numpy as np

import wavemix_tf as wm
from wavemix_tf.keras_internals import flatten_layers
from wavemix_tf.tflite.graph.inputs import generated_images

# For networks with random weights: their loss from rounding is meaningless.
UNJUDGED = {"min_snr_db": -200, "min_agreement": 0, "allow_unjudged": True}


def export_random(model, *arguments, **options):
    """``export`` of a network of random weights: held to the model that the file computes, not to the float one."""
    return wm.tflite.export(model, *arguments, **{**UNJUDGED, **options})


def float_ops(info):
    """Names of the ops of a file that read or write floating point."""
    return [op.name for op in info.ops if any(t.dtype.startswith("float") for t in (*op.inputs, *op.outputs))]


def randomise(model, seed=0):
    """Fresh networks return nearly a constant, and fidelity tests on a constant test nothing."""
    rng = np.random.default_rng(seed)
    for layer in flatten_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            c = layer.moving_mean.shape
            gamma, beta = rng.uniform(0.3, 1.0, c), rng.normal(0, 0.3, c)
            own = [part for part, there in ((gamma, layer.scale), (beta, layer.center)) if there]
            layer.set_weights([*own, rng.normal(0, 0.3, c), rng.uniform(0.5, 2.0, c)])
        elif hasattr(layer, "kernel") and not hasattr(layer, "inline"):
            shape = layer.kernel.shape
            fan_in = np.prod(shape) / shape[-1]
            if isinstance(layer, keras.layers.Conv2DTranspose):
                fan_in = 4 * shape[-1]
            elif isinstance(layer, keras.layers.DepthwiseConv2D):
                fan_in = shape[0] * shape[1]
            layer.kernel.assign(rng.normal(0, 1.4 / np.sqrt(fan_in), shape))
            if layer.use_bias:
                layer.bias.assign(rng.normal(0, 0.2, layer.bias.shape))
    return model


def spread_statistics(model, images, seed=0):
    """Batch norm statistics near those of the data, as training would leave them, so that deep logits spread."""
    rng = np.random.default_rng(seed)
    norms = [layer for layer in flatten_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
        # A bias well above the scale prevents the network from amplifying rounding errors, as a random one would.
        gamma, beta = rng.uniform(0.2, 0.6, layer.moving_mean.shape), rng.normal(0.5, 0.3, layer.moving_mean.shape)
        if layer.scale:
            layer.gamma.assign(gamma)
        if layer.center:
            layer.beta.assign(beta)
    model(images, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        deviation = np.sqrt(np.asarray(layer.moving_variance))
        layer.moving_mean.assign(np.asarray(layer.moving_mean) + rng.normal(0, 0.2, deviation.shape) * deviation)
        layer.moving_variance.assign(np.square(deviation) * rng.uniform(0.6, 1.6, deviation.shape))
    return model


def network(image_shape=(16, 16, 3), width=8, depth=2, dropout=0.1, seed=0, **options):
    model = wm.WaveMixClassifier(5, image_shape, width=width, depth=depth, dropout=dropout, name="small", **options)
    return randomise(model, seed)


# Every level, stem, upsampler and activation, and a side that needs padding, in four networks.
NETWORKS = {
    "deconv": dict(activation="gelu", upsample="deconv"),
    "bilinear": dict(
        activation="quick_gelu",
        upsample="bilinear",
        levels=2,
        stem="patchify",
        patch_size=2,
        normalize=((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)),
    ),
    "nearest": dict(activation="relu6", upsample="nearest", levels=3, image_shape=(17, 19, 3), depth=1),
    "pixel_shuffle": dict(
        activation="hard_swish", upsample="pixel_shuffle", levels=4, image_shape=(16, 16, 1), depth=1
    ),
}


class Made(dict):
    """Key -> ``make(*key)``, made when it is first asked for and kept as long as the process.

    What is in it is shared by the tests of all files: never train it or change it.
    """

    def __init__(self, make):
        super().__init__()
        self._make = make

    def __missing__(self, key):
        keras.utils.set_random_seed(0)  # whichever test comes first
        self[key] = self._make(*key) if isinstance(key, tuple) else self._make(key)
        return self[key]


def shape_of(name):
    return NETWORKS[name].get("image_shape", (16, 16, 3))


CLASS_NAMES = ["ant", "bee", "cat|tom", "dog", "eel"]
CALIBRATION = Made(lambda name: generated_images(shape_of(name), 64, seed=1))
HELD_OUT = Made(lambda name: generated_images(shape_of(name), 48, seed=2))
FLOAT = Made(lambda name: network(**NETWORKS[name]))
QUANTIZED = Made(lambda name: wm.tflite.quantize(FLOAT[name], CALIBRATION[name]))
# (network, target, dtype of inputs and outputs or None) -> its file: of a GPU in float16, of others in int8.
FILES = Made(
    lambda name, target, io_dtype: export_random(
        (FLOAT if target == "android-gpu" else QUANTIZED)[name],
        target,
        images=HELD_OUT[name],
        io_dtype=io_dtype,
        class_names=CLASS_NAMES,
        crop_to_aspect_ratio=True,
    )
)


def spread(outputs):
    """How much the outputs differ from image to image."""
    return float(np.asarray(outputs).std(axis=0).mean())
