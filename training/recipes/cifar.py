"""The recipes of CIFAR-10 and CIFAR-100."""

from ..recipe import Recipe


def cifar10() -> Recipe:
    """CIFAR-10 with 37,058 parameters (official README: 80 %).

    Command: wavemix-tf run cifar10
    Measured: 80.58 % float and 81.89 % int8 (android-cpu) on the 10,000 test images, mcu under TensorFlow Lite Micro
    82.50 % of a sample of 2,308; 20 epochs, of which the 19th was kept, and 1 of fine-tuning, which gains a point; 34
    minutes on two shared cores, seed 0. 30 epochs gave 82.62 % float.
    """
    return Recipe(
        name="cifar10",
        dataset="cifar10",
        image_shape=(32, 32, 3),
        num_classes=10,
        model="wavemix_lite_32_7_up",
        model_args=dict(dropout=0.0),
        calibration_images=512,
        batch_size=64,
        epochs=20,
        learning_rate=1e-2,
        warmup_epochs=2,
        weight_decay=5e-3,
        ema=0.998,
        flip=True,
        shift=4,
        qat_epochs=1,
    )


def cifar10_tiny() -> Recipe:
    """CIFAR-10 within the budget of MLPerf Tiny's ResNet-8 (77 KiB, 12.5M products, 85.6 %): 77,282 parameters.

    Command: wavemix-tf run cifar10_tiny
    Measured: 84.99 % float and 86.09 % int8 (android-cpu, 96.1 KiB; mcu under TensorFlow Lite Micro: 85.95 %, arena
    30.0 KiB) on the 10,000 test images; 80 epochs, of which the 50th was kept, and 6 of fine-tuning, which gain a
    point; 80 minutes on two shared cores, seed 0. On the training images it reached 92 %: stronger augmentation was not
    tried.
    The preset "staged_24_46_cifar10" has these weights.
    """
    return Recipe(
        name="cifar10_tiny",
        dataset="cifar10",
        image_shape=(32, 32, 3),
        num_classes=10,
        model="StagedClassifier",
        model_args=dict(mixer="resnet", widths=(24, 46), depths=(3, 1)),
        calibration_images=512,
        batch_size=128,
        epochs=80,
        learning_rate=8e-3,
        warmup_epochs=3,
        weight_decay=1e-2,
        ema=0.999,
        flip=True,
        shift=4,
        qat_epochs=6,
    )


def cifar10_official() -> Recipe:
    """CIFAR-10 with 3,042,550 parameters by the official schedule: AdamW, then SGD (official weights: 94.58 %).

    Each optimizer runs at a constant rate until 20 epochs bring no gain on the validation images. SGD starts from
    AdamW's best weights. Unlike in the official script, the test images select nothing, and SGD does run.

    Command: wavemix-tf run cifar10_official
    Not measured here: hours on a GPU.
    """
    return Recipe(
        name="cifar10_official",
        dataset="cifar10",
        image_shape=(32, 32, 3),
        num_classes=10,
        model="wavemix_lite_144_7",
        calibration_images=512,
        batch_size=512,
        epochs=300,
        optimizer="adamw_then_sgd",
        learning_rate=1e-3,
        sgd_learning_rate=1e-3,
        cosine=False,
        warmup_epochs=0,
        patience=20,
        flip=True,
        policy="trivial_augment",
    )


def cifar100() -> Recipe:
    """CIFAR-100 with 10.95 million parameters (official README: 77.82 %).

    Command: wavemix-tf run cifar100 --set download=true
    Not measured here: hours on a GPU.
    """
    return Recipe(
        name="cifar100",
        dataset="cifar100",
        image_shape=(32, 32, 3),
        num_classes=100,
        model="wavemix_lite_256_8",
        calibration_images=512,
        batch_size=256,
        epochs=200,
        warmup_epochs=5,
        weight_decay=0.05,
        label_smoothing=0.1,
        ema=0.999,
        flip=True,
        shift=4,
        policy="trivial_augment",
        cutmix=1.0,
    )
