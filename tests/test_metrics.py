"""IoU, PSNR and SSIM against independent computations."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import jaccard_score

from wavemix_tf.metrics import (
    LumaPSNR,
    class_iou,
    confusion_matrix,
    mean_iou,
    official_psnr_y,
    psnr_y,
    ssim_y,
    studio_luma,
)


def test_iou_is_sklearns_jaccard_of_all_pixels_together(rng):
    labels, predicted = rng.integers(0, 5, (3, 9, 7)), rng.integers(0, 5, (3, 9, 7))
    labels[0, :4] = 255
    total = sum(confusion_matrix(a, b, 5, ignore_index=255) for a, b in zip(labels, predicted, strict=True))
    kept = labels != 255
    expected = jaccard_score(labels[kept], predicted[kept], average=None)
    np.testing.assert_allclose(class_iou(total), expected, rtol=1e-12)
    assert mean_iou(total) == pytest.approx(expected.mean())
    # The mean of the images' IoUs differs, otherwise this test could not distinguish them.
    own = [mean_iou(confusion_matrix(a, b, 5, ignore_index=255)) for a, b in zip(labels, predicted, strict=True)]
    assert abs(np.mean(own) - expected.mean()) > 1e-3


def test_a_class_that_nobody_saw_is_left_out():
    total = confusion_matrix([0, 0, 1], [0, 1, 1], 3)
    np.testing.assert_allclose(class_iou(total), [0.5, 0.5, np.nan])
    assert mean_iou(total) == 0.5
    assert np.isnan(mean_iou(confusion_matrix([], [], 2)))


def test_numbers_without_a_class_are_refused():
    with pytest.raises(ValueError, match=r"Classes must be in \[0, 3\). Received: labels from 0 to 7"):
        confusion_matrix([0, 7], [0, 1], 3)


@pytest.fixture
def images(rng):
    truth = rng.integers(0, 256, (40, 33, 3)).astype(np.uint8)
    found = np.clip(truth + rng.normal(0, 9, truth.shape), 0, 255).astype(np.uint8)
    return found, truth


def test_psnr_and_ssim_are_tensorflows_on_the_shaved_luma(images):
    found, truth = (studio_luma(image)[2:-2, 2:-2, None] for image in images)
    assert psnr_y(*images, shave=2) == pytest.approx(float(tf.image.psnr(found, truth, 255.0)), abs=1e-4)
    assert ssim_y(*images, shave=2) == pytest.approx(float(tf.image.ssim(found, truth, 255.0)), abs=1e-5)
    assert psnr_y(*images, shave=0) != pytest.approx(psnr_y(*images, shave=2), abs=1e-3)


def test_luma_is_bt601_in_the_studio_range():
    shades = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.uint8)
    np.testing.assert_allclose(studio_luma(shades), [[16, 235, 81.481]], atol=1e-9)


def test_equal_images_have_no_error(images):
    assert psnr_y(images[1], images[1], 2) == official_psnr_y(images[1], images[1]) == 100
    assert ssim_y(images[1], images[1], 2) == pytest.approx(1.0)


def test_the_official_figure_is_another_one(images):
    found, truth = (np.asarray(image / 255.0) @ [0.299, 0.587, 0.114] for image in images)
    expected = 10 * np.log10(truth.max() ** 2 / np.mean((found - truth) ** 2))
    assert official_psnr_y(*images) == pytest.approx(expected)
    assert abs(expected - psnr_y(*images, shave=2)) > 0.5


def test_small_images_have_no_ssim():
    with pytest.raises(ValueError, match=r"at least 11 pixels per side. Received: \(8, 8\)"):
        ssim_y(np.zeros((12, 12, 3)), np.zeros((12, 12, 3)), shave=2)


def test_keras_metric_is_the_mean_of_the_images(images, rng):
    truth = np.stack([images[1], images[1][::-1]]) / np.float32(255)
    found = np.stack([images[0], images[0][::-1] // 2]) / np.float32(255)
    metric = LumaPSNR(shave=2)
    metric.update_state(truth[:1], found[:1])
    metric.update_state(truth[1:], found[1:])
    expected = np.mean([psnr_y(a, b, 2) for a, b in zip(found, truth, strict=True)])
    assert float(metric.result()) == pytest.approx(expected, abs=0.01)
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (again.shave, again.name) == (2, "psnr_y")
