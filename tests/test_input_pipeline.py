"""The input pipeline computes what its plain forms compute, and reads ArrayRecord as TFRecord."""

import dataclasses
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from wavemix_tf.training import Recipe, load_data
from wavemix_tf.training.augment import BatchSeed, Policy
from wavemix_tf.training.fitting.epoch_batches import training_batches
from wavemix_tf.training.images import fit_image
from wavemix_tf.training.tasks import task_of

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
requires_checkout = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="runs in a checkout")


def test_resizing_in_two_calls_is_that_of_one():
    import tensorflow as tf

    generator = np.random.default_rng(0)
    sizes = [tuple(map(int, generator.integers(1, 70, 4))) for _ in range(12)] + [(64, 48, 48, 64), (9, 9, 9, 30)]
    for height, width, *wanted in sizes:
        for channels in (1, 3):
            image = tf.constant(generator.integers(0, 256, (height, width, channels)).astype(np.uint8))
            plain = tf.image.resize(image, wanted, antialias=True)
            expected = np.clip(np.round(plain), 0, 255).astype(np.uint8)
            np.testing.assert_array_equal(fit_image(image, (*wanted, channels)), expected)
    # Of unknown size in a pipeline, and already of the right one.
    image = generator.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    unknown = tf.data.Dataset.from_generator(lambda: [image], output_signature=tf.TensorSpec([None, None, 3], tf.uint8))
    for wanted in ((20, 30), (11, 40)):
        found = next(iter(unknown.map(lambda x, wanted=wanted: fit_image(x, (*wanted, 3)))))
        np.testing.assert_array_equal(found, fit_image(tf.constant(image), (*wanted, 3)))
    np.testing.assert_array_equal(fit_image(tf.constant(image), image.shape), image)


def test_a_policy_computes_each_operation_on_the_images_that_drew_it():
    """Against the plain form: each operation in turn writes its images into the batch."""
    recipe = Recipe(name="p", dataset="digits", image_shape=(16, 16, 3), policy="rand_augment")
    policy, seed = Policy(recipe, "tensorflow"), BatchSeed(3, 1, 2)
    images = np.random.default_rng(0).random((40, 16, 16, 3)).astype(np.float32)
    expected = images
    for draw in range(policy.draws):
        branch = seed.branch(draw)
        choice = np.asarray(branch.uniform((40,), 0.0, float(len(policy.operations)))).astype(int)
        assert len(set(choice)) > 10
        found = expected.copy()
        for index, operation in enumerate(policy.operations):
            rows = np.flatnonzero(choice == index)
            if operation is not None and len(rows):
                compute = policy._one(operation, branch.branch(index))
                found[rows] = compute(keras.ops.convert_to_tensor(expected[rows]))
        expected = found
    np.testing.assert_array_equal(policy(keras.ops.convert_to_tensor(images), seed), expected)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A folder of 60 JPEG pictures, and the TFDS datasets of both formats."""
    import input_pictures

    folder = tmp_path_factory.mktemp("pictures") / "all"
    assert input_pictures.make(folder, 60, 16)["count"] == 60
    return folder


def recipe_of(folder, source):
    import input_worker

    arguments = {"source": source, "pictures": str(folder), "side": 12, "batch": 8}
    return dataclasses.replace(input_worker.our_recipe(arguments), policy=None, mixup=0.0)


@requires_checkout
@pytest.mark.slow
def test_array_record_has_the_images_of_tfrecord(stores):
    found = {}
    for source in ("tfrecord", "array_record"):
        data = load_data(recipe_of(stores, source))
        assert (data.train_source.size, data.test_source.size) == (54, 10)
        images, labels = data.train_source.arrays()
        batches = [np.asarray(part) for part, _ in data.train_source.batches(7)]
        np.testing.assert_array_equal(np.concatenate(batches), images / np.float32(255))
        found[source] = {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
        assert len(found[source]) == 54
        some, _ = data.train_source.sample(5)
        assert {image.tobytes() for image in some} <= {image for image, _ in found[source]}
    whole = [load_data(dataclasses.replace(recipe_of(stores, name), in_memory=True)) for name in found]
    everything = [
        {
            (image.tobytes(), int(label))
            for source in (data.train_source, data.validation_source)
            for image, label in zip(source.images, source.labels, strict=True)
        }
        for data in whole
    ]
    assert len(everything[0]) == 60
    assert everything[0] == everything[1]


@requires_checkout
@pytest.mark.slow
def test_an_epoch_of_array_record_is_a_permutation(stores):
    recipe = recipe_of(stores, "array_record")
    data = load_data(recipe)

    def epoch(number):
        batches = training_batches(data.train_source, recipe, number, number + 1, task_of(recipe, 10))
        return [image.tobytes() for images, _ in batches for image in np.asarray(images)]

    first = epoch(0)
    assert len(set(first)) == len(first) == 54 // 8 * 8
    assert epoch(0) == first
    assert epoch(1) != first
    assert first != [image.tobytes() for images, _ in data.train_source.batches(8) for image in np.asarray(images)][:48]


@requires_checkout
def test_the_pictures_are_the_same_in_every_call(tmp_path):
    import input_pictures

    assert input_pictures.encoded(16, 3) == input_pictures.encoded(16, 3) != input_pictures.encoded(16, 4)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"must be empty, or one that this script finished"):
        input_pictures.make(tmp_path, 4, 16)
    assert (tmp_path / "mine.txt").is_file()


@requires_checkout
@pytest.mark.slow
@pytest.mark.parametrize("source", ["folder", "tfrecord", "array_record"])
def test_a_hand_written_pipeline_gives_the_batches_that_ours_gives(stores, source):
    """Shape, dtype, range and labels that sum to 1; without augmentation, the same pictures."""
    import input_peers
    import input_worker

    arguments = {"source": source, "pictures": str(stores), "side": 12, "batch": 8, "keras": False, "threads": 2}
    for batches in (input_worker.ours(arguments)(), input_peers.hand_written(arguments)):
        images, labels = map(np.asarray, next(batches))
        assert images.shape == (8, 12, 12, 3)
        assert images.dtype == labels.dtype == np.float32
        assert images.min() >= 0
        assert 0.2 < images.max() <= 1
        np.testing.assert_allclose(labels.sum(1), 1, atol=1e-5)
