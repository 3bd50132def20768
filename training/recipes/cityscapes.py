"""The recipe of Cityscapes: segmentation."""

from ..recipe import Recipe


def cityscapes() -> Recipe:
    """Cityscapes in 19 classes at 512x1024 with 28.19 million parameters (the official model of "83.04 mIoU").

    That figure is not the usual mean IoU: the official script compares class numbers bit by bit, counts the void pixels
    and averages over images. Here the mean IoU comes from one confusion matrix over the set, without void pixels.

    TFDS reads the archives leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from DATA/downloads/manual;
    cityscapes-dataset.com provides them after registration. The validation split is the test set here: the test labels
    are not public.

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
