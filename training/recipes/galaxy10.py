"""The recipe of Galaxy10 DECaLS."""

from ..recipe import Recipe


def galaxy10() -> Recipe:
    """Galaxy10 DECaLS, 17,736 photographs of 10 shapes of galaxies (official README, 27.7 million parameters: 95.42 %).

    GALAXIES holds one subfolder per class; a tenth of the images is the test set.

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
