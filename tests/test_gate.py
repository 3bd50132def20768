"""Checks of arrays, tf.data and PyDatasets: what is scaled, converted and refused; weights that reach the loss."""

import dataclasses

import keras
import numpy as np
import pytest

from wavemix_tf.training import Recipe, fit
from wavemix_tf.training.data.example_weights import Weighting, class_table
from wavemix_tf.training.data.gate import Gate
from wavemix_tf.training.data.given import as_bundle, unwrapped_errors
from wavemix_tf.training.fitting.epoch_batches import training_batches
from wavemix_tf.training.tasks import task_of

SHAPE = (4, 4, 1)
RECIPE = Recipe(
    name="gate",
    dataset="folder",
    image_shape=SHAPE,
    num_classes=4,
    calibration_images=40,  # so many are shared with training
    batch_size=8,
    epochs=2,
    warmup_epochs=0,
    learning_rate=0.02,
)
MASKS = dataclasses.replace(RECIPE, task="segmentation", ignore_index=255)
LARGE = Recipe("large", "folder", (4, 4, 3), task="super_resolution", calibration_images=40, batch_size=8)
KINDS = ("arrays", "tf.data", "generator", "PyDataset")


def example(count=48):
    """Images whose brightest pixel tells the class."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, count)
    images = random.random((count, *SHAPE)).astype(np.float32) / 4
    images[np.arange(count), labels, labels] = 1.0
    return images, labels


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def given(kind, *parts, size=8):
    """The same images as each kind of data."""
    if kind == "arrays":
        return parts
    batches = [tuple(part[start : start + size] for part in parts) for start in range(0, len(parts[0]), size)]
    if kind == "PyDataset":
        return Batches(batches)
    import tensorflow as tf

    if kind == "tf.data":
        return tf.data.Dataset.from_tensor_slices(parts).batch(size)
    signature = tuple(tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in parts)
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=signature)


def network(outputs=4):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, keras.layers.Dense(outputs)(keras.layers.Flatten()(inputs)))


def run(data, recipe=RECIPE, **options):
    held_out = options.pop("validation_data", example(16))
    return fit(
        recipe, model=options.pop("model", None) or network(), data=data, validation_data=held_out, verbose=0, **options
    )


def read_through(recipe, data):
    """Every batch as it is trained on, without a network."""
    source = as_bundle(recipe, data, validation_data=data).train_source
    with unwrapped_errors(source):
        batches = source.batches(8)
        found = (
            [batches[i] for i in range(len(batches))] if isinstance(batches, keras.utils.PyDataset) else list(batches)
        )
    return [np.concatenate([np.asarray(batch[part]) for batch in found]) for part in range(len(found[0]))]


# The same for all forms of data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["uint8", "float64", "float16", "one-hot", "column"])
def test_every_form_of_the_same_data_is_the_same(kind, form):
    images, labels = example()
    pixels = np.round(255 * images).astype(np.uint8)
    exact = pixels / np.float32(255)
    parts = {
        "uint8": (pixels, labels),
        "float64": (exact.astype(np.float64), labels.astype(np.uint8)),
        "float16": (exact.astype(np.float16), labels),
        "one-hot": (exact, np.eye(4, dtype=np.float32)[labels]),
        "column": (exact, labels[:, None]),
    }[form]
    source = as_bundle(RECIPE, given(kind, *parts), validation_data=(exact, labels)).train_source
    batches = source.batches(8)
    found = [batches[i] for i in range(len(batches))] if kind == "PyDataset" else list(batches)
    np.testing.assert_allclose(
        np.concatenate([np.asarray(b[0]) for b in found]), exact, atol=1e-3 * (form == "float16")
    )
    np.testing.assert_array_equal(np.concatenate([np.asarray(b[1]) for b in found]), labels)
    assert {np.asarray(b[0]).dtype for b in found} == {np.dtype(np.float32)}
    assert {np.asarray(b[1]).dtype for b in found} == {np.dtype(np.int64)}


def spoiled(how):
    images, labels = example()
    pixels = images
    if how == "nan":
        pixels[19, 0, 0] = np.nan
    elif how == "inf":
        pixels[19, 0, 0] = -np.inf
    elif how == "255":
        pixels = pixels * 255
    elif how == "signed":
        pixels = pixels * 2 - 1
    elif how == "int64":
        pixels = np.round(255 * pixels).astype(np.int64)
    elif how == "label":
        labels[19] = 4
    elif how == "negative":
        labels[19] = -1
    elif how == "soft":
        labels = np.full((len(labels), 4), 0.25, np.float32)
    elif how == "words":
        labels = labels.astype(np.float32)
    return pixels, labels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("how", "message", "batch", "row"),
    [
        ("nan", "a value that is not finite in image {row}", 2, 3),
        ("inf", "a value that is not finite in image {row}", 2, 3),
        ("255", r"in \[0, 1\] \(pixel / 255\)\. Received: {where} from .* to 255, the first outside in image 0", 0, 0),
        ("signed", r"in \[0, 1\] .*Received: {where} from -.* to 1, the first outside in image 0", 0, 0),
        ("int64", "uint8, or floating point and finite. Received: {where} with images int64", 0, 0),
        ("label", r"in \[0, 4\).*{where}.*labels from \d to 4, the first invalid one in image {row}", 2, 3),
        ("negative", r"in \[0, 4\).*{where}.*labels from -1 to \d, the first invalid one in image {row}", 2, 3),
        ("soft", "Labels must be integers, one per image, or one-hot .*{where} ", 0, 0),
        ("words", "Labels must be integers, one per image, or one-hot .*{where} ", 0, 0),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_trained_on_is_reported_with_its_batch(kind, how, message, batch, row):
    data = given(kind, *spoiled(how))
    where, row = ("data", row + 8 * batch) if kind == "arrays" else (f"data, batch {batch}", row)
    with pytest.raises(ValueError, match=message.replace("{where}", where).replace("{row}", str(row))):
        read_through(RECIPE, data)


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
@pytest.mark.slow
def test_a_fault_in_training_validation_or_evaluation_is_one_line(kind):
    message = r"^Labels must be in \[0, 4\).*{}, batch 2 with .*in image 3$"
    data, bad = given(kind, *example()), given(kind, *spoiled("label"))
    with pytest.raises(ValueError, match=message.format("data")):
        run(bad)
    with pytest.raises(ValueError, match=message.format("validation_data")):
        run(data, validation_data=bad)
    result = run(data, dataclasses.replace(RECIPE, epochs=1))
    with pytest.raises(ValueError, match=message.format("data")):
        result.evaluate(bad)
    images, labels = example()
    scores = [
        result.evaluate(given(kind, np.round(255 * images).astype(np.uint8), labels)),
        result.evaluate((images, labels)),
    ]
    assert scores[0] == pytest.approx(scores[1], abs=5e-3)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        result.evaluate((255 * images, labels))


# Other tasks


@pytest.mark.parametrize("kind", ["arrays", "tf.data", "PyDataset"])
def test_masks(kind):
    images, _ = example()
    masks = np.random.default_rng(1).integers(0, 4, (48, 4, 4)).astype(np.uint8)
    masks[5, 1, 2] = 255  # void
    for form in (masks, masks[..., None]):
        np.testing.assert_array_equal(read_through(MASKS, given(kind, images, form))[1], masks)
    hot = np.eye(4, dtype=np.uint8)[np.minimum(masks, 3)]
    np.testing.assert_array_equal(read_through(MASKS, given(kind, images, hot))[1], np.minimum(masks, 3))
    masks[19, 0, 0] = 4
    with pytest.raises(ValueError, match=rf"in \[0, 4\), .*in image {19 if kind == 'arrays' else 3}"):
        read_through(MASKS, given(kind, images, masks))
    with pytest.raises(ValueError, match=r"Masks must be integers \(N, 4, 4\), or one-hot"):
        read_through(MASKS, given(kind, images, masks[:, :2]))


@pytest.mark.parametrize("kind", ["arrays", "tf.data", "PyDataset"])
def test_pictures_to_learn_are_checked_too(kind):
    small, large = (np.random.default_rng(0).random((16, side, side, 3)).astype(np.float32) for side in (4, 8))
    pixels = np.round(255 * large).astype(np.uint8)
    np.testing.assert_allclose(read_through(LARGE, given(kind, small, pixels))[1], pixels / np.float32(255))
    with pytest.raises(ValueError, match=r"in \[0, 1\] .* to 25\d.*, the first outside in target 0"):
        read_through(LARGE, given(kind, small, 255 * large))
    with pytest.raises(ValueError, match=r"Targets must be images \(N, 8, 8, 3\)"):
        read_through(LARGE, given(kind, small, small))


@pytest.mark.parametrize(
    ("recipe", "labels"), [(RECIPE, np.arange(48) % 5 * 10), (MASKS, (np.arange(768) % 2 * 200).reshape(48, 4, 4))]
)
def test_numbers_with_gaps_are_no_classes_by_themselves(recipe, labels):
    unknown = dataclasses.replace(recipe, num_classes=None)
    with pytest.raises(ValueError, match=r"without gaps.*Received: data with the labels 0, \d+0"):
        as_bundle(unknown, (example()[0], labels))
    numbered = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    assert as_bundle(unknown, (example()[0], numbered)).class_names == tuple(map(str, range(numbered.max() + 1)))


# The structure of a dataset


def forms():
    import tensorflow as tf

    images, labels = example()
    slices = tf.data.Dataset.from_tensor_slices((images, labels))
    batches = slices.batch(8)
    ragged = batches.map(lambda x, y: (tf.RaggedTensor.from_tensor(x), y))
    return {
        "unbatched": (slices, r"must yield batches: use dataset.batch\(batch_size\).*images \(4, 4, 1\), targets \(\)"),
        "unbatched PyDataset": (Batches(list(zip(images, labels, strict=True))), "must yield batches"),
        "dict": (
            batches.map(lambda x, y: {"image": x, "label": y}),
            r"or \(images, targets, weights\). Received: .*dict of image, label: use dataset.map",
        ),
        "dict PyDataset": (Batches([{"x": images}]), "a dict of x"),
        "images alone": (batches.map(lambda x, y: x), "a single TensorSpec"),
        "four parts": (batches.map(lambda x, y: (x, y, y, y)), "4 parts"),
        "nested": (batches.map(lambda x, y: ({"a": x}, y)), "a dict of a"),
        "ragged": (ragged, "a RaggedTensorSpec"),
        "endless": (batches.repeat(), r"must be finite: use dataset.take\(batches\).*data is infinite"),
        "a generator": (iter([(images, labels)]), "Data must be a DataBundle, arrays"),
        "an array": (images, "Data must be a DataBundle, arrays .* is a ndarray"),
        "other size": (batches.map(lambda x, y: (x[:, :2], y)), r"image_shape=\(4, 4, 1\)"),
    }


@pytest.mark.parametrize("name", list(forms()))
def test_other_forms_get_one_line(name):
    data, message = forms()[name]
    with pytest.raises(ValueError, match=message) as caught:
        read_through(RECIPE, data)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_data_set_that_does_not_tell_its_length_is_counted_and_reported():
    bundle = as_bundle(RECIPE, given("generator", *example()), validation_data=example())
    assert (bundle.train_source.size, bundle.train_source.steps(8)) == (6, 6)
    assert "read once and has 6 batches (dataset.apply(tf.data.experimental.assert_cardinality(6))" in bundle.notes[0]
    result = run(given("generator", *example()))
    expected = run(given("tf.data", *example()))
    assert result.history["loss"] == pytest.approx(expected.history["loss"], rel=1e-5)


@pytest.mark.slow
def test_calibration_takes_no_training_images_away_in_silence(capsys):
    images, labels = example(320)
    recipe = dataclasses.replace(RECIPE, calibration_images=256, epochs=1)
    bundle = as_bundle(recipe, (images, labels))
    assert (bundle.train_source.size, bundle.validation_source.size, len(bundle.calibration)) == (288, 32, 256)
    assert bundle.notes[-1] == "256 of 320 images are also used for calibration (calibration_images)"
    few = as_bundle(dataclasses.replace(recipe, calibration_images=20), (images, labels))
    assert (few.train_source.size, len(few.calibration)) == (268, 20)
    assert few.notes[-1] == "20 of 320 images are held out for calibration (calibration_images)"
    fit(recipe, model=network(), data=(images, labels), verbose=2)
    assert "256 of 320 images are also used for calibration" in capsys.readouterr().out


# Weights


@pytest.mark.parametrize("kind", ["arrays", "tf.data", "PyDataset"])
@pytest.mark.slow
def test_weights_reach_the_loss(kind):
    """One step of plain SGD on one batch, against Keras's own loss with the same weights."""
    images, labels = example(8)
    weights = np.array([0, 1, 2, 0.5, 0, 3, 1, 1], np.float32)
    classes = {0: 2.0, "3": 0.25}
    recipe = dataclasses.replace(
        RECIPE, epochs=1, optimizer="sgd", momentum=0.0, weight_decay=0.0, learning_rate=0.5, cosine=False
    )
    model = network()
    start = model.get_weights()
    result = run(given(kind, images, labels, weights), recipe, model=model, class_weight=classes)
    table = np.array([2, 1, 1, 0.25], np.float32)
    expected = network()
    expected.set_weights(start)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected.compile(keras.optimizers.SGD(0.5), loss)
    value = expected.train_on_batch(images, labels, sample_weight=weights * table[labels])
    for ours, theirs in zip(result.model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert result.history["loss"][0] == pytest.approx(float(value), rel=1e-5)


@pytest.mark.parametrize("kind", ["arrays", "PyDataset"])
@pytest.mark.slow
def test_mixed_images_have_mixed_weights(kind):
    """The loss of lam * x + (1 - lam) * y weighs lam * w(x) + (1 - lam) * w(y); images without weight teach nothing."""
    images, labels = example(16)
    weights = np.where(np.arange(16) % 2, 3.0, 0.0).astype(np.float32)
    recipe = dataclasses.replace(RECIPE, mixup=1.0, label_smoothing=0.1, batch_size=16)
    data = as_bundle(recipe, given(kind, images, labels, weights, size=16), validation_data=(images, labels))
    weighting = Weighting(recipe, class_table({1: 2.0}, tuple("0123"), recipe))
    batches = training_batches(data.train_source, recipe, 0, 1, task_of(recipe, 4), weighting=weighting)
    mixed, targets, found = (np.asarray(part) for part in (batches[0] if kind == "PyDataset" else next(iter(batches))))
    plain = training_batches(data.train_source, recipe, 0, 1, task_of(recipe, 4), weighting=Weighting(recipe))
    same, shares, once = (np.asarray(part) for part in (plain[0] if kind == "PyDataset" else next(iter(plain))))
    np.testing.assert_array_equal(mixed, same)
    hard = (targets - 0.025) / 0.9  # before smoothing: shares of w * class weight
    np.testing.assert_allclose(hard.sum(1)[found > 0], 1, atol=1e-5)
    own = (shares - 0.025) / 0.9 * once[:, None]  # lam * w, by class
    np.testing.assert_allclose(found, own @ np.array([1, 2, 1, 1]), atol=1e-4)
    assert 0 <= found.min() < found.max() <= 6 + 1e-4


def test_classes_of_pixels_weigh():
    images, _ = example(8)
    masks = np.random.default_rng(1).integers(0, 4, (8, 4, 4)).astype(np.uint8)
    masks[:, 0, 0] = 255
    bundle = as_bundle(MASKS, (images, masks, np.arange(8.0)), validation_data=(images, masks))
    weighting = Weighting(MASKS, class_table({2: 5.0}, tuple("0123"), MASKS))
    recipe = dataclasses.replace(MASKS, batch_size=6)
    batches = training_batches(bundle.train_source, recipe, 0, 1, task_of(MASKS, 4), weighting=weighting)
    shown, found, weights = (np.asarray(part) for part in next(iter(batches)))
    rows = [int(np.flatnonzero((images == image).all((1, 2, 3)))[0]) for image in shown]
    expected = np.where(found == 2, 5.0, 1.0) * np.array(rows, np.float32)[:, None, None]
    np.testing.assert_allclose(weights, expected)


@pytest.mark.parametrize(
    ("weights", "classes", "message"),
    [
        (np.ones(3), None, r"Weights must be numbers \(N,\), one per image; class_weight weights the pixels"),
        (np.full(48, -1.0), None, "finite and 0 or more. Received: data with -1.0 for image 0"),
        (np.where(np.arange(48) == 7, np.nan, 1), None, "finite and 0 or more. Received: data with nan for image 7"),
        (np.zeros(48), None, "A weight must be above 0"),
        (None, {4: 1.0}, r"numbers in \[0, 4\), or class names, to weights .*Received: 4: 1.0"),
        (None, {"cat": 1.0}, "Received: 'cat': 1.0"),
        (None, {0: -1.0}, "Received: 0: -1.0"),
        (None, [1, 2, 3, 4], "class_weight must map classes to weights"),
        (None, dict.fromkeys(range(4), 0), "A class must have a weight above 0"),
    ],
)
def test_weights_that_are_none(weights, classes, message):
    parts = example() if weights is None else (*example(), weights)
    with pytest.raises(ValueError, match=message):
        run(parts, class_weight=classes)


@pytest.mark.slow
def test_a_run_knows_its_class_weights(tmp_path):
    run(example(), out=tmp_path, class_weight={0: 2})
    assert run(example(), out=tmp_path, class_weight={0: 2.0}).resumed_epochs == 2
    with pytest.raises(ValueError, match=r"trained with another class_weight.*Received: class_weight=None \(there"):
        run(example(), out=tmp_path)


def test_the_gate_takes_arrays_of_no_kind():
    with pytest.raises(ValueError, match="Batches must be"):
        Gate(RECIPE).check_arrays((example()[0],))
    with pytest.raises(ValueError, match="must contain images"):
        Gate(RECIPE).check_arrays((np.zeros((0, *SHAPE)), np.zeros(0, int)))
