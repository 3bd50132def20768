"""``wm.load_weights``: the weights of a Keras file in a network of the same architecture."""

import keras
import numpy as np
import pytest
from keras import layers

import wavemix_tf as wm
from wavemix_tf.checkpoints.keras_weights import head_of
from wavemix_tf.state_files import DamagedFileError

SHAPE = (16, 16, 3)


def staged(classes=7, width=12):
    return wm.StagedClassifier("resnet", classes, SHAPE, widths=(8, width), depths=(1, 1))


def users(classes=7, width=12):
    """A user's network, whose layers Keras numbers anew."""
    inputs = keras.Input(SHAPE)
    x = layers.BatchNormalization()(layers.Conv2D(8, 3)(inputs))
    inner = keras.Sequential([layers.Conv2D(width, 3, activation="relu"), layers.Conv2D(width, 1)])
    return keras.Model(inputs, layers.Dense(classes)(layers.GlobalAveragePooling2D()(inner(x))))


def filled(model, seed=0):
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.uniform(0.1, 1.0, weight.shape))
    return model


def values(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


@pytest.mark.parametrize("make", [staged, users])
@pytest.mark.parametrize("name", ["x.keras", "x.weights.h5"])
def test_the_same_network_computes_the_same(make, name, tmp_path, rng):
    source = filled(make())
    (source.save if name == "x.keras" else source.save_weights)(tmp_path / name)
    model = make()
    assert wm.load_weights(model, tmp_path / name) is model
    images = rng.random((3, *SHAPE), "float32")
    np.testing.assert_array_equal(model.predict(images, verbose=0), source.predict(images, verbose=0))


@pytest.mark.parametrize("make", [staged, users])
@pytest.mark.parametrize("name", ["x.keras", "x.weights.h5"])
@pytest.mark.parametrize("classes", [3, 7])
def test_a_new_head_keeps_its_own_weights(make, name, classes, tmp_path, recwarn):
    source = filled(make())
    (source.save if name == "x.keras" else source.save_weights)(tmp_path / name)
    model = filled(make(classes), seed=1)
    head = values(model)[-2:]
    recwarn.clear()
    wm.load_weights(model, tmp_path / name, new_head=True)
    assert not [one for one in recwarn if issubclass(one.category, UserWarning)]
    found, expected = values(model), values(source)
    for mine, theirs in zip(found[:-2], expected[:-2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for mine, own in zip(found[-2:], head, strict=True):
        np.testing.assert_array_equal(mine, own)


@pytest.mark.parametrize("name", ["x.keras", "x.weights.h5"])
@pytest.mark.parametrize("new_head", [False, True])
@pytest.mark.parametrize("other", ["width", "kind", "classes"])
def test_another_architecture_is_refused_and_changes_nothing(name, new_head, other, tmp_path):
    source = filled(staged())
    (source.save if name == "x.keras" else source.save_weights)(tmp_path / name)
    model = filled({"width": staged(width=16), "kind": users(), "classes": staged(3)}[other], seed=1)
    if new_head and model.output_shape[-1] == 3:
        return  # that is what `new_head` is for
    before = values(model)
    with pytest.raises(ValueError, match=r"must hold the model's architecture\. Received: ") as error:
        wm.load_weights(model, tmp_path / name, new_head=new_head)
    assert "\n" not in str(error.value)
    for mine, old in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_files_that_are_not_there_damaged_or_of_another_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        wm.load_weights(staged(), tmp_path / "no.keras")
    (tmp_path / "x.keras").write_bytes(b"PK")
    with pytest.raises(DamagedFileError, match="must be intact"):
        wm.load_weights(staged(), tmp_path / "x.keras")
    (tmp_path / "x.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be \.keras or \.weights\.h5\. Received: .*x\.pth"):
        wm.load_weights(staged(), tmp_path / "x.pth")
    (tmp_path / "x.weights.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x\.weights\.h5 must hold the model's architecture"):
        wm.load_weights(staged(), tmp_path / "x.weights.h5")


@pytest.mark.parametrize(("depths", "mine"), [((2, 2), (1, 1)), ((2, 1), (1, 2))])
@pytest.mark.parametrize("new_head", [False, True])
def test_a_weights_file_with_layers_that_the_model_lacks_is_refused(depths, mine, new_head, tmp_path):
    """Keras reads such a file: it numbers the layers of a kind, and ignores the rest."""
    widths = {"widths": (8, 8)}
    filled(wm.StagedClassifier("resnet", 7, SHAPE, depths=depths, **widths)).save_weights(tmp_path / "x.weights.h5")
    model = filled(wm.StagedClassifier("resnet", 7, SHAPE, depths=mine, **widths), seed=1)
    before = values(model)
    with pytest.raises(ValueError, match=r"Received: 'stage1_block2_conv1' .* where the model has 'stage2_block1_"):
        wm.load_weights(model, tmp_path / "x.weights.h5", new_head=new_head)
    for new, old in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_the_weights_of_a_compiled_and_trained_model(tmp_path):
    """Their file also has the optimizer's."""
    source = filled(users())
    source.compile("adam", "mse")
    source.fit(np.zeros((4, *SHAPE)), np.zeros((4, 7)), verbose=0)
    source.save_weights(tmp_path / "x.weights.h5")
    model = wm.load_weights(users(), tmp_path / "x.weights.h5")
    for mine, theirs in zip(values(model), values(source), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"activation": "relu6"}, "Activation with activation='relu6' where the model has 'relu'"),
        ({"normalize": ((0.5,) * 3, (0.2,) * 3)}, "Normalization where the model has DWT2D"),
    ],
)
def test_other_settings_with_the_same_weights_are_told(changed, told, tmp_path):
    wm.StagedClassifier("resnet", 7, SHAPE, widths=(8, 12), depths=(1, 1), **changed).save(tmp_path / "x.keras")
    with pytest.warns(UserWarning, match=f"has the model's weights but other settings: {told}"):
        wm.load_weights(staged(), tmp_path / "x.keras")


@pytest.mark.parametrize("mixer", sorted(wm.MIXERS))
def test_a_network_for_other_classes_and_images_has_no_other_settings(mixer, tmp_path, recwarn):
    sides = (16, 16, 3) if mixer in ("mlp_mixer", "fourier") else (24, 32, 3)
    options = {"widths": (8, 8), "depths": (1, 1)}
    wm.StagedClassifier(mixer, 7, SHAPE, dropout=0.1, **options).save(tmp_path / "x.keras")
    model = wm.StagedClassifier(mixer, 3, sides, dtype="mixed_bfloat16", recompute="block", **options)
    recwarn.clear()
    wm.load_weights(model, tmp_path / "x.keras", new_head=True)
    assert not [str(one.message) for one in recwarn if issubclass(one.category, UserWarning)]


def behind_the_head(end):
    """A network whose head is in a nested model, or before a batch norm; of the users' layers in both."""
    inputs = keras.Input(SHAPE)
    parts = [layers.Conv2D(8, 3), layers.GlobalAveragePooling2D(), layers.Dense(7, name="linear")]
    if end == "nested":
        return keras.Model(inputs, keras.Sequential([keras.Input(SHAPE), *parts])(inputs))
    return keras.Sequential([inputs, *parts, layers.BatchNormalization(name="norm")])


@pytest.mark.parametrize(("end", "names"), [("nested", ["linear"]), ("norm", ["norm", "linear"])])
@pytest.mark.parametrize("name", ["x.keras", "x.weights.h5"])
def test_the_head_is_the_last_linear_layer(end, names, name, tmp_path):
    """Of as many classes too, where nothing but the order tells the layers apart."""
    source = filled(behind_the_head(end))
    (source.save if name == "x.keras" else source.save_weights)(tmp_path / name)
    model = filled(behind_the_head(end), seed=1)
    head = head_of(model)
    assert [layer.name for layer in head] == names
    own = {id(weight) for layer in head for weight in layer.weights}
    before = values(model)
    wm.load_weights(model, tmp_path / name, new_head=True)
    for weight, old, new, theirs in zip(model.weights, before, values(model), values(source), strict=True):
        np.testing.assert_array_equal(new, old if id(weight) in own else theirs)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head, self.conv, self.pool = layers.Dense(7), layers.Conv2D(8, 3), layers.GlobalAveragePooling2D()

    def call(self, x):
        return self.head(self.pool(self.conv(x)))


def test_a_head_that_cannot_be_found_is_refused(tmp_path):
    """A subclassed model lists its layers in the order in which it made them."""
    model = Subclassed()
    model(np.zeros((1, *SHAPE), "float32"))
    model.save_weights(tmp_path / "x.weights.h5")
    wm.load_weights(model, tmp_path / "x.weights.h5")
    with pytest.raises(ValueError, match=r"new_head needs a functional or Sequential model with one output\. Received"):
        wm.load_weights(model, tmp_path / "x.weights.h5", new_head=True)
    inputs = keras.Input(SHAPE)
    x = layers.Flatten()(inputs)
    several = keras.Model(inputs, {"a": layers.Dense(7)(x), "b": layers.Dense(2)(x)})
    with pytest.raises(ValueError, match="outputs: 2"):
        head_of(several)
    with pytest.raises(ValueError, match="ends in one layer with a matrix"):
        head_of(keras.Model(inputs, layers.add([layers.Dense(7)(x), layers.Dense(7)(x)])))
