"""The named recipes: each shows only its differences from `Recipe`'s defaults, and says command, cost and result.

Add one: write a function whose docstring says what was run and measured, and list it in ``RECIPES``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType

from .recipe import Recipe


def digits() -> Recipe:
    """scikit-learn's 1,797 scans of handwritten digits, 8x8 grey; embedded, no download.

    Command: wavemix-tf run digits
    Measured: float 99.7, 99.2 and 98.9 %, int8 (android-cpu and mcu alike) 99.2, 98.6 and 99.4 % of the 360 test images
    with seeds 0, 1, 2 (--set seed=N); 40 epochs and 8 of fine-tuning; all of it 1.7 minutes on two quiet cores and
    1.0 GiB of memory; 22,554 parameters.
    """
    return Recipe(
        name="digits",
        dataset="digits",
        image_shape=(8, 8, 1),
        num_classes=10,
        model_args=dict(width=16, depth=4, dropout=0.0, upsample="deconv"),
        calibration_images=100,
        batch_size=32,
        epochs=40,
        learning_rate=5e-3,
        warmup_epochs=2,
        weight_decay=0.02,
        label_smoothing=0.05,
        ema=0.99,
        shift=1,
        rotation=8,
        qat_epochs=8,
        qat_learning_rate=2e-4,
    )


def mnist() -> Recipe:
    """MNIST with 3,566 parameters (official README: 99 %).

    Command: wavemix-tf run mnist
    Measured: 98.93 % float and 98.99 % int8 (android-cpu; mcu under TensorFlow Lite Micro: 98.97 %) on the 10,000 test
    images; 25 epochs, of which the 20th was kept, and 1 of fine-tuning, 21 minutes on two cores that other work shared,
    seed 0. The official README says 99 %.
    """
    return Recipe(
        name="mnist",
        dataset="mnist",
        image_shape=(28, 28, 1),
        num_classes=10,
        model="wavemix_lite_8_10_up",
        model_args=dict(dropout=0.0),
        calibration_images=512,
        epochs=25,
        learning_rate=1e-2,
        warmup_epochs=2,
        weight_decay=1e-3,
        ema=0.995,
        shift=2,
        rotation=8,
        qat_epochs=1,
    )


def fashion_mnist() -> Recipe:
    """Fashion-MNIST with 7,156 parameters (official README: 90 %).

    Command: wavemix-tf run fashion_mnist
    Measured: 90.02 % float and 89.68 % int8 (android-cpu; mcu under TensorFlow Lite Micro: 89.65 %) on the 10,000 test
    images; 35 epochs, of which the 29th was kept, and 1 of fine-tuning, 20 minutes on two cores that other work shared,
    seed 0.
    """
    return Recipe(
        name="fashion_mnist",
        dataset="fashion_mnist",
        image_shape=(28, 28, 1),
        num_classes=10,
        model="wavemix_lite_8_5",
        model_args=dict(dropout=0.0),
        calibration_images=512,
        epochs=35,
        learning_rate=8e-3,
        warmup_epochs=2,
        weight_decay=1e-3,
        ema=0.995,
        flip=True,
        shift=2,
        qat_epochs=1,
    )


def cifar10() -> Recipe:
    """CIFAR-10 with 37,058 parameters (official README: 80 %).

    Command: wavemix-tf run cifar10
    Measured: 80.58 % float and 81.89 % int8 (android-cpu) on the 10,000 test images, mcu under TensorFlow Lite Micro
    82.50 % of a sample of 2,308; 20 epochs, of which the 19th was kept, and 1 of fine-tuning, which gains a point; 34
    minutes on two cores that other work shared, seed 0. 30 epochs gave 82.62 % float.
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


def cifar10_official() -> Recipe:
    """CIFAR-10 with 3,042,550 parameters by the official schedule: AdamW, then SGD (saved weights there: 94.58 %).

    Each optimizer runs at a constant rate until 20 epochs bring no gain on validation images, and SGD begins from
    AdamW's best weights. Unlike the official script the test images choose nothing, and SGD does run.

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


def imagenet2012() -> Recipe:
    """ImageNet-1k at 224 pixels with 27.86 million parameters (official README: 75.06 %).

    TFDS reads the archives ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from DATA/downloads/manual. The
    official validation set is the test set here: the labels of the official test set are not public.

    Command: wavemix-tf run imagenet2012 --set data_dir=DATA --set download=true
    Not measured here: days on several GPUs.
    """
    return Recipe(
        name="imagenet2012",
        dataset="imagenet2012",
        image_shape=(224, 224, 3),
        num_classes=1000,
        test_split="validation",
        validation_fraction=0.01,
        calibration_images=1000,
        crop_to_aspect_ratio=True,
        in_memory=False,
        model="wavemix_192_16_l3_p4",
        model_args=dict(dropout=0.1),
        batch_size=512,
        epochs=200,
        warmup_epochs=5,
        weight_decay=0.05,
        clip_norm=1.0,
        label_smoothing=0.1,
        ema=0.9998,
        flip=True,
        crop_area=0.08,
        policy="trivial_augment",
        mixup=0.2,
        cutmix=1.0,
    )


def dynamixer_s() -> Recipe:
    """ImageNet-1k at 224 pixels with DynaMixer-S, 26.27 million parameters (arXiv 2201.12083: 82.7 %).

    The training command of the official README (eight GPUs with 256 images each) and the defaults of its script, the
    moving average among them. Four things are this package's: RandAugment's scale of strengths; erased rectangles, as
    large on average (there a quarter of the images, 2 to 33 % of the area, filled with noise); a rate that rises from
    and falls to 0 (there 1e-6 and 1e-5, and ten more epochs at that); the whole image in the test (there its middle
    90 %). DynaMixer-M had 1024 images a step, DynaMixer-L 512 and a stochastic depth of 0.3.

    TFDS reads the archives as for imagenet2012; the official validation set is the test set here.

    Command: wavemix-tf run dynamixer_s --set data_dir=DATA --set download=true
    Not measured here: days on several GPUs.
    """
    return Recipe(
        name="dynamixer_s",
        dataset="imagenet2012",
        image_shape=(224, 224, 3),
        num_classes=1000,
        test_split="validation",
        validation_fraction=0.01,
        calibration_images=1000,
        crop_to_aspect_ratio=True,
        in_memory=False,
        model="dynamixer_s",
        model_args=dict(stochastic_depth=0.1, normalize="imagenet"),
        dtype_policy="mixed_bfloat16",
        batch_size=2048,
        epochs=300,
        learning_rate=2e-3,
        warmup_epochs=20,
        weight_decay=0.05,
        ema=0.99996,
        label_smoothing=0.1,
        flip=True,
        crop_area=0.08,
        policy="rand_augment",
        mixup=0.8,
        cutmix=1.0,
        erase=0.18,
    )


def places365() -> Recipe:
    """Places365 at 256 pixels with 28.45 million parameters (official README: 54.94 %).

    The validation split is the test set here: the labels of the test split are not public.

    Command: wavemix-tf run places365 --set download=true
    Not measured here: days on several GPUs.
    """
    return Recipe(
        name="places365",
        dataset="places365_small",
        image_shape=(256, 256, 3),
        num_classes=365,
        test_split="validation",
        validation_fraction=0.01,
        calibration_images=1000,
        in_memory=False,
        model="wavemix_256_12_l2_p8",
        model_args=dict(dropout=0.1),
        batch_size=512,
        epochs=60,
        warmup_epochs=2,
        weight_decay=0.05,
        clip_norm=1.0,
        label_smoothing=0.1,
        ema=0.9998,
        flip=True,
        crop_area=0.25,
        policy="trivial_augment",
    )


def inat_mini() -> Recipe:
    """Recognise the 10,000 species of iNaturalist 2021 "mini", 500,000 photographs, from a folder.

    PHOTOS holds train/ and test/ (the competition's train_mini and val), each with one sub-folder a species.

    Command: wavemix-tf run inat_mini --set data_dir=PHOTOS
    Not measured here: days on several GPUs.
    """
    return Recipe(
        name="inat_mini",
        dataset="folder",
        image_shape=(224, 224, 3),
        num_classes=10_000,
        validation_fraction=0.02,
        calibration_images=1000,
        crop_to_aspect_ratio=True,
        in_memory=False,
        on_bad_image="error",
        model="wavemix_256_16_l4_s2",
        model_args=dict(dropout=0.1),
        batch_size=256,
        epochs=100,
        warmup_epochs=5,
        weight_decay=0.05,
        clip_norm=1.0,
        label_smoothing=0.1,
        ema=0.9998,
        flip=True,
        crop_area=0.2,
        policy="rand_augment",
    )


def tiny_imagenet() -> Recipe:
    """Tiny ImageNet, 100,000 images of 200 classes at 64 pixels, with 16.29 million parameters (README: 62.51 %).

    IMAGES holds train/ as it is in the archive, and test/: the archive's val/images sorted into one sub-folder a class
    by val_annotations.txt.

    Command: wavemix-tf run tiny_imagenet --set data_dir=IMAGES
    Not measured here: hours on a GPU.
    """
    return Recipe(
        name="tiny_imagenet",
        dataset="folder",
        image_shape=(64, 64, 3),
        num_classes=200,
        validation_fraction=0.05,
        calibration_images=1000,
        in_memory=True,
        model="wavemix_lite_256_12",
        batch_size=256,
        epochs=150,
        warmup_epochs=5,
        weight_decay=0.05,
        label_smoothing=0.1,
        ema=0.999,
        flip=True,
        shift=8,
        policy="trivial_augment",
        cutmix=1.0,
    )


def galaxy10() -> Recipe:
    """Galaxy10 DECaLS, 17,736 photographs of 10 shapes of galaxies (official README, 27.7 million parameters: 95.42 %).

    GALAXIES holds one sub-folder a class; a tenth of the images is the test set.

    Command: wavemix-tf run galaxy10 --set data_dir=GALAXIES
    Not measured here: hours on a GPU.
    """
    return Recipe(
        name="galaxy10",
        dataset="folder",
        image_shape=(256, 256, 3),
        num_classes=10,
        in_memory=False,
        model="wavemix_192_16_l3_p4",
        batch_size=64,
        epochs=100,
        warmup_epochs=5,
        weight_decay=0.05,
        label_smoothing=0.1,
        ema=0.999,
        flip=True,
        rotation=180,
        shift=12,
        zoom=0.1,
    )


def camvid() -> Recipe:
    """CamVid in 11 classes, 701 street scenes of 360x480, with 206,843 parameters: segmentation on a CPU.

    FOLDER holds train/ and trainannot/, val/ and valannot/, test/ and testannot/ (SegNet's copy of the data), in whose
    masks 11 is void.

    Command: wavemix-tf run camvid --data FOLDER
    Measured: mIoU of the 233 test images 40.47 % float and 40.91 % int8 (android-cpu), of the 101 validation images
    45.97 and 46.78 %; 50 epochs and 3 of fine-tuning, 37 minutes on two cores that other work shared, seed 0. Large
    classes are learnt (road 85 %, sky 90 %), thin and rare ones are not (pole 5 %, bicyclist 3 %).
    """
    return Recipe(
        name="camvid",
        dataset="folder",
        task="segmentation",
        image_shape=(360, 480, 3),
        num_classes=11,
        ignore_index=11,
        model_args=dict(width=32, depth=4, levels=3, dropout=0.0),
        calibration_images=32,
        batch_size=4,
        epochs=50,
        learning_rate=4e-3,
        warmup_epochs=2,
        weight_decay=0.05,
        ema=0.99,
        flip=True,
        smallest_scale=0.75,
        largest_scale=1.75,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        qat_epochs=3,
    )


def cityscapes() -> Recipe:
    """Cityscapes in 19 classes at 512x1024 with 28.19 million parameters (the official model of "83.04 mIoU").

    That figure is no mean IoU as the field counts it: the official script compares class numbers bit by bit, counts the
    void pixels and averages over images. Here it is one confusion matrix over the set, void ignored.

    TFDS reads the archives leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, which cityscapes-dataset.com gives
    to who registers, from DATA/downloads/manual. The validation split is the test set here: the test labels are not
    public.

    Command: wavemix-tf run cityscapes --set data_dir=DATA --set download=true
    Not measured here: days on several GPUs.
    """
    return Recipe(
        name="cityscapes",
        dataset="cityscapes",
        task="segmentation",
        image_shape=(512, 1024, 3),
        num_classes=19,
        ignore_index=255,
        test_split="validation",
        validation_fraction=0.05,
        calibration_images=64,
        in_memory=False,
        shuffle_buffer=512,
        model="wavemix_seg_192_16_l3",
        batch_size=8,
        epochs=160,
        learning_rate=5e-4,
        warmup_epochs=4,
        weight_decay=0.05,
        clip_norm=1.0,
        ema=0.999,
        flip=True,
        smallest_scale=0.5,
        largest_scale=2.0,
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        qat_epochs=2,
    )


def super_resolution_x2() -> Recipe:
    """Enlarge one's own images twice, with a network of 43,053 parameters that a CPU trains in a quarter of an hour.

    PHOTOS holds images, or train/, val/ and test/ of them. Small ones are made by bicubic reduction; the test is of
    whole images, by the field's protocol.

    Command: wavemix-tf run super_resolution_x2 --data PHOTOS
    Measured: trained on the 367 training images of CamVid (JPEG, 360x480), chosen on its 101 validation images; the
    test images of Set5 34.38 dB float and 33.71 dB int8 (android-cpu), bicubic interpolation 33.67; those of Set14
    31.10 and 30.69, bicubic 30.32 (`benchmarks/super_resolution.py`); 40 epochs and 12 of fine-tuning, 20 minutes on
    two cores that other work shared, seed 0. Four epochs of fine-tuning at 2e-4 gave 31.24 in place of 31.34 dB on
    validation, and less than bicubic (33.61) on Set5.
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
    """DIV2K, 800 photographs of two thousand pixels, enlarged twice by the published WaveMixSR 144/4.

    Command: wavemix-tf run div2k --set download=true
    Not measured here: a day on a GPU, 10 GB of memory. The official README reports 33.08 dB on BSD100, by a protocol of
    its own (see docs/tasks.md).
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


def _named(*functions: Callable[[], Recipe]) -> Mapping[str, Recipe]:
    """Name -> Recipe, each carrying its function's docstring as its description."""
    recipes = (dataclasses.replace(function(), description=inspect.getdoc(function) or "") for function in functions)
    return MappingProxyType({recipe.name: recipe for recipe in recipes})


RECIPES: Mapping[str, Recipe] = _named(
    digits,
    mnist,
    fashion_mnist,
    cifar10,
    cifar10_official,
    cifar100,
    emnist_balanced,
    emnist_byclass,
    imagenet2012,
    dynamixer_s,
    places365,
    inat_mini,
    tiny_imagenet,
    galaxy10,
    camvid,
    cityscapes,
    super_resolution_x2,
    div2k,
)
