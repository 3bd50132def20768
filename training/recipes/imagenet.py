"""The recipes of ImageNet-1k, and of Tiny ImageNet."""

from ..recipe import Recipe


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

    The settings follow the training command of the official README (eight GPUs with 256 images each) and the defaults
    of its script, including the moving average. Four differ: RandAugment's scale of strengths; the erased rectangles,
    of the same mean area (official: a quarter of the images, 2 to 33 % of the area, filled with noise); a learning rate
    that rises from 0 and falls to 0 (official: 1e-6 and 1e-5, and ten more epochs at 1e-5); the whole image in the test
    (official: its middle 90 %). DynaMixer-M used 1024 images per step, DynaMixer-L 512 and a stochastic depth of 0.3.

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


def tiny_imagenet() -> Recipe:
    """Tiny ImageNet, 100,000 images of 200 classes at 64 pixels, with 16.29 million parameters (README: 62.51 %).

    IMAGES holds train/ from the archive, unchanged, and test/: the archive's val/images, sorted into one subfolder per
    class by val_annotations.txt.

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
