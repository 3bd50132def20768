"""Augmentation: Keras's layers with stateless seeds."""

import dataclasses

import keras
import numpy as np
import pytest

from wavemix_tf.training import Recipe
from wavemix_tf.training.augment import Augmenter, BatchSeed, Policy
from wavemix_tf.training.data.sources import ArraySource
from wavemix_tf.training.fitting.epoch_batches import training_batches
from wavemix_tf.training.tasks import task_of

PLAIN = Recipe(name="plain", dataset="digits", image_shape=(12, 12, 3), batch_size=16)


def images(count=16, shape=(12, 12, 3)):
    generator = np.random.default_rng(0)
    # Never black, so that the black border of moved images is visible.
    return (0.2 + 0.8 * generator.random((count, *shape))).astype("float32")


def augment(seed=(0, 0, 0), batch=None, **fields):
    recipe = dataclasses.replace(PLAIN, **fields)
    batch = images() if batch is None else batch
    labels = np.eye(8, dtype="float32")[np.arange(len(batch)) % 8]
    ours, theirs = Augmenter(recipe)(
        keras.ops.convert_to_tensor(batch), keras.ops.convert_to_tensor(labels), BatchSeed(*seed)
    )
    return np.asarray(ours), np.asarray(theirs)


def test_nothing_asked_nothing_done():
    ours, labels = augment()
    np.testing.assert_array_equal(ours, images())
    np.testing.assert_array_equal(labels.sum(1), 1)


def test_flip():
    ours, _ = augment(flip=True)
    flipped = np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(ours, images(), strict=True)])
    same = np.array([np.array_equal(a, b) for a, b in zip(ours, images(), strict=True)])
    assert (flipped ^ same).all()
    assert 2 < flipped.sum() < 14


def test_shift_is_pad_and_crop_by_whole_pixels():
    ours, _ = augment(shift=2)
    padded = np.pad(images(), ((0, 0), (2, 2), (2, 2), (0, 0)))
    offsets = set()
    for index, image in enumerate(ours):
        fitting = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if np.array_equal(image, padded[index, top : top + 12, left : left + 12])
        ]
        assert len(fitting) == 1
        offsets.add(fitting[0])
    assert len(offsets) > 5


@pytest.mark.parametrize("fields", [{"rotation": 20.0}, {"zoom": 0.3}, {"crop_area": 0.3}, {"erase": 0.3}])
def test_images_change_and_stay_in_range(fields):
    ours, labels = augment(**fields)
    assert np.isfinite(ours).all()
    assert ours.min() >= 0
    assert ours.max() <= 1
    assert (np.abs(ours - images()).mean((1, 2, 3)) > 0).sum() >= (4 if "erase" in fields else 12)
    np.testing.assert_array_equal(labels.argmax(1), np.arange(16) % 8)
    # Rows differ: each image has its own draw.
    same = augment(batch=np.repeat(images(1), 16, 0), **fields)[0]
    assert len({image.tobytes() for image in same}) > (4 if "erase" in fields else 12)


def test_whole_crop_is_the_image():
    np.testing.assert_allclose(augment(crop_area=1.0)[0].shape, images().shape)


def test_mixup_mixes_images_and_labels_alike():
    plain = np.arange(8, dtype="float32")[:, None, None, None] / 8 + np.zeros((8, 12, 12, 3), "float32")
    ours, labels = augment(batch=plain, mixup=0.5)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    # The image's brightness is its class / 8, so the label determines the expected mixture.
    np.testing.assert_allclose(ours[:, 0, 0, 0], labels @ (np.arange(8) / 8), atol=1e-5)
    assert (labels.max(1) < 0.99).any()


def test_cutmix_cuts_images_and_labels_alike():
    plain = np.arange(8, dtype="float32")[:, None, None, None] / 8 + np.zeros((8, 12, 12, 3), "float32")
    ours, labels = augment(batch=plain, cutmix=1.0)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    assert set(np.round(ours * 8).ravel()) <= set(range(8))
    np.testing.assert_allclose(ours.mean((1, 2, 3)), labels @ (np.arange(8) / 8), atol=0.1)


def test_mixup_and_cutmix_take_turns():
    kinds = set()
    for batch in range(12):
        ours, _ = augment(seed=(0, 0, batch), mixup=1.0, cutmix=1.0)
        originals = set(images().ravel())
        kinds.add("cut" if set(ours.ravel()) <= originals else "mix")
    assert kinds == {"cut", "mix"}


@pytest.mark.parametrize("policy", ["trivial_augment", "rand_augment"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.slow
def test_policies_draw_for_each_image(policy, channels):
    batch = np.repeat(images(1, (12, 12, channels)), 64, 0)
    ours, _ = augment(batch=batch, policy=policy, image_shape=(12, 12, channels))
    assert ours.shape == batch.shape
    assert np.isfinite(ours).all()
    assert ours.min() >= 0
    assert ours.max() <= 1
    assert len({image.tobytes() for image in ours}) > 30


def test_equalization_takes_each_image_by_itself():
    recipe = dataclasses.replace(PLAIN, policy="trivial_augment")
    policy = Policy(recipe, "tensorflow")
    equalize = next(op for op in policy.operations if isinstance(op, keras.layers.Equalization))
    dark_and_light = keras.ops.convert_to_tensor(np.stack([images(1)[0] / 8, 0.5 + images(1)[0] / 2]))
    ours = np.asarray(policy._one(equalize, BatchSeed(0, 0, 0))(dark_and_light))
    np.testing.assert_allclose(ours.min((1, 2, 3)), 0, atol=0.01)
    np.testing.assert_allclose(ours.max((1, 2, 3)), 1, atol=0.01)


def test_draws_depend_on_every_part_of_the_seed_and_on_nothing_else():
    keras.utils.set_random_seed(1)
    first = augment((0, 1, 2), flip=True, shift=2, mixup=0.2)[0]
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(first, augment((0, 1, 2), flip=True, shift=2, mixup=0.2)[0])
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3), (0, 2, 1)):
        assert not np.array_equal(first, augment(other, flip=True, shift=2, mixup=0.2)[0])


def test_in_a_pipeline_as_eagerly():
    batch = (images(16) * 255).astype(np.uint8)
    labels = np.arange(16) % 8
    recipe = dataclasses.replace(PLAIN, shift=2, mixup=0.2, label_smoothing=0.1, seed=4, policy="trivial_augment")
    source = ArraySource(batch, labels)
    ((ours, ours_labels),) = training_batches(source, recipe, 3, 4, task_of(recipe, 8))
    order = np.random.default_rng([4, 3]).permutation(16)
    targets = keras.ops.convert_to_tensor(np.eye(8, dtype="float32")[labels[order]])
    floats = keras.ops.convert_to_tensor(batch[order].astype("float32") / 255)
    theirs, their_labels = Augmenter(recipe)(floats, targets, BatchSeed(4, 3, 0))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(ours_labels, np.asarray(their_labels) * 0.9 + 0.1 / 8, atol=1e-5)
