"""The checkpoints of the WaveMix authors by name: network, data, mean and std, published figure. Loads no Keras.

Sources: the file names of the Hugging Face repository, the folder ``Saved_weights`` of the official repository (the
arguments of the network of each file), and its training scripts (the standardization of the images).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REPOSITORY = "cloudwalker/wavemix"
FOLDER = "Saved_Models_Weights"
ENDPOINT = "https://huggingface.co"
SOURCE = "Pranav Jeevan, Kavitha Viswanathan, Anandu A S, Amit Sethi: arXiv 2203.03689, arXiv 2205.14375"
LICENSE = "MIT, that of the authors' code at github.com/pranavphoenix/WaveMix; the page of the weights was not read"


@dataclass(frozen=True)
class AuthorsCheckpoint:
    """A checkpoint of the authors.

    Attributes:
        file: Its path in the repository, below ``FOLDER``.
        variant: The network's name in ``VARIANTS``; None: inferred from the tensors' names and shapes.
        dataset: Name of the data.
        value: The published figure, as a share.
        arguments: Arguments of the network that differ from the variant's.
        normalize: Key of ``CHECKPOINT_NORMALIZATION``; None: the images were not standardized.
        assumed: Whether ``normalize`` is an assumption: the authors published no script for this data.
        metric: "accuracy" or "mean_iou".
        note: A sentence for the card.
    """

    file: str
    variant: str | None
    dataset: str
    value: float
    arguments: dict[str, Any]
    normalize: str | None
    assumed: bool = False
    metric: str = "accuracy"
    note: str = ""

    @property
    def path(self) -> str:
        """Path of the file in the repository."""
        return f"{FOLDER}/{self.file}"

    @property
    def task(self) -> str:
        return "segmentation" if self.metric == "mean_iou" else "classification"


_P4 = "wavemix_192_16_l3_p4"
_TINY = dict(num_classes=200)
_GALAXY = dict(num_classes=10, image_shape=(256, 256, 3))
_CITYSCAPES = (
    "The published figure is no mean IoU: the script combines class numbers bit by bit, counts void pixels and "
    "averages over images."
)
_ASSUMED_CIFAR = "No script for CIFAR-100 is published: the mean and std of the CIFAR-10 script are assumed."
_ASSUMED_PLACES = "No script for Places365 is published: the mean and std of ImageNet are assumed."
_INFERRED = (
    "In no table of the papers: the network is inferred from the file. The authors' script "
    "cifar_10_using_imagenet_weights.py loads it into wavemix_192_16_l3_p4."
)

# <variant>_<data>: `build_model(variant, weights=data)` is the same network.
AUTHORS: dict[str, AuthorsCheckpoint] = {
    f"{_P4}_imagenet": AuthorsCheckpoint("ImageNet/wavemix_192_16_75.06.pth", _P4, "imagenet", 0.7506, {}, "imagenet"),
    "wavemix_192_16_l1_p4_imagenet": AuthorsCheckpoint(
        "ImageNet/wavemixlite_71.18.pth", "wavemix_192_16_l1_p4", "imagenet", 0.7118, {}, "imagenet"),
    "wavemix_256_16_l3_p4_imagenet": AuthorsCheckpoint(
        "ImageNet/ImageNet73.03.pth", "wavemix_256_16_l3_p4", "imagenet", 0.7303, {}, "imagenet"),
    "wavemix_256_16_l4_s2_imagenet": AuthorsCheckpoint(
        "ImageNet/imagenet4level_70.42.pth", "wavemix_256_16_l4_s2", "imagenet", 0.7042, {}, "imagenet"),
    "wavemix_imagenet_71_49": AuthorsCheckpoint(
        "ImageNet/imagenet_71.49.pth", None, "imagenet", 0.7149, dict(image_shape=(224, 224, 3)), "imagenet",
        note=_INFERRED),
    "wavemix_256_12_l2_p8_places365": AuthorsCheckpoint(
        "Places365/places365_54.94.pth", "wavemix_256_12_l2_p8", "places365", 0.5494, {}, "imagenet", True,
        note=_ASSUMED_PLACES),
    "wavemix_lite_144_7_cifar10": AuthorsCheckpoint(
        "cifar10/cifar10_94.58.pth", "wavemix_lite_144_7", "cifar10", 0.9458, {}, "cifar10"),
    "wavemix_lite_320_8_cifar10": AuthorsCheckpoint(
        "cifar10/cifar10_95.37.pth", "wavemix_lite_320_8", "cifar10", 0.9537, {}, "cifar10"),
    "wavemix_lite_256_8_cifar100": AuthorsCheckpoint(
        "cifar100/cifar100_77.82.pth", "wavemix_lite_256_8", "cifar100", 0.7782, {}, "cifar10", True,
        note=_ASSUMED_CIFAR),
    "wavemix_lite_256_10_cifar100": AuthorsCheckpoint(
        "cifar100/cifar100_78.81.pth", "wavemix_lite_256_10", "cifar100", 0.7881, {}, "cifar10", True,
        note=_ASSUMED_CIFAR),
    "wavemix_192_16_l1_p4_galaxy10": AuthorsCheckpoint(
        "galaxy10/galaxy_90.23.pth", "wavemix_192_16_l1_p4", "galaxy10", 0.9023, _GALAXY, None),
    f"{_P4}_galaxy10": AuthorsCheckpoint("galaxy10/galaxy_95.42.pth", _P4, "galaxy10", 0.9542, _GALAXY, None),
    "wavemix_lite_256_12_tinyimagenet": AuthorsCheckpoint(
        "tinyimagenet/tinyimagenet_62.51.pth", "wavemix_lite_256_12", "tinyimagenet", 0.6251, {}, "tinyimagenet"),
    f"{_P4}_tinyimagenet_64": AuthorsCheckpoint(
        "tinyimagenet/tiny_71.69.pth", _P4, "tinyimagenet", 0.7169, _TINY | dict(image_shape=(64, 64, 3)),
        "tinyimagenet"),
    f"{_P4}_tinyimagenet_128": AuthorsCheckpoint(
        "tinyimagenet/tiny_78.76.pth", _P4, "tinyimagenet", 0.7876, _TINY | dict(image_shape=(128, 128, 3)),
        "tinyimagenet"),
    "wavemix_seg_192_16_l3_cityscapes": AuthorsCheckpoint(
        "cityscapes_83.04.pth", "wavemix_seg_192_16_l3", "cityscapes", 0.8304, {}, "cityscapes",
        metric="mean_iou", note=_CITYSCAPES),
}  # fmt: skip

# Classes in the order of the labels, where data loaders of the authors' scripts fix it: torchvision's CIFAR-10, the
# list in Cityscapes.py. The others' names are not in the checkpoints: they are numbers.
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cityscapes": (
        "unlabelled", "road", "sidewalk", "building", "wall", "fence", "pole", "traffic_light", "traffic_sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
}  # fmt: skip
