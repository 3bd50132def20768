"""``wm.load_weights``: the weights of a Keras file in a network of the same architecture."""

import keras
import numpy as np
import pytest
from keras import layers

import wavemix_tf as wm
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
