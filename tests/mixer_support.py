"""WaveMix's peers as users write them: only from standard layers and ``keras.ops``."""

import keras
import numpy as np
from keras import layers, ops
from tflite_support import randomise, spread_statistics

from wavemix_tf.tflite.graph.inputs import generated_images

SHAPE = (16, 16, 3)
WIDTH, TOKENS, CLASSES = 16, 16, 5


def patches(x, width=WIDTH, size=4):
    x = layers.Conv2D(width, size, strides=size, name="patches")(x)
    return layers.Reshape((-1, width), name="tokens")(x)


def mlp(x, name, ratio=2):
    width = x.shape[-1]
    x = layers.Dense(ratio * width, activation="gelu", name=f"{name}_expand")(x)
    return layers.Dense(width, name=f"{name}_reduce")(x)


def norm(x, name):
    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def mlp_mixer(x, depth=2):
    x = patches(x)
    for k in range(depth):
        y = layers.Permute((2, 1), name=f"block{k}_to_tokens")(norm(x, f"block{k}_norm1"))
        x = x + layers.Permute((2, 1), name=f"block{k}_to_channels")(mlp(y, f"block{k}_tokens"))
        x = x + mlp(norm(x, f"block{k}_norm2"), f"block{k}_channels")
    x = layers.GlobalAveragePooling1D(name="pool")(norm(x, "norm"))
    return layers.Dense(CLASSES, name="head")(x)


@keras.saving.register_keras_serializable(package="tests")
class LayerScale(layers.Layer):
    """x * gamma, one gamma a channel."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")

    def call(self, x):
        return x * self.gamma

    def inline(self, x):
        return self.call(x)


def pool_former(x, depth=2):
    x = layers.Conv2D(WIDTH, 3, strides=2, padding="same", name="stem")(x)
    for k in range(depth):
        y = layers.GroupNormalization(1, epsilon=1e-5, name=f"block{k}_norm1")(x)
        y = layers.AveragePooling2D(3, strides=1, padding="same", name=f"block{k}_pool")(y) - y
        x = x + LayerScale(name=f"block{k}_scale1")(y)
        y = layers.GroupNormalization(1, epsilon=1e-5, name=f"block{k}_norm2")(x)
        y = layers.Conv2D(2 * WIDTH, 1, activation="gelu", name=f"block{k}_expand")(y)
        x = x + LayerScale(name=f"block{k}_scale2")(layers.Conv2D(WIDTH, 1, name=f"block{k}_reduce")(y))
    x = layers.GroupNormalization(1, epsilon=1e-5, name="norm")(x)
    return layers.Dense(CLASSES, name="head")(layers.GlobalAveragePooling2D(name="pool")(x))


def _basis(size):
    angles = 2 * np.pi * np.outer(np.arange(size), np.arange(size)) / size
    return (np.cos(angles) / np.sqrt(size)).astype("float32"), (np.sin(angles) / np.sqrt(size)).astype("float32")


def fourier(x, depth=2):
    x = patches(x)
    for k in range(depth):
        (cos_t, sin_t), (cos_c, sin_c) = _basis(TOKENS), _basis(WIDTH)
        y = norm(x, f"block{k}_norm1")
        real = ops.matmul(cos_t, ops.matmul(y, cos_c)) - ops.einsum("nm,bmc->bnc", sin_t, ops.matmul(y, sin_c))
        x = x + real
        x = x + mlp(norm(x, f"block{k}_norm2"), f"block{k}_channels")
    x = layers.GlobalAveragePooling1D(name="pool")(norm(x, "norm"))
    return layers.Dense(CLASSES, name="head")(x)


@keras.saving.register_keras_serializable(package="tests")
class Embedding(layers.Layer):
    """A class token in front, and a position embedding, in one table."""

    def build(self, input_shape):
        _, tokens, width = input_shape
        init = keras.initializers.RandomNormal(stddev=0.5, seed=3)
        self.positions = self.add_weight(shape=(1, tokens + 1, width), initializer=init, name="positions")

    def call(self, x):
        return ops.pad(x, [[0, 0], [1, 0], [0, 0]]) + self.positions

    inline = call


def attention(x, name, heads=2):
    _, tokens, width = x.shape
    qkv = layers.Dense(3 * width, name=f"{name}_qkv")(x)
    qkv = ops.transpose(ops.reshape(qkv, (-1, tokens, 3, heads, width // heads)), (2, 0, 3, 1, 4))
    q, k, v = qkv[0], qkv[1], qkv[2]
    scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * (width // heads) ** -0.5
    y = ops.matmul(ops.softmax(scores, axis=-1), v)
    y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, tokens, width))
    return layers.Dense(width, name=f"{name}_out")(y)


def vit(x, depth=2):
    x = Embedding(name="embedding")(patches(x))
    for k in range(depth):
        x = x + attention(norm(x, f"block{k}_norm1"), f"block{k}_attention")
        x = x + mlp(norm(x, f"block{k}_norm2"), f"block{k}_mlp")
    return layers.Dense(CLASSES, name="head")(norm(x, "norm")[:, 0])


def vit_ats(x, keep=8):
    """Static sampling: the tokens that the class token attends to most, by their rank."""
    x = Embedding(name="embedding")(patches(x))
    x = x + attention(norm(x, "block0_norm1"), "block0_attention")
    scores = layers.Dense(1, name="score")(x)[:, 1:, 0]
    shares = ops.cumsum(ops.softmax(scores), axis=1)
    order = ops.top_k(scores + 0.1 * shares, keep)[1]
    kept = ops.take_along_axis(x[:, 1:], ops.expand_dims(order, -1), axis=1)
    x = ops.concatenate([x[:, :1], kept], axis=1)
    x = x + mlp(norm(x, "block1_norm2"), "block1_mlp")
    return layers.Dense(CLASSES, name="head")(norm(x, "norm")[:, 0])


def mixing(x, name, segments=2, reduced=2):
    """DynaMixer's operation along the last axis but one of (B, H, W, C)."""
    _, rows, tokens, width = x.shape
    codes = layers.Dense(segments * reduced, name=f"{name}_compress")(x)
    codes = ops.transpose(ops.reshape(codes, (-1, rows, tokens, segments, reduced)), (0, 1, 3, 2, 4))
    logits = layers.Dense(tokens * tokens, name=f"{name}_generate")(
        ops.reshape(codes, (-1, rows, segments, tokens * reduced))
    )
    shares = ops.softmax(ops.reshape(logits, (-1, rows, segments, tokens, tokens)), axis=-2)
    parts = ops.transpose(ops.reshape(x, (-1, rows, tokens, segments, width // segments)), (0, 1, 3, 4, 2))
    y = ops.transpose(ops.matmul(parts, shares), (0, 1, 4, 2, 3))
    return layers.Dense(width, name=f"{name}_out")(ops.reshape(y, (-1, rows, tokens, width)))


def dynamixer(x, depth=2):
    x = layers.Conv2D(WIDTH, 4, strides=4, name="patches")(x)
    for k in range(depth):
        z = norm(x, f"block{k}_norm1")
        rows = mixing(z, f"block{k}_rows")
        columns = ops.swapaxes(mixing(ops.swapaxes(z, 1, 2), f"block{k}_columns"), 1, 2)
        channels = layers.Dense(WIDTH, use_bias=False, name=f"block{k}_channels")(z)
        weights = layers.Dense(3 * WIDTH, name=f"block{k}_weigh")(
            layers.GlobalAveragePooling2D(name=f"block{k}_pool")(rows + columns + channels)
        )
        weights = ops.softmax(ops.reshape(weights, (-1, 1, 1, WIDTH, 3)), axis=-1)
        branches = (rows, columns, channels)
        x = x + layers.Dense(WIDTH, name=f"block{k}_mix")(
            sum(weights[..., index] * part for index, part in enumerate(branches))
        )
        x = x + mlp(norm(x, f"block{k}_norm2"), f"block{k}_mlp")
    return layers.Dense(CLASSES, name="head")(layers.GlobalAveragePooling2D(name="pool")(norm(x, "norm")))


def conv_mixer(x, depth=2):
    x = layers.BatchNormalization(name="stem_norm")(layers.Conv2D(WIDTH, 2, strides=2, activation="gelu")(x))
    for k in range(depth):
        y = layers.DepthwiseConv2D(5, padding="same", activation="gelu", name=f"block{k}_depthwise")(x)
        x = x + layers.BatchNormalization(name=f"block{k}_norm1")(y)
        x = layers.Conv2D(WIDTH, 1, activation="gelu", name=f"block{k}_pointwise")(x)
        x = layers.BatchNormalization(name=f"block{k}_norm2")(x)
    return layers.Dense(CLASSES, name="head")(layers.GlobalAveragePooling2D(name="pool")(x))


SYSTEMS = {
    "ConvMixer": conv_mixer,
    "MLP-Mixer": mlp_mixer,
    "PoolFormer": pool_former,
    "Fourier": fourier,
    "ViT": vit,
    "DynaMixer": dynamixer,
}


def stand_in(body, shape=SHAPE, seed=0):
    """A network of ``body`` with weights and statistics that are spread out, as training leaves them."""
    inputs = keras.Input(shape, name="image")
    model = randomise(keras.Model(inputs, body(inputs), name=body.__name__), seed)
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, (layers.LayerNormalization, layers.GroupNormalization)):
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.3, layer.beta.shape))
        elif isinstance(layer, LayerScale):
            layer.gamma.assign(rng.uniform(0.2, 0.8, layer.gamma.shape))
    return spread_statistics(model, generated_images(shape, 32, seed=9))
