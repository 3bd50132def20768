"""The recipe of iNaturalist 2021."""

from ..recipe import Recipe


def inat_mini() -> Recipe:
    """Recognize the 10,000 species of iNaturalist 2021 "mini", 500,000 photographs, from a folder.

    PHOTOS holds train/ and test/ (the competition's train_mini and val), each with one subfolder per species.

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
