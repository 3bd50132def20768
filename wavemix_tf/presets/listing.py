"""`list_presets`: the names that ``from_preset`` loads, and what is known of each. Loads no Keras."""

from __future__ import annotations

from typing import Any

from ..variants import VARIANTS
from .authors_table import AUTHORS, ENDPOINT, LICENSE, REPOSITORY, SOURCE
from .folder import QUANTIZED, WEIGHTS
from .places import shipped, shipped_names


def list_presets() -> dict[str, dict[str, Any]]:
    """List the presets by name: those in the package first, then the checkpoints of the WaveMix authors.

    Returns:
        name -> a JSON-able dict: "from" ("package" or "authors"), "task", "network", "data", "image_shape", "metric",
        "value" (of the metric: a share, or dB), "parameters", "bytes", "quantized", "tflite" (names of the verified
        files), "license", "source". "parameters" and "bytes" of a checkpoint that was not downloaded are None.

    Example:
    >>> [name for name, row in wm.list_presets().items() if row["from"] == "package"]
    """
    return {**{name: _shipped(name) for name in shipped_names()}, **{name: _authors(name) for name in AUTHORS}}


def _shipped(name: str) -> dict[str, Any]:
    folder = shipped(name)
    card, rules = folder.read_card(), folder.read_preprocessor()
    return {
        "from": "package",
        "task": card.task,
        "network": card.network,
        "data": card.data.get("name"),
        "image_shape": list(rules.image_shape),
        "metric": card.metric,
        "value": card.value,
        "parameters": card.parameters,
        "bytes": folder.size_bytes,
        "quantized": f"{QUANTIZED}/{WEIGHTS}" in folder.files,
        "tflite": list(folder.tflite()),
        "license": card.license,
        "source": card.source,
    }


def _authors(name: str) -> dict[str, Any]:
    row = AUTHORS[name]
    shape = row.arguments.get("image_shape", VARIANTS.get(row.variant or "", {}).get("image_shape", (32, 32, 3)))
    return {
        "from": "authors",
        "task": row.task,
        "network": row.variant or "inferred from the file",
        "data": row.dataset,
        "image_shape": list(shape),
        "metric": row.metric,
        "value": row.value,
        "parameters": None,
        "bytes": None,
        "quantized": False,
        "tflite": [],
        "license": LICENSE,
        "source": f"{SOURCE}; {ENDPOINT}/{REPOSITORY}/blob/main/{row.path}",
    }
