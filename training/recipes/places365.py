"""The recipe of Places365."""

from ..recipe import Recipe


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
