"""Metrics: IoU of a segmentation from one confusion matrix, PSNR and SSIM of an enlarged image's luma.

NumPy functions for evaluation, and a Keras metric for training.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from .keras_internals import set_larger_is_better
from .layers.imaging import LUMA

# ITU-R BT.601 in the studio range, as MATLAB's rgb2ycbcr: Y of RGB in [0, 1] is in [16, 235].
STUDIO_LUMA = (65.481, 128.553, 24.966)
STUDIO_BLACK = 16.0
MOST_DB = 100.0  # for equal images, whose PSNR would be infinite
# Wang, Bovik, Sheikh & Simoncelli, "Image quality assessment" (2004).
SSIM_WINDOW, SSIM_SIGMA, SSIM_K1, SSIM_K2 = 11, 1.5, 0.01, 0.03


def confusion_matrix(labels: Any, predicted: Any, num_classes: int, ignore_index: int | None = None) -> np.ndarray:
    """Count pixels (or images) per pair of classes; row: true class, column: predicted class.

    Args:
        labels: Integers of any shape. Values equal to ``ignore_index`` are not counted.
        predicted: Integers of the same shape in [0, num_classes).
        num_classes: K.
        ignore_index: Value of pixels without a class.

    Returns:
        int64 (K, K). The matrix of a set is the sum of the matrices of its images.

    Raises:
        ValueError: A label or prediction outside [0, K).
    """
    labels, predicted = np.asarray(labels).reshape(-1).astype(np.int64), np.asarray(predicted).reshape(-1)
    if ignore_index is not None:
        kept = labels != ignore_index
        labels, predicted = labels[kept], predicted[kept]
    for name, values in (("labels", labels), ("predicted", predicted)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(
                f"Classes must be in [0, {num_classes}). Received: {name} from {values.min()} to {values.max()}"
            )
    counts = np.bincount(labels * num_classes + predicted.astype(np.int64), minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class: true positives / (true positives + false positives + false negatives).

    Args:
        confusion: (K, K) counts of the whole set; a mean of per-image IoUs is another quantity.

    Returns:
        float64 (K,); NaN for a class that neither occurs nor is predicted, which ``mean_iou`` skips.
    """
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean of ``class_iou`` over the classes that occur or are predicted; NaN if there are none."""
    found = class_iou(confusion)
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")


def precision_recall_f1(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class.

    Args:
        confusion: (K, K) counts of the whole set; row: true class, column: predicted class.

    Returns:
        float64 (K,) each. NaN where nothing can be counted: the precision of a class that is never predicted, the
        recall of a class that does not occur, the F1 of a class that is neither.
    """
    hits = np.diag(confusion).astype(np.float64)
    predicted, actual = confusion.sum(0), confusion.sum(1)

    def share(of: np.ndarray) -> np.ndarray:
        return np.divide(hits, of, out=np.full(len(hits), np.nan), where=of > 0)

    return share(predicted), share(actual), share((predicted + actual) / 2)  # F1 = 2 TP / (2 TP + FP + FN)


def psnr_y(image: np.ndarray, truth: np.ndarray, shave: int) -> float:
    """PSNR of the luma in dB by the usual protocol of super-resolution: BT.601 studio range, border shaved, peak 255.

    Args:
        image: RGB (H, W, 3), uint8 or floating point in [0, 1]; the latter is rounded to 256 levels.
        truth: RGB, as ``image``.
        shave: Pixels removed on every side; published tables use the scale.

    Returns:
        Decibels, at most 100.
    """
    error = _shaved(studio_luma(image), shave) - _shaved(studio_luma(truth), shave)
    return _decibels(255.0, float(np.mean(np.square(error))))


def ssim_y(image: np.ndarray, truth: np.ndarray, shave: int) -> float:
    """SSIM of the luma (Wang et al. 2004: 11x11 Gaussian of sigma 1.5, no padding), otherwise as ``psnr_y``."""
    x, y = _shaved(studio_luma(image), shave), _shaved(studio_luma(truth), shave)
    if min(x.shape) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW} pixels per side. Received: {x.shape}, shaved")
    c1, c2 = (SSIM_K1 * 255) ** 2, (SSIM_K2 * 255) ** 2
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float(np.mean(luminance * (2 * covariance + c2) / (var_x + var_y + c2)))


def official_psnr_y(image: np.ndarray, truth: np.ndarray) -> float:
    """PSNR in dB as in the official WaveMixSR scripts, which differs from the usual protocol.

    Full-range luma, neither rounded nor shaved; the peak is the largest luma of the truth
    (``torchmetrics.PeakSignalNoiseRatio()`` without a data range).

    Args:
        image: RGB (H, W, 3), uint8 or floating point in [0, 1].
        truth: RGB, as ``image``.
    """
    x, y = (np.asarray(_unit(part), np.float64) @ LUMA for part in (image, truth))
    return _decibels(float(y.max()), float(np.mean(np.square(x - y))))


def _decibels(peak: float, mse: float) -> float:
    """Return the PSNR; 0 for a black truth, whose peak is 0."""
    if mse == 0:
        return MOST_DB
    return 0.0 if peak == 0 else min(float(10 * np.log10(peak**2 / mse)), MOST_DB)


def studio_luma(image: np.ndarray) -> np.ndarray:
    """Y of BT.601's studio range, (H, W, 3) -> float64 (H, W) in [16, 235]."""
    rounded = np.clip(np.round(_unit(image) * 255.0), 0, 255) / 255.0
    return rounded @ np.array(STUDIO_LUMA) + STUDIO_BLACK


def _unit(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    return image / 255.0 if image.dtype == np.uint8 else image.astype(np.float64)


def _shaved(plane: np.ndarray, shave: int) -> np.ndarray:
    return plane[shave : plane.shape[0] - shave, shave : plane.shape[1] - shave]


def _blurred(plane: np.ndarray) -> np.ndarray:
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    taps = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    taps /= taps.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(plane, SSIM_WINDOW, axis=axis)
        plane = windows @ taps
    return plane


@keras.saving.register_keras_serializable(package="wavemix_tf")
class LumaPSNR(keras.metrics.Mean):
    """Mean luma PSNR over images in dB, as ``psnr_y`` but without rounding to 256 levels.

    Args:
        shave: Pixels removed on every side.

    Input shape:
        ``y_true`` and ``y_pred`` RGB (B, H, W, 3), in [0, 1]; the latter is clipped to it.
    """

    def __init__(self, shave: int = 0, name: str = "psnr_y", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.shave = shave
        set_larger_is_better(self)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        y_true, y_pred = ops.cast(y_true, "float32"), ops.clip(ops.cast(y_pred, "float32"), 0.0, 1.0)
        error = y_pred - y_true
        if self.shave:
            error = error[:, self.shave : -self.shave, self.shave : -self.shave]
        luma = ops.sum(error * ops.convert_to_tensor(STUDIO_LUMA, "float32"), axis=-1)
        mse = ops.maximum(ops.mean(ops.square(luma), axis=(1, 2)), 255.0**2 / 10 ** (MOST_DB / 10))
        return super().update_state(10.0 * ops.log(255.0**2 / mse) / np.log(10.0), sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shave": self.shave}
