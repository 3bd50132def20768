"""The recipe of CamVid: segmentation."""

from ..recipe import Recipe


def camvid() -> Recipe:
    """CamVid in 11 classes, 701 street scenes of 360x480, with 206,843 parameters: segmentation on a CPU.

    FOLDER holds train/ and trainannot/, val/ and valannot/, test/ and testannot/ (SegNet's copy of the data). In its
    masks 11 is void.

    Command: wavemix-tf run camvid --data FOLDER
    Measured: mIoU of the 233 test images 40.47 % float and 40.91 % int8 (android-cpu), of the 101 validation images
    45.97 and 46.78 %; 50 epochs and 3 of fine-tuning, 37 minutes on two shared cores, seed 0. Large
    classes are learned (road 85 %, sky 90 %), thin and rare ones are not (pole 5 %, bicyclist 3 %).
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
