"""The recipes of EMNIST."""

from ..recipe import Recipe


def emnist_balanced() -> Recipe:
    """EMNIST balanced, 47 letters and digits (WaveMix-Lite 128/7 in the paper: 91.06 %).

    Command: wavemix-tf run emnist_balanced --set download=true
    Not measured here: hours on a GPU.
    """
    return Recipe(
        name="emnist_balanced",
        dataset="emnist/balanced",
        image_shape=(28, 28, 1),
        num_classes=47,
        model="wavemix_lite_128_7",
        calibration_images=512,
        batch_size=256,
        epochs=60,
        warmup_epochs=2,
        label_smoothing=0.05,
        ema=0.999,
        shift=2,
        rotation=8,
    )


def emnist_byclass() -> Recipe:
    """EMNIST by class, 814,255 scans of 62 letters and digits.

    Command: wavemix-tf run emnist_byclass --set download=true
    Not measured here: hours on a GPU.
    """
    return Recipe(
        name="emnist_byclass",
        dataset="emnist/byclass",
        image_shape=(28, 28, 1),
        num_classes=62,
        model="wavemix_lite_128_7",
        validation_fraction=0.05,
        calibration_images=512,
        batch_size=256,
        epochs=20,
        label_smoothing=0.05,
        ema=0.999,
        shift=2,
        rotation=8,
    )
