"""``ResidualBlock``: the contract of every block, and the names of sublayers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from keras import layers

from ..checks import check_option, check_positive, check_rate
from ..keras_internals import flatten_layers
from .activations import ACTIVATIONS
from .recompute import recomputed

# PyTorch's defaults. The official weights were trained with this epsilon; with Keras's momentum of 0.99 the moving
# statistics lag far behind the weights in a run of a few hundred steps.
BATCH_NORM = {"epsilon": 1e-5, "momentum": 0.9}
CHANNELS_LAST = (
    layers.AveragePooling2D,
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.Cropping2D,
    layers.DepthwiseConv2D,
    layers.GlobalAveragePooling2D,
    layers.UpSampling2D,
)


def sublayer(owner: layers.Layer, layer: type[layers.Layer], role: str, *args: Any, **options: Any) -> Any:
    """Create a layer named after its owner, because names must be unique in the flat graph."""
    if layer in CHANNELS_LAST:
        options["data_format"] = "channels_last"  # independent of the user's keras.json
    return layer(*args, **options, name=f"{owner.name}_{role}", dtype=owner.dtype_policy)


class ChannelParts(NamedTuple):
    """Channels of the tensors that are joined in a layer's input and output, in their order; (): not joined."""

    read: tuple[int, ...] = ()
    written: tuple[int, ...] = ()


class ResidualBlock(layers.Layer):
    """Base class of every block: (B, H, W, C) in and out, including the residual, and the common options.

    A subclass creates its sublayers in its constructor with ``_named``, and defines ``inline``.
    """

    recomputes: tuple[str, ...] = ("none", "block")  # values of ``recompute``; a subclass may define "elementwise"

    def __init__(self, width: int, dropout: float, activation: str, recompute: str = "none", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.recompute = check_option("recompute", recompute, self.recomputes)
        self.width = check_positive("width", width)
        self.dropout = check_rate("dropout", dropout)
        self.activation = check_option("activation", activation, tuple(ACTIVATIONS))

    def _named(self, layer: type[layers.Layer], role: str, *args: Any, **options: Any) -> Any:
        return sublayer(self, layer, role, *args, **options)

    @staticmethod
    def _run(parts: Iterable[Any], x: Any, training: bool | None) -> Any:
        """Run one sublayer after another."""
        for layer in parts:
            takes_training = isinstance(layer, (layers.BatchNormalization, layers.Dropout))
            x = layer(x, training=training) if takes_training else layer(x)
        return x

    def _check_input(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4 or input_shape[-1] != self.width:
            raise ValueError(f"{self.name} takes (B, H, W, {self.width}). Received: input_shape={tuple(input_shape)}")

    def inline(self, x: Any, training: bool | None = None) -> Any:
        """``call`` as a graph of the sublayers.

        Args:
            x: (B, H, W, C) tensor or KerasTensor with known H and W.
            training: As in ``call``.

        Returns:
            The same values as ``call`` (up to rounding), same shape and dtype.
        """
        raise NotImplementedError

    def last_norm(self) -> Any:
        """Return the norm of the term that is added to the input, or None if the output is not such a sum."""
        return None

    def channel_parts(self) -> dict[str, ChannelParts]:
        """Return the name of each sublayer that reads or writes joined tensors -> the channels of these."""
        return {}

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training and self.recompute == "block":
            return recomputed(lambda x: self._compute(x, True), flatten_layers(self, include_self=False), x)
        return self._compute(x, training)

    def _compute(self, x: Any, training: bool | None) -> Any:
        """As ``inline``, but a subclass may fold layers to save time and memory."""
        return self.inline(x, training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "dropout": self.dropout,
            "activation": self.activation,
            "recompute": self.recompute,
        }
