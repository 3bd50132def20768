"""``StagedClassifier``: any token mixer in stages, with a Haar transform between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers

from ..checks import check_option, check_positive
from ..layers.activations import ACTIVATIONS
from ..layers.mixers import MIXERS
from ..layers.normalization import FusedBatchNormalization
from ..layers.residual_block import BATCH_NORM
from ..layers.wavelets import DWT2D
from .base import Network, check_image_shape, mean_head, standardised_input
from .token_mixers import mixer_block


@keras.saving.register_keras_serializable(package="wavemix_tf")
class StagedClassifier(Network):
    """Any token mixer in stages of halved sides, which a Haar transform separates: a network of this package.

    Each stage begins with one level of the Haar transform, which halves the sides and loses nothing, and a convolution
    from its four bands to the stage's width: 3x3 from the pixels, 1x1 later. WaveMix spends its products at the
    resolution of the stem; this network at a quarter of the pixels, a sixteenth and so on. Not a published network.

    Args:
        mixer: A name of ``wm.MIXERS``.
        num_classes: Number of classes.
        image_shape: (height, width, channels) of the input in pixels. Height and width may be None, except for
            "mlp_mixer" and "fourier", whose matrices have fixed sides.
        widths: Channels of each stage.
        depths: Blocks of each stage, 0 or more.
        dropout: Rate in each block.
        activation: "gelu", "relu", "relu6", "hard_swish" or "quick_gelu"; in the blocks and in the first stage's
            convolution.
        mixer_args: Further arguments of the block, for example ``{"expansion": 4}``.
        normalize: None, or (mean, std), each one value per channel in the input's [0, 1] units.
        dtype: dtype policy of the layers; None: Keras's global one. Under a mixed policy the head computes in float32.

    Input shape:
        (B, H, W, channels) floating point in [0, 1] (pixel / 255), RGB.

    Output shape:
        (B, num_classes) logits.

    Raises:
        ValueError: An option out of its range, ``widths`` and ``depths`` of different lengths, or an option that the
            block does not have.

    Example:
    >>> model = wm.StagedClassifier("resnet", 10, (32, 32, 3), widths=(28, 44), depths=(2, 1))
    """

    def __init__(
        self,
        mixer: str = "resnet",
        num_classes: int = 10,
        image_shape: Sequence[int | None] = (32, 32, 3),
        widths: Sequence[int] = (32, 64),
        depths: Sequence[int] = (2, 2),
        dropout: float = 0.0,
        activation: str = "relu",
        mixer_args: Mapping[str, Any] | None = None,
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        policy = self._policy(arguments)
        check_option("mixer", mixer, tuple(MIXERS))
        check_option("activation", activation, tuple(ACTIVATIONS))
        check_positive("num_classes", num_classes)
        listed = all(isinstance(value, (list, tuple)) for value in (widths, depths))
        if not listed or len(depths) != len(widths) or not depths:
            raise ValueError(
                f"depths and widths must be lists with one value per stage. Received: depths={depths}, widths={widths}"
            )
        if any(isinstance(depth, bool) or not isinstance(depth, int) or depth < 0 for depth in depths):
            raise ValueError(f"depths must be integers of at least 0. Received: depths={depths}")
        check_image_shape(image_shape, 2 ** len(depths))
        options: dict[str, Any] = {"dropout": dropout, "activation": activation}

        inputs, x = standardised_input(image_shape, normalize, policy)
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
            named: dict[str, Any] = {"dtype": policy}
            x = DWT2D(name=f"stage{stage}_transform", **named)(x)  # (B, H, W, C) -> (B, H / 2, W / 2, 4C)
            conv = layers.Conv2D(
                check_positive("widths", width),
                3 if stage == 1 else 1,
                padding="same",
                use_bias=False,
                data_format="channels_last",
                name=f"stage{stage}_conv",
                **named,
            )
            x = FusedBatchNormalization(**BATCH_NORM, name=f"stage{stage}_norm", **named)(conv(x))
            if stage == 1:
                x = layers.Activation(ACTIVATIONS[activation], name="stage1_activation", **named)(x)
            for index in range(1, depth + 1):
                name = f"stage{stage}_block{index}"
                x = mixer_block(mixer, {"width": width, **options}, mixer_args, name, policy)(x)
        self._init_functional(inputs, mean_head(x, num_classes, policy), arguments, policy)
