"""Models as users write them: their copies, and the files of the copies, compute the same."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import wavemix_tf as wm
from wavemix_tf.tflite.errors import ExportError, UnsupportedLayerError
from wavemix_tf.tflite.exporting.exporter import export
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.graph.graph import Graph
from wavemix_tf.tflite.graph.inputs import generated_images, predict
from wavemix_tf.tflite.graph.lowering import deploy
from wavemix_tf.tflite.layers.copying import copy_layer
from wavemix_tf.tflite.quantization.quantizer import quantize
from wavemix_tf.tflite.runtimes.converter import convert
from wavemix_tf.tflite.runtimes.running import run_file

SHAPE = (16, 16, 3)
RANDOM = {"allow_unjudged": True, "min_snr_db": 10, "min_agreement": 0.8}  # untrained weights


@pytest.fixture(scope="module")
def images():
    return generated_images(SHAPE, 96, seed=1)


class Scale(layers.Layer):
    """Its constructor takes neither a name nor a dtype, so nobody can make it anew."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor


class Block(layers.Layer):
    """Parts made in the constructor and built in the first call; one frozen."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.parts = {"conv": layers.Conv2D(filters, 3), "rest": [layers.BatchNormalization(), layers.ReLU()]}
        self.parts["rest"][0].trainable = False

    def call(self, x, training=None):
        norm, rectifier = self.parts["rest"]
        return rectifier(norm(self.parts["conv"](x), training=training))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


class Counted(layers.Layer):
    """State from the constructor on, another that no gradient reaches."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.gain = self.add_weight(shape=(width,), initializer="random_normal")
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="ones", trainable=False)

    def call(self, x):
        return x * self.gain + ops.cast(self.calls, x.dtype)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class Jitter(layers.Layer):
    """Somebody's own augmentation."""

    def call(self, x, training=None):
        return x + 0.2 * keras.random.normal(ops.shape(x)) if training else x


class Penalty(keras.regularizers.Regularizer):
    """Registered nowhere."""

    def __call__(self, x):
        return ops.sum(ops.square(x))

    def get_config(self):
        return {}


class Inner(keras.Model):
    """A model whose graph is not visible, inside one whose graph is."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(4, 3)

    def call(self, x):
        return self.conv(x)


def halved(x):
    return ops.relu(x) * 0.5


def conv(x, filters=6, **options):
    return layers.Conv2D(filters, 3, padding="same", **{"activation": "relu", **options})(x)


def head(x, classes=4):
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


def functional(body, shape=SHAPE, dtype="float32"):
    inputs = keras.Input(shape, dtype=dtype)
    return keras.Model(inputs, body(inputs))


def adapted(**options):
    layer = layers.Normalization(**options)
    layer.adapt(generated_images(SHAPE, 8, seed=5) * 200 - 30)
    return layer


def built_late():
    model = keras.Sequential([layers.Conv2D(6, 3, activation="relu"), layers.GlobalMaxPooling2D(), layers.Dense(4)])
    model(np.zeros((1, *SHAPE), "float32"))
    return model


def called_by_names():
    first, second = keras.Input(SHAPE, name="zz"), keras.Input(SHAPE, name="aa")
    inner = keras.Model([first, second], layers.Subtract()([layers.Conv2D(3, 1)(first), second]))
    return functional(lambda x: head(inner({"aa": layers.Rescaling(0.3)(x), "zz": x})))


def with_lora():
    dense = layers.Dense(4)
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), dense])
    dense.enable_lora(2)
    dense.lora_kernel_b.assign(np.random.default_rng(0).normal(0, 0.1, dense.lora_kernel_b.shape))
    return model


def twice(layer):
    return functional(lambda x: head(layer(layer(x))))


MODELS = {
    "Sequential": lambda: keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(6, 3, activation="relu"), layers.Flatten(), layers.Dense(4)]
    ),
    "Sequential built late": built_late,
    "nested Sequential": lambda: functional(
        lambda x: head(keras.Sequential([adapted(), layers.RandomFlip(), layers.Conv2D(4, 3)])(x))
    ),
    "Normalization": lambda: functional(lambda x: head(conv(adapted()(x)))),
    "Normalization of all": lambda: functional(lambda x: head(conv(adapted(axis=None)(x)))),
    "Lambda": lambda: functional(lambda x: head(layers.Lambda(lambda t: t * 2.0)(conv(x)))),
    "composite": lambda: functional(lambda x: head(Block(5)(x))),
    "no configuration": lambda: functional(lambda x: head(Scale(2.0)(conv(x)))),
    "variables of a layer's own": lambda: functional(lambda x: head(Counted(6)(conv(x)))),
    "subclassed model inside": lambda: functional(lambda x: head(Inner()(x))),
    "nested model called by names": called_by_names,
    "layer called twice": lambda: twice(layers.Conv2D(3, 3, padding="same", activation="tanh")),
    "LoRA": with_lora,
    "functions without a name": lambda: functional(
        lambda x: head(conv(conv(x, activation=halved), activation=lambda t: t * 2.0, kernel_regularizer=Penalty()))
    ),
    "PReLU inside a convolution": lambda: functional(
        lambda x: head(conv(x, activation=layers.PReLU(shared_axes=[1, 2], alpha_initializer="random_normal")))
    ),
    "augmentation": lambda: functional(
        lambda x: head(conv(layers.Pipeline([layers.RandomZoom(0.1), layers.RandomShear(0.1)])(Jitter()(x))))
    ),
    "recurrent": lambda: functional(lambda x: layers.Bidirectional(layers.LSTM(3))(layers.Reshape((16, 48))(x))),
    "attention": lambda: functional(
        lambda x: head(layers.Reshape((4, 4, 48))(layers.MultiHeadAttention(2, 4)(*[layers.Reshape((16, 48))(x)] * 2)))
    ),
    "spectral norm": lambda: functional(lambda x: head(layers.SpectralNormalization(layers.Conv2D(5, 3))(x))),
    "mixed policies": lambda: functional(lambda x: head(conv(conv(x, dtype="mixed_bfloat16")))),
    "indices": lambda: functional(lambda x: ops.argmax(head(conv(x)), axis=-1)),
    "one number": lambda: functional(lambda x: ops.mean(head(conv(x)), axis=-1)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_a_copy_computes_what_the_model_computes(name, images):
    model = MODELS[name]()
    expected = np.asarray(model.predict(images[:8], verbose=0), np.float32)
    before = [(layer.name, layer.trainable, [np.asarray(w) for w in layer.get_weights()]) for layer in model.layers]
    copy = Graph.from_model(model).to_model("copy")
    copy = Graph.from_model(copy).to_model("copy_of_copy")
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(predict(copy, images[:8]), expected)
    if "LoRA" not in name:  # whose update is merged into the kernel
        assert len(copy.trainable_weights) == len(model.trainable_weights)
    for layer, (layer_name, trainable, values) in zip(model.layers, before, strict=True):
        assert (layer.name, layer.trainable) == (layer_name, trainable)
        for found, value in zip(layer.get_weights(), values, strict=True):
            np.testing.assert_array_equal(found, value)


def test_a_copy_takes_tables_and_random_states_along():
    lookup = layers.StringLookup()
    lookup.adapt(["frog", "cat", "frog"])
    assert copy_layer(lookup).get_vocabulary() == ["[UNK]", "frog", "cat"]
    bins = layers.Discretization(num_bins=3)
    bins.adapt(np.arange(90.0))
    np.testing.assert_array_equal(copy_layer(bins)(np.array([1.0, 45.0, 89.0])), bins(np.array([1.0, 45.0, 89.0])))
    dropout = layers.Dropout(0.5, seed=3)
    ones = np.ones((4, 64), "float32")
    dropout(ones, training=True)  # advances the generator
    twin = copy_layer(dropout)
    np.testing.assert_array_equal(twin(ones, training=True), dropout(ones, training=True))


def test_frozen_parts_stay_frozen(images):
    block = Block(5)
    model = functional(lambda x: head(block(x)))
    copy = Graph.from_model(model).to_model("copy")
    norm = copy.get_layer(block.name).parts["rest"][0]
    assert not norm.trainable
    assert copy.get_layer(block.name).parts["conv"].trainable
    assert not any(weight.trainable for weight in norm.weights)


def snr_db(expected, found):
    """Of outputs (N, ...) about their mean over the images."""
    noise = np.square(expected - found.reshape(expected.shape)).sum()
    return 10 * np.log10(np.square(expected - expected.mean(0)).sum() / max(noise, 1e-30))


def prelu(**options):
    return layers.PReLU(alpha_initializer=keras.initializers.RandomUniform(-0.2, 0.4, seed=1), **options)


# Name -> (body, dtype of the input, factor and offset of the images, options of quantize).
FILES = {
    "adapted statistics of bytes": (lambda x: head(conv(adapted()(x))), "uint8", (255, 0), {}),
    "bytes cast and divided": (lambda x: head(conv(ops.cast(x, "float32") / 255.0)), "uint8", (255, 0), {}),
    "augmentation of bytes": (
        lambda x: head(conv(layers.Rescaling(1 / 127.5, -1.0)(layers.RandomFlip()(Jitter()(x))))),
        *("uint8", (255, 0), {}),
    ),
    "augmentation": (
        lambda x: head(
            layers.ActivityRegularization(1e-4)(
                layers.SpatialDropout2D(0.2)(conv(layers.RandomContrast(0.1)(layers.Identity()(x))))
            )
        ),
        *("float32", (1, 0), {}),
    ),
    "centre crop": (
        lambda x: layers.Dense(4)(layers.Flatten()(conv(layers.CenterCrop(11, 12)(x)))),
        "float32",
        (1, 0),
        {},
    ),
    "slopes a channel": (lambda x: head(prelu(shared_axes=[1, 2])(layers.Conv2D(6, 3)(x))), "float32", (1, 0), {}),
    "slopes a value": (lambda x: layers.Dense(4)(prelu()(layers.Dense(9)(layers.Flatten()(x)))), "float32", (1, 0), {}),
    "one slope": (lambda x: head(layers.ReLU(negative_slope=0.2)(layers.Conv2D(6, 3)(x))), "float32", (1, 0), {}),
    "another ceiling": (lambda x: head(layers.ReLU(max_value=1.0)(layers.Conv2D(6, 3)(x))), "float32", (1, 0), {}),
    "one number": (lambda x: ops.mean(head(conv(x)), axis=-1), "float32", (1, 0), {}),
    "a loop unrolled": (
        lambda x: layers.Dense(3)(layers.GRU(5)(layers.Reshape((4, 192))(conv(x, 3)))),
        *("float32", (1, 0), {"skip": "unsupported"}),
    ),
    "a layer of somebody's": (lambda x: head(conv(Block(5)(conv(x)))), "float32", (1, 0), {"skip": "unsupported"}),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.slow
def test_the_file_computes_what_the_model_computes(name, images):
    body, dtype, (factor, offset), options = FILES[name]
    model = functional(body, dtype=dtype)
    pictures = (np.round(images * factor) + offset).astype(dtype) if dtype == "uint8" else images * factor + offset
    quantized = quantize(model, pictures[:64], **options)
    assert quantized.inputs[0].dtype == dtype
    assert quantized.output_names == model.output_names
    artifact = export(quantized, "android-cpu", images=pictures[64:], **RANDOM)
    assert (
        snr_db(model.predict(pictures[64:], verbose=0), run_file(artifact.content, pictures[64:], "litert-xnnpack"))
        > 18
    )
    info = read_file(artifact.content)
    if not options:
        assert {tensor.dtype for tensor in (*info.inputs, *info.outputs)} == {"int8"}
        assert not artifact.float_layers
        assert {op.name for op in info.ops} <= {
            *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN", "PRELU", "LEAKY_RELU", "STRIDED_SLICE"),
            *("RESHAPE", "RELU6", "MUL", "MAX_POOL_2D", "SLICE"),
        }
    if dtype == "uint8":
        tensor = info.inputs[0]
        assert (tensor.scale, tensor.zero_point) == (1.0, -128)
        assert artifact.input_ranges == ((0.0, 255.0),)


@pytest.mark.slow
def test_indices_beside_what_they_index(images):
    inputs = keras.Input(SHAPE)
    logits = head(conv(inputs))
    model = keras.Model(inputs, {"logits": logits, "best": ops.argmax(logits, axis=-1)})
    artifact = export(quantize(model, images[:64]), "android-cpu", images=images[64:], **RANDOM)
    info = read_file(artifact.content)
    assert sorted(tensor.dtype for tensor in info.outputs) == ["int32", "int8"]
    expected = model.predict(images[64:], verbose=0)
    best, found = run_file(artifact.content, images[64:], "litert-xnnpack")  # sorted by name, as Keras flattens dicts
    np.testing.assert_array_equal(best, found.argmax(-1))
    assert snr_db(expected["logits"], found) > 18
    with pytest.raises(ValueError, match="int8 or float32 inputs and outputs"):
        export(quantize(model, images[:64]), "android-cpu", io_dtype="uint8", images=images[64:], **RANDOM)


@pytest.mark.slow
def test_indices_of_a_table_stay_integers():
    words = np.random.default_rng(0).integers(0, 20, (96, 7)).astype("int32")
    model = functional(
        lambda x: layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.Embedding(20, 6, "normal")(x))), (7,), "int32"
    )
    quantized = quantize(model, words[:64], skip="unsupported")
    artifact = export(quantized, "android-cpu", images=words[64:], **RANDOM)
    assert [tensor.dtype for tensor in read_file(artifact.content).inputs] == ["int32"]
    found = run_file(artifact.content, words[64:].astype("float32"), "litert-xnnpack")
    assert snr_db(model.predict(words[64:], verbose=0), found) > 18


@pytest.mark.slow
def test_prelu_trains_with_the_slopes_of_its_file(images):
    model = functional(lambda x: head(prelu(shared_axes=[1, 2])(layers.Conv2D(6, 3)(x))))
    quantized = quantize(model, images[:32])
    layer = next(part for part in quantized.layers if type(part).__name__ == "QuantPReLU")
    slopes = np.asarray(layer.alpha).ravel()
    info = read_file(convert(deploy(quantized, {}, "transposed_conv"), "int8", "int8"))
    weights = next(op for op in info.ops if op.name == "PRELU").inputs[1]
    assert weights.scale == pytest.approx(np.abs(slopes).max() / 127, rel=1e-6)
    np.testing.assert_array_equal(weights.values().ravel(), np.round(slopes / weights.scale))
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype("float32")
    expected = np.where(x > 0, x, x * np.round(slopes / weights.scale) * weights.scale)
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)


@pytest.mark.slow
def test_a_quantized_model_goes_on_augmenting(images):
    model = functional(lambda x: head(conv(layers.RandomCrop(12, 12)(Jitter()(layers.RandomFlip()(x))))))
    with pytest.warns(UserWarning, match="'random_crop.*' of type RandomCrop returns whole pictures under Keras"):
        quantized = quantize(model, images[:32])
    still, again = (np.asarray(quantized(images[:8], training=False)) for _ in range(2))
    np.testing.assert_array_equal(still, again)
    assert np.abs(np.asarray(quantized(images[:8], training=True)) - still).max() > 0.01
    crop = next(part for part in quantized.layers if type(part).__name__ == "RandomThenCentreCrop")
    np.testing.assert_array_equal(crop(images, training=False), images[:, 2:14, 2:14])
    kinds = {type(part).__name__ for part in deploy(quantized, {}, "transposed_conv").layers}
    assert "Cropping2D" in kinds
    assert not any("Random" in kind or "Jitter" in kind for kind in kinds)


OUTPUTS = {
    "list": lambda box, kind: [box, kind],
    "dict": lambda box, kind: {"kind": kind, "box": box},
}


@pytest.mark.parametrize("form", OUTPUTS)
@pytest.mark.slow
def test_outputs_keep_their_names_and_order(form, images, tmp_path):
    inputs = keras.Input(SHAPE)
    shared = layers.GlobalAveragePooling2D()(conv(inputs))
    box = layers.Dense(4, name="box")(shared)
    kind = layers.Dense(3, activation="softmax", name="kind")(shared)
    model = keras.Model(inputs, OUTPUTS[form](box, kind))
    labels = {"box": np.zeros((32, 4), "float32"), "kind": np.zeros(32, "int32")}
    options = {
        "loss": {"box": "mse", "kind": "sparse_categorical_crossentropy"},
        "metrics": {"kind": ["accuracy"]},
        "optimizer": "sgd",
    }
    quantized = quantize(model, images[:32])
    quantized.save(tmp_path / "q.keras")
    histories = []
    for one in (model, quantized, keras.saving.load_model(tmp_path / "q.keras")):
        one.compile(**options)
        histories.append(one.fit(images[:32], labels, batch_size=32, verbose=0).history)
    assert list(histories[0]) == list(histories[1]) == list(histories[2])
    assert model.output_names == quantized.output_names
    assert histories[1]["loss"] == pytest.approx(histories[0]["loss"], rel=0.1)


class Weighted(keras.Model):
    """Trains with a loss of its own, which an attribute scales."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.factor * ops.mean(ops.square(y - y_pred))


class Distilled(Weighted):
    def __init__(self, inputs, outputs, teacher, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.teacher = teacher


@pytest.mark.slow
def test_a_subclass_keeps_its_own_training_or_says_so(images):
    inputs = keras.Input(SHAPE)
    model = Weighted(inputs, head(conv(inputs)))
    model.factor = 7.0
    quantized = quantize(model, images[:32])
    quantized.compile("sgd")
    target = np.ones((32, 4), "float32")
    expected = 7.0 * np.mean(np.square(1.0 - predict(quantized, images[:32])))
    assert quantized.evaluate(images[:32], target, verbose=0) == pytest.approx(expected, rel=1e-5)
    with pytest.warns(UserWarning, match="not with those of class Distilled"):
        quantize(Distilled(inputs, head(conv(inputs)), teacher=None), images[:32])


@pytest.mark.slow
def test_a_layer_that_cannot_be_copied_is_shared_and_named(images):
    class Gain(Scale):
        def build(self, shape):
            self.gain = self.add_weight(shape=(shape[-1],), initializer="ones")

        def call(self, x):
            return x * self.gain * self.factor

    gain = Gain(2.0)
    model = functional(lambda x: head(gain(conv(x))))
    with pytest.warns(UserWarning, match=f"Layer {gain.name!r} of type Gain cannot be copied"):
        quantized = quantize(model, images[:32], skip="unsupported")
    assert any(layer is gain for layer in quantized.layers)
    quantize(functional(lambda x: head(Scale(2.0)(conv(x)))), images[:32], skip="unsupported")  # no weights, no warning


def rounded_by_keras():
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(4, name="logits")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.quantize("int8")
    return model


REFUSED = {
    "rounded already": (rounded_by_keras, {}, r"'logits' has int8 weights, made by keras.Model.quantize: pass the"),
    "not built": (lambda: keras.Sequential([layers.Flatten()]), {}, r"must be built.*keras.Input"),
    "recurrent": (
        lambda: functional(lambda x: layers.LSTM(3, name="steps")(layers.Reshape((16, 48))(x))),
        {},
        r"^Layer 'steps' of type LSTM has no int8 rule: pass skip=\['steps'\].*again with keras.layers.Conv2D",
    ),
    "own layer": (lambda: functional(lambda x: head(Block(3, name="mine")(x))), {}, r"'mine'.*a method inline\(x\)"),
    "enlarging crop": (lambda: functional(lambda x: head(layers.CenterCrop(20, 20)(x))), {}, "keras.layers.Resizing"),
    "no op": (
        lambda: functional(lambda x: head(layers.UpSampling2D(2, interpolation="bicubic", name="up")(x))),
        {"skip": "unsupported"},
        r"layer='up' with interpolation='bicubic'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.slow
def test_a_refusal_is_a_line_that_names_layer_reason_and_remedy(name, images):
    make, options, message = REFUSED[name]
    with pytest.raises(UnsupportedLayerError, match=message) as caught:
        quantize(make(), images[:32], **options)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


def test_an_op_that_the_converter_lacks_is_named_with_its_layer(images):
    model = functional(
        lambda x: layers.Dense(3)(layers.CategoryEncoding(20, "multi_hot", name="codes")(x)), (7,), "int32"
    )
    with pytest.raises(ExportError, match=r"no op for DenseBincount \(layer 'codes'\)"):
        export(model, "android-cpu", "float32")


@pytest.mark.slow
def test_bytes_and_fractions_are_distinguished(images):
    model = functional(lambda x: head(conv(layers.Rescaling(1 / 255)(x))), dtype="uint8")
    with pytest.raises(ValueError, match="whole numbers"):
        quantize(model, images[:32] * 255)
    with pytest.raises(ValueError, match="dtype=uint8"):
        quantize(functional(lambda x: head(conv(x))), (images[:32] * 255).astype("uint8"))
    report = wm.tflite.verify(
        export(quantize(model, np.round(images[:32] * 255)), "android-cpu", **RANDOM),
        model,
        np.round(images[64:] * 255).astype("uint8"),
    )
    assert report.mean_error_steps < 8


@pytest.mark.parametrize("epsilon", [1e-6, 1e-5, 1e-3])
def test_a_norm_of_small_values_has_its_epsilon_before_rounding(epsilon):
    """Below a step of int8 the file has none; what is compared with the given model before any rounding has."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 8))
    x = keras.layers.LayerNormalization(epsilon=epsilon)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    values = np.random.default_rng(0).normal(0, 2e-3, (64, 6, 8)).astype(np.float32)  # a variance of 4e-6
    report = quantize(model, values, input_range=None).quantization_report
    assert max(report.copy.differences) < 1e-4
