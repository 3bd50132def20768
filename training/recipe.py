"""`Recipe`: everything that determines a training run, in one frozen dataclass saved beside the weights."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wavemix_tf.preprocessing import Preprocessing
from wavemix_tf.variants import NETWORKS, VARIANTS

from .recipe_fields import ARGUMENTS, AUTO, BATCH_SIZE, IMAGE_SHAPE, MASK_VALUES, NAMES, field_kinds, of_kind
from .tasks import TASKS, task_type

OPTIMIZERS = ("adamw", "lion", "sgd", "adamw_then_sgd")
POLICIES = ("trivial_augment", "rand_augment")
BAD_IMAGE = ("error", "skip")
MASK_NAME = "{}"  # a mask has the name of its image
LATER = "later"  # key in a field's metadata, see ``_later``


def _place(default: Any) -> Any:
    """A field that states a location, not a computation: two recipes that differ only in it are equal."""
    return dataclasses.field(default=default, compare=False)


def _later(default: Any) -> Any:
    """A field that version 0.2 did not have: a file states it only if it is not the default, as older files do."""
    return dataclasses.field(default=default, metadata={LATER: True})


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Data, network, schedule and augmentation of one run; with the same seed and machine it gives the same numbers.

    Args:
        name: Name of the recipe; also the report's title.
        dataset: "digits" (embedded), "folder" (your own images in ``data_dir``: one subfolder per class; images and
            masks; or images to enlarge) or a TFDS name such as "cifar10", "emnist/balanced" or "cityscapes".
        image_shape: (height, width, channels) of the network's input, in pixels. Images are resized to it and converted
            between gray and RGB to match ``channels``. For "super_resolution": the patch before it is enlarged.
        task: "classification", "segmentation" (a class for every pixel) or "super_resolution".
        num_classes: None: the number of classes of the data; otherwise it must equal that number.
        ignore_index: Value of mask pixels without a class: they are neither trained on nor counted. If it is one of
            ``mask_values``, it has that class.
        mask_name: Name of a mask, without its extension; "{}" is the name of its image: "{}_mask" for x_mask.png. ":"
            separates a pattern for images from one for masks: "{}_leftImg8bit:{}_labelIds".
        mask_values: Pixel values of the masks, one per class in order: numbers such as (0, 255) or (0, 10, 20), or
            colors such as ("#000000", "#ff8000"; with transparency eight digits). Empty: class numbers from 0. Any
            other value in a mask is an error.
        mask_void: Values or colors without a class, in addition to ``mask_values``.
        mask_resize: Resize a mask of another size to that of its image (nearest neighbor); False: an error.
        scale: Enlargement factor of "super_resolution": 2, 4 or 8.
        patches: Patches that "super_resolution" cuts out of each training image per epoch.
        train_split: TFDS split of the training, validation and calibration images.
        test_split: TFDS split that is read once, after training. (A folder has its subfolders train, val or validation,
            and test, if they exist.)
        validation_fraction: Share of the training images held out, class by class, to choose the best epoch.
        test_fraction: The same for the test set of data that has no test split; the test images do not depend on
            ``seed``.
        calibration_images: Training images that calibrate quantization; held out if they are at most a tenth, otherwise
            also trained on. For "super_resolution": the number of patches.
        crop_to_aspect_ratio: Keep the aspect ratio when resizing, and crop the center; False: stretch.
        in_memory: Decode once into memory, or stream from disk; None: decode if it takes less than 1 GiB (whole images
            to enlarge: 2 GiB per split).
        shuffle_buffer: Examples in the shuffle buffer of a streamed dataset (ArrayRecord needs none).
        on_bad_image: "error" or "skip" for a folder's unreadable files; skipped files are listed in
            ``bad_images.csv``.
        data_dir: Folder of the prepared TFDS data (None: TFDS's default), or the image folder.
        download: Let TFDS download missing data; False: fail at once.

        model: A name that ``build_model`` supports: a published network or a network class such as "ConvMixer". None:
            the WaveMix network of the task.
        model_args: Arguments of the network; they override those of the named variant.
        dtype_policy: Keras dtype policy, for example "mixed_bfloat16"; "auto": that, where the GPU or TPU multiplies
            bfloat16, or the processor does and a few timed steps are faster; otherwise "float32". A run keeps it.
        jit_compile: Compile the training step with XLA. On CPUs it is slower for one-level networks.

        seed: Seed of the initial weights, the order of the images, augmentation and dropout.
        batch_size: Images per step, on all devices together; the last, incomplete batch of an epoch is skipped. "auto":
            the largest power of two whose step is predicted to fit into half of the free memory, at most an eighth of
            the training images; ``fit`` writes it into the run folder's recipe. No other field follows it.
        epochs: Epochs of training; "adamw_then_sgd": the maximum for each of the two phases.
        optimizer: "adamw", "lion", "sgd" or "adamw_then_sgd": AdamW until ``patience`` epochs bring no gain, then SGD
            from the best weights until the same (the official WaveMix schedule, with the constant rate of
            ``cosine=False``).
        learning_rate: Peak learning rate.
        sgd_learning_rate: Learning rate of the second phase of "adamw_then_sgd".
        cosine: Decay the rate to 0 along half a cosine; False: constant.
        warmup_epochs: Epochs of linear rise from 0, within ``epochs``.
        momentum: Momentum of SGD.
        weight_decay: Decoupled weight decay; not applied to biases and batch norm.
        clip_norm: Largest global norm of the gradient; None: not clipped.
        patience: End a phase after this many epochs without gain on validation; None: never.
        ema: Momentum of the moving average of the weights, for example 0.999; 0: none. The averaged weights are the
            ones validated, chosen and saved, with recomputed batch norm statistics.
        label_smoothing: Share of the label spread over all classes, in [0, 1).
        teacher: A trained classifier of the same classes and images, whose outputs are learned beside the labels, in
            both stages (Hinton et al., arXiv 1503.02531): a .keras file or a run folder. None: labels alone.
        teacher_weight: Weight of the teacher's term of the loss, in [0, 1]; the labels have the rest.
        teacher_temperature: The logits of both are divided by it in that term.

        flip: Mirror left and right at random ("super_resolution": also up and down, and turn by 90 degrees).
        shift: Largest shift in pixels, each direction; the border is filled with 0 (pad and crop).
        rotation: Largest rotation in degrees.
        zoom: Largest zoom, in and out, as a share of the side.
        crop_area: Smallest share of the area that a random resized crop keeps; None: no such crop.
        policy: "trivial_augment" (arXiv 2103.10158), "rand_augment" (arXiv 1909.13719) or None.
        rand_augment_ops: Operations per image in RandAugment.
        rand_augment_strength: Strength of RandAugment in [0, 1].
        smallest_scale, largest_scale: An image and its mask are scaled by a random factor between these two, then
            cropped at random to the network's size, or padded with black and ``ignore_index``.
        brightness, contrast, saturation: Largest random change of each, as a share; applied to the image only.
        mixup: Alpha of MixUp (arXiv 1710.09412); 0: none.
        cutmix: Alpha of CutMix (arXiv 1905.04899); 0: none. With both, each batch takes one of them.
        erase: Largest share of the area of a rectangle erased in half of the images; 0: none.

        qat_epochs: Epochs of quantization-aware fine-tuning.
        qat_learning_rate: Peak learning rate of fine-tuning: AdamW along a cosine, no warm-up.
        qat_weight_decay: Weight decay of fine-tuning.
        qat_observer: How calibration finds the range of a tensor: an ``observer`` of ``wm.tflite.quantize``, or None
            for its default.
        qat_skip: Names of layers or blocks that stay float, for example ("stem",). A target without float kernels
            refuses the file.

        description: Purpose, command, cost and measured result of the recipe. Not part of its identity.

    Raises:
        ValueError: a field is out of its range.

    Example:
    >>> recipe = dataclasses.replace(RECIPES["cifar10"], epochs=3, seed=1)
    """

    name: str
    dataset: str
    image_shape: tuple[int, int, int] = of_kind(IMAGE_SHAPE)
    task: str = "classification"
    num_classes: int | None = None
    ignore_index: int | None = None
    mask_name: str = MASK_NAME
    mask_values: tuple[int | str, ...] = of_kind(MASK_VALUES, ())
    mask_void: tuple[int | str, ...] = of_kind(MASK_VALUES, ())
    mask_resize: bool = False
    scale: int = 2
    patches: int = 16
    train_split: str = "train"
    test_split: str = "test"
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    calibration_images: int = 256
    crop_to_aspect_ratio: bool = False
    in_memory: bool | None = None
    shuffle_buffer: int = 8192
    on_bad_image: str = "error"
    data_dir: str | None = _place(None)
    download: bool = _place(False)

    model: str | None = None
    model_args: Mapping[str, Any] = of_kind(ARGUMENTS, {})
    dtype_policy: str = "float32"
    jit_compile: bool = False

    seed: int = 0
    batch_size: int | str = of_kind(BATCH_SIZE, 128)
    epochs: int = 30
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    sgd_learning_rate: float = 1e-3
    cosine: bool = True
    warmup_epochs: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.01
    clip_norm: float | None = None
    patience: int | None = None
    ema: float = 0.0
    label_smoothing: float = 0.0
    teacher: str | None = _later(None)
    teacher_weight: float = _later(0.7)
    teacher_temperature: float = _later(2.0)

    flip: bool = False
    shift: int = 0
    rotation: float = 0.0
    zoom: float = 0.0
    crop_area: float | None = None
    smallest_scale: float = 1.0
    largest_scale: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    policy: str | None = None
    rand_augment_ops: int = 2
    rand_augment_strength: float = 0.5
    mixup: float = 0.0
    cutmix: float = 0.0
    erase: float = 0.0

    qat_epochs: int = 3
    qat_learning_rate: float = 1e-4
    qat_weight_decay: float = 0.0
    qat_observer: str | None = None
    qat_skip: tuple[str, ...] = of_kind(NAMES, ())

    description: str = _place("")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _KINDS[field.name].check(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        _check(self)

    @property
    def metric(self) -> str:
        """The metric of the task: "accuracy", "mean_iou" or "psnr_y"."""
        return task_type(self).metric

    @property
    def void(self) -> int | None:
        """Value of void pixels in decoded masks: ``ignore_index``, or 255 with ``mask_values``; None: no void."""
        if self.mask_values and (self.mask_void or self.ignore_index is not None):
            return 255
        return self.ignore_index

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are brought to the network's size; super-resolution cuts out patches instead."""
        return task_type(self).preprocessing(self)

    def to_json(self) -> str:
        """This recipe as a JSON object of its fields."""
        values = dataclasses.asdict(self)
        for field in dataclasses.fields(self):
            if field.metadata.get(LATER) and values[field.name] == field.default:
                del values[field.name]
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | os.PathLike[str]) -> Recipe:
        """Load a recipe from a JSON text, or from the file at a path.

        A missing field has its default, so that a recipe saved by an earlier version still loads.
        """
        if isinstance(text, os.PathLike):
            try:
                return cls.from_json(Path(text).read_bytes().decode("utf-8"))
            except (ValueError, RecursionError) as error:
                remedy = "Restore the file, or name another recipe"
                raise ValueError(f"{os.fspath(text)}: {error}. {remedy}") from None
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"A recipe must be a JSON object of Recipe's fields. Received: no JSON: {error}") from None
        if not isinstance(fields, dict):
            raise ValueError(f"A recipe must be a JSON object of Recipe's fields. Received: {fields!r}")
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise ValueError(f"A recipe's fields must be of {', '.join(known)}. Received: {', '.join(unknown)}")
        missing = [name for name in ("name", "dataset", "image_shape") if name not in fields]
        if missing:
            raise ValueError(
                f"A recipe must have name, dataset and image_shape. Received: a recipe without {', '.join(missing)}"
            )
        return cls(**fields)

    @property
    def step_images(self) -> int:
        """``batch_size`` as a number; ValueError if it is "auto", which `fit` replaces before it trains."""
        if isinstance(self.batch_size, str):
            raise ValueError(f"batch_size must be a number here. Received: batch_size={self.batch_size!r}")
        return self.batch_size

    def differences(self, other: Recipe, ignore: str | None = None) -> list[str]:
        """List the fields that make the runs of two recipes differ, as "field=mine (there theirs)".

        ``data_dir`` and ``download`` are not compared, except for the dataset "folder", where ``data_dir`` *is* the
        data; if the other recipe's folder no longer exists, it counts as moved (a run identifies its files by name and
        digest). A ``batch_size`` or ``dtype_policy`` of "auto" equals any. Fields whose names begin with ``ignore`` are
        not compared.
        """
        names = [field.name for field in dataclasses.fields(self) if field.compare]
        names = [name for name in names if ignore is None or not name.startswith(ignore)]
        for name in ("batch_size", "dtype_policy"):  # a run's recipe has the value that `fit` chose
            if name in names and AUTO in (getattr(self, name), getattr(other, name)):
                names.remove(name)
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        moved = other.data_dir is not None and not Path(other.data_dir).expanduser().is_dir()
        if self.dataset == other.dataset == "folder" and not moved:
            names.append("data_dir")
            for place in (mine, theirs):
                place["data_dir"] = place["data_dir"] and str(Path(place["data_dir"]).expanduser().resolve())
        return [f"{name}={mine[name]!r} (there {theirs[name]!r})" for name in names if mine[name] != theirs[name]]


_KINDS = field_kinds(Recipe)


def parse_field(name: str, text: str) -> Any:
    """Parse the text of ``--set NAME=TEXT`` into the value of a field.

    Raises:
        ValueError: the text is not valid; the message states what it must be.
    """
    try:
        return _KINDS[name].parse(text)
    except (KeyError, TypeError, ValueError):
        raise ValueError(_KINDS[name].expected) from None


def is_mask_name(text: str) -> bool:
    """Whether a text is a valid pattern of ``Recipe.mask_name``."""
    return 1 <= len(parts := text.split(":")) <= 2 and all(part.count("{}") == 1 and "/" not in part for part in parts)


class _Rules:
    """Rules of a recipe's fields; the first that does not hold raises a ValueError with the values of its fields."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def __call__(self, holds: bool, text: str, *names: str) -> None:
        if not holds:
            received = ", ".join(f"{name}={getattr(self.recipe, name)!r}" for name in names)
            raise ValueError(f"{text}. Received: {received}")

    def option(self, name: str, options: tuple[str, ...], none: bool = False) -> None:
        value = getattr(self.recipe, name)
        choice = ", ".join(repr(item) for item in options) + (" or None" if none else "")
        self(value in options or (none and value is None), f"{name} must be one of {choice}", name)

    def each(self, text: str, holds: Callable[[Any], bool], *names: str) -> None:
        for name in names:
            self(holds(getattr(self.recipe, name)), f"{name} {text}", name)


def _check(recipe: Recipe) -> None:
    rule = _Rules(recipe)
    rule(
        recipe.name.strip() != "" and not set(recipe.name) & set('/\\:*?"<>|\n') and recipe.name not in (".", ".."),
        "name must be valid as the name of a folder", "name",
    )  # fmt: skip
    rule.option("task", tuple(TASKS))
    _check_task(recipe, rule)
    rule.option("optimizer", OPTIMIZERS)
    rule.option("policy", POLICIES, none=True)
    rule.option("on_bad_image", BAD_IMAGE)
    rule.option("model", (*VARIANTS, *NETWORKS), none=True)
    _check_numbers(rule)
    _check_pictures(recipe, rule)
    _check_masks(recipe, rule)
    rule(
        recipe.teacher is None or issubclass(task_type(recipe), TASKS["classification"]),
        "A teacher needs task='classification'", "teacher", "task",
    )  # fmt: skip
    rule(0 <= recipe.teacher_weight <= 1, "teacher_weight must be in [0, 1]", "teacher_weight")
    rule(recipe.teacher_temperature > 0, "teacher_temperature must be positive", "teacher_temperature")
    rule(recipe.warmup_epochs < recipe.epochs, "warmup_epochs must be less than epochs", "warmup_epochs", "epochs")
    rule(
        recipe.optimizer != "adamw_then_sgd" or recipe.patience is not None,
        "optimizer='adamw_then_sgd' needs patience, the epochs without gain that end a phase", "patience",
    )  # fmt: skip


def _check_task(recipe: Recipe, rule: _Rules) -> None:
    task = task_type(recipe)
    defaults = {field.name: field.default for field in dataclasses.fields(Recipe)}
    for name in task.excluded_fields:
        rule(getattr(recipe, name) == defaults[name], f"task={recipe.task!r} takes no {name}", name)


def _check_numbers(rule: _Rules) -> None:
    """Rules of one number each."""
    rule.each(
        "must be positive", lambda value: value > 0,
        "shuffle_buffer", "epochs", "calibration_images", "learning_rate", "sgd_learning_rate",
        "qat_learning_rate", "patches",
    )  # fmt: skip
    rule.each(
        "must be 0 or more", lambda value: value >= 0,
        "seed", "warmup_epochs", "momentum", "weight_decay", "qat_weight_decay", "shift", "rotation", "zoom", "mixup",
        "cutmix", "erase", "qat_epochs", "rand_augment_ops",
    )  # fmt: skip
    rule.each("is too small", lambda value: value is None or value > 1, "num_classes")
    rule.each("is too small", lambda value: value is None or value > 0, "patience", "clip_norm")
    rule.each("must be 2, 4 or 8", lambda value: value in (2, 4, 8), "scale")
    rule.each(
        "must be in [0, 1)", lambda value: 0 <= value < 1,
        "ema", "label_smoothing", "zoom", "erase", "brightness", "contrast", "saturation",
    )  # fmt: skip
    rule.each("must be in [0, 1]", lambda value: 0 <= value <= 1, "rand_augment_strength", "cutmix")
    rule.each("must be between 0 and 1", lambda value: 0 < value < 1, "validation_fraction", "test_fraction")
    rule.each("must be in (0, 1]", lambda value: value is None or 0 < value <= 1, "crop_area")


def _check_pictures(recipe: Recipe, rule: _Rules) -> None:
    rule(
        min(recipe.image_shape) > 0 and recipe.image_shape[2] in (1, 3), "image_shape must be (height, width, 1 or 3)",
        "image_shape",
    )  # fmt: skip
    rule(
        recipe.image_shape[2] in task_type(recipe).channels, f"task={recipe.task!r} takes RGB images", "image_shape"
    )  # fmt: skip
    rule(recipe.shift < min(recipe.image_shape[:2]), "shift must be less than a side", "shift", "image_shape")
    rule(
        0 < recipe.smallest_scale <= recipe.largest_scale, "smallest_scale must be positive, and at most largest_scale",
        "smallest_scale", "largest_scale",
    )  # fmt: skip


def _check_masks(recipe: Recipe, rule: _Rules) -> None:
    rule.each("must be in [0, 255]", lambda value: value is None or 0 <= value <= 255, "ignore_index")
    rule.each("must have {} once, for the image's name", is_mask_name, "mask_name")
    table, void = recipe.mask_values, recipe.mask_void
    rule(len(table) != 1 and len(table) <= 254, "mask_values must have 2 to 254 classes", "mask_values")
    rule(
        not void or (bool(table) and not set(void) & set(table) and type(void[0]) is type(table[0])),
        "mask_void must have the kind of mask_values and share no value with it", "mask_values", "mask_void",
    )  # fmt: skip
    rule(
        recipe.num_classes is None or len(table) in (0, recipe.num_classes),
        "num_classes must equal the number of mask_values", "num_classes", "mask_values",
    )  # fmt: skip
