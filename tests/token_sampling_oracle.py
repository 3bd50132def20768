"""Adaptive token sampling in NumPy: one image at a time, ragged, no mask, no padding; for test_token_sampling.py.

Written from the paper (arXiv 2111.15667, section 3) and timm's key names, intentionally without our code: points and
distances form a table, duplicates are dropped explicitly, and removed tokens are deleted.
"""

import math

import numpy as np

EPSILON = 1e-6
NORMALISED = False  # True: add epsilon to normalized weights, as in our layer; the released code adds it before


def sample(attention, values, tokens):
    """Indices of the tokens that stay, ascending, the class token's first.

    Args:
        attention: (heads, N, N).
        values: (heads, N, d).
        tokens: budget, the class token included.
    """
    norms = np.sqrt((values**2).sum(axis=(0, 2)))
    scores = attention[:, 0].sum(axis=0) * norms
    scores = scores[1:] / scores[1:].sum()
    order = np.argsort(scores, kind="stable")
    cdf = np.cumsum(scores[order])
    if len(cdf) == 1:
        return [0, 1]
    cdf = (cdf - cdf.min()) / (cdf.max() - cdf.min())
    points = np.linspace(cdf[cdf > 0].min(), 1.0, tokens - 1)
    picked = []
    for point in points:
        nearest = int(np.argmin(np.abs(point - cdf)))
        if nearest not in picked:
            picked.append(nearest)
    return [0, *sorted(int(order[index]) + 1 for index in picked)]


def logits(state, image, heads, budgets):
    """(logits, tokens kept by each sampling block, places in the image of those that the last of them kept).

    Args:
        state: timm's key -> array.
        image: (H, W, channels).
        heads: of the attention.
        budgets: block, counted from 0 -> budget of tokens.
    """
    state = {key: np.asarray(value, "float64") for key, value in state.items()}
    kernel = state["patch_embed.proj.weight"]  # (C, channels, p, p)
    side = kernel.shape[-1]
    rows, columns = image.shape[0] // side, image.shape[1] // side
    x = [state["cls_token"][0, 0] + state["pos_embed"][0, 0]]
    for row in range(rows):
        for column in range(columns):
            patch = image[row * side : (row + 1) * side, column * side : (column + 1) * side].astype("float64")
            token = np.einsum("hwc,ochw->o", patch, kernel) + state["patch_embed.proj.bias"]
            x.append(token + state["pos_embed"][0, len(x)])
    x = np.array(x)
    places, kept = np.arange(len(x)), []
    whole = len(x)
    for block in range(sum(key.endswith(".norm1.weight") for key in state)):
        prefix = f"blocks.{block}."
        y = norm(x, state, prefix + "norm1")
        q, k, v = np.split(linear(y, state, prefix + "attn.qkv"), 3, axis=-1)
        q, k, v = (part.reshape(len(x), heads, -1).transpose(1, 0, 2) for part in (q, k, v))
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        epsilon = EPSILON if len(x) < whole else 0.0
        total = weights.sum(axis=-1, keepdims=True)
        if NORMALISED:
            weights, total = weights / total, 1.0
        weights = (weights + epsilon / len(x)) / (total + epsilon)
        if block in budgets:
            stay = sample(weights, v, budgets[block])
            weights, x, places = weights[:, stay], x[stay], places[stay]
            kept.append(len(stay))
        y = (weights @ v).transpose(1, 0, 2).reshape(len(x), -1)
        x = x + linear(y, state, prefix + "attn.proj")
        y = linear(norm(x, state, prefix + "norm2"), state, prefix + "mlp.fc1")
        y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
        x = x + linear(y, state, prefix + "mlp.fc2")
    return linear(norm(x[0], state, "norm"), state, "head"), kept, places


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(x, state, name):
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]
