"""The recipes of super-resolution: your own images, and DIV2K."""

from ..recipe import Recipe


def super_resolution_x2() -> Recipe:
    """Enlarge your own images by 2, with a network of 43,053 parameters that a CPU trains in a quarter of an hour.

    PHOTOS holds images, or train/, val/ and test/ with images. The small versions are made by bicubic reduction. The
    test uses whole images and the usual protocol.

    Command: wavemix-tf run super_resolution_x2 --data PHOTOS
    Measured: trained on the 367 training images of CamVid (JPEG, 360x480), chosen on its 101 validation images; the
    test images of Set5 34.38 dB float and 33.71 dB int8 (android-cpu), bicubic interpolation 33.67; those of Set14
    31.10 and 30.69, bicubic 30.32 (`benchmarks/super_resolution.py`); 40 epochs and 12 of fine-tuning, 20 minutes on
    two shared cores, seed 0. Four epochs of fine-tuning at 2e-4 gave 31.24 instead of 31.34 dB on validation, and less
    than bicubic (33.61) on Set5.
    """
    return Recipe(
        name="super_resolution_x2",
        dataset="folder",
        task="super_resolution",
        image_shape=(48, 48, 3),
        scale=2,
        patches=8,
        model_args=dict(width=24, depth=3, expansion=2, dropout=0.0),
        calibration_images=64,
        batch_size=16,
        epochs=40,
        learning_rate=3e-3,
        warmup_epochs=1,
        weight_decay=0.0,
        ema=0.995,
        flip=True,
        qat_epochs=12,
        qat_learning_rate=1.5e-3,
    )


def div2k() -> Recipe:
    """DIV2K, 800 photographs two thousand pixels wide, enlarged by 2 by the published WaveMixSR 144/4.

    Command: wavemix-tf run div2k --set download=true
    Not measured here: a day on a GPU, 10 GB of memory. The official README reports 33.08 dB on BSD100, by another
    protocol (see docs/tasks.md).
    """
    return Recipe(
        name="div2k",
        dataset="div2k/bicubic_x2",
        task="super_resolution",
        image_shape=(64, 64, 3),
        scale=2,
        patches=32,
        test_split="validation",
        validation_fraction=0.02,
        model="wavemixsr_144_4",
        model_args=dict(dropout=0.0),
        batch_size=32,
        epochs=100,
        learning_rate=1e-3,
        weight_decay=0.0,
        ema=0.999,
        flip=True,
    )
