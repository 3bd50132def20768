"""A deployment kit's part for browsers: a page that runs the model with LiteRT.js, and its npm package.

The page's own files are in ``page/``. They read everything about the model from ``page.json``, so that a name given by
a user is never markup or code.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from wavemix_tf.colours import MOST_COLOURS, palette
from wavemix_tf.escaping import markdown, printable
from wavemix_tf.page_style import PALETTE_CSS
from wavemix_tf.preprocessing import NONE

from ..file.flatbuffer import FileInfo
from ..verification.tolerance import FLOAT_SHARE, FLOAT_STEPS, Tolerance, tolerance, value_tolerance
from . import web_templates as templates
from .npm import LITERT_JS_VERSION, npm_lock, npm_package
from .picture import PictureInput
from .tensors import INDEPENDENT, PROBABILITIES, is_classes, score_kind
from .vectors import Vectors, vectors_card

PAGE = Path(__file__).with_name("page")
COPIED = (*(f"{name}.js" for name in ("app", "decode", "network", "picture", "results", "selftest")), "icon.svg")
CLASSES, MASK, PICTURE = "classes", "mask", "picture"  # what a page can show
WASM, WEBGPU = "wasm", "webgpu"

IMPORT_MAP = json.dumps(
    {"imports": {"@litertjs/core": "./litert/core.js", "@litertjs/wasm-utils": "./litert/wasm-utils.js"}}
)


def page_task(artifact: Any, info: FileInfo) -> str | None:
    """What the page shows of the first output; None if it cannot show it."""
    given, found = info.inputs[0], info.outputs[0]
    if found.dtype not in ("float32", "uint8"):
        return None
    if is_classes(artifact, found):
        return CLASSES if found.shape[-1] > 1 else None
    if len(given.shape) != 4 or len(found.shape) != 4 or found.shape[0] != 1:
        return None
    if found.shape[1:3] == given.shape[1:3] and found.shape[-1] == len(artifact.class_names):
        return MASK if 1 < found.shape[-1] <= MOST_COLOURS else None
    resize = None if artifact.preprocessing is None else artifact.preprocessing.resize
    return PICTURE if resize == NONE and not artifact.class_names and found.shape[-1] == given.shape[-1] else None


def web_files(
    artifact: Any, info: FileInfo, name: str, vectors: Vectors, taken: PictureInput, title: str
) -> dict[str, bytes]:
    """Path in the page's folder -> content, without the vectors' own files.

    Args:
        artifact: Of a file that ``page_task`` accepts.
        info: Its parsed content.
        name: Name of the file, without its ending.
        vectors: The kit's test vectors.
        taken: The file's input.
        title: Name of the page.
    """
    card = _page_json(artifact, info, name, vectors, taken)
    files = {file: (PAGE / file).read_bytes() for file in (*COPIED, "setup.mjs")}
    files["style.css"] = (PALETTE_CSS.lstrip("\n") + (PAGE / "style.css").read_text(encoding="utf-8")).encode()
    files["index.html"] = _index_html(artifact, info, card, taken, title).encode()
    files["page.json"] = (json.dumps(card, indent=1, allow_nan=False) + "\n").encode()
    package = npm_package(name)
    files["package.json"] = (json.dumps(package, indent=2) + "\n").encode()
    files["package-lock.json"] = (json.dumps(npm_lock(package), indent=2) + "\n").encode()
    files["README.md"] = templates.WEB_README.substitute(
        title=markdown(title), file=f"{name}.tflite", version=LITERT_JS_VERSION
    ).encode()
    for file, content in artifact.files(Path(f"{name}.tflite")).items():
        if file.suffix != ".json":
            files[file.name] = content
    return files


def _page_json(artifact: Any, info: FileInfo, name: str, vectors: Vectors, taken: PictureInput) -> dict[str, Any]:
    """All that the page needs to know of the model."""
    task = page_task(artifact, info)
    labels = list(map(printable, artifact.class_names))
    return {
        "file": f"{name}.tflite",
        "task": task,
        "labels": labels,
        "colors": palette(len(labels)).tolist() if task == MASK else None,
        "probabilities": score_kind(info) in (PROBABILITIES, INDEPENDENT),
        # With integers at its ends, LiteRT.js cannot read its own results from WebGPU.
        "webgpu": all(tensor.dtype == "float32" for tensor in (*info.inputs, *info.outputs)),
        "input": input_card(taken),
        "outputs": _outputs(artifact, info, vectors),
        "pictures": [
            {
                "file": f"vectors/picture_{index}.png",
                "label": None if label is None else printable(label),
                "example": vectors.source == "given" and index < vectors.count - 1,  # the last one is generated
                # A canvas rounds the colors of translucent pixels.
                "largest_levels": int(picture.shape[2] == 4 and bool((picture[..., 3] < 255).any())),
            }
            for index, (picture, label) in enumerate(zip(vectors.pictures, vectors.labels, strict=True))
        ],
    }


def input_card(taken: PictureInput) -> dict[str, Any]:
    """What ``picture.js`` needs to know of the input."""
    _, height, width, channels = taken.tensor.shape
    return {
        "shape": list(taken.tensor.shape),
        "dtype": taken.tensor.dtype,
        "height": height,
        "width": width,
        "channels": channels,
        "resize": taken.preprocessing.resize,
        "crop": taken.preprocessing.crop_to_aspect_ratio,
        "range": list(taken.limits),
        "values": [_number(value) for value in taken.values],
        "level": taken.level,
    }


def _number(value: np.generic) -> float | int:
    """A value that JSON gives back exactly."""
    found: float | int = value.item()
    return found


def _outputs(artifact: Any, info: FileInfo, vectors: Vectors) -> list[dict[str, Any]]:
    allowed = tolerance(info, artifact.target, artifact.verification.get("error_bound_steps"))
    mean = vectors_card(artifact, info, "", vectors)["mean_difference_bound"]
    rows = []
    for index, (tensor, array) in enumerate(zip(info.outputs, vectors.outputs, strict=True)):
        rows.append(
            {
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "scale": tensor.scale,
                "zero_point": tensor.zero_point,
                "allowed": {
                    backend: _allowed(info, index, allowed, mean, array, backend) for backend in (WASM, WEBGPU)
                },
            }
        )
    return rows


def _allowed(
    info: FileInfo, index: int, allowed: Tolerance, mean: float | None, array: np.ndarray, backend: str
) -> dict[str, float | None]:
    """Allowed difference from the vectors: the largest one, or the mean for a file that computes in float."""
    if allowed.largest_steps is None:
        bound = FLOAT_SHARE * float(np.abs(array).max()) if mean is None else mean
        return {"largest": None, "mean": bound}
    # A GPU computes int8 layers in float.
    steps = allowed.largest_steps + (FLOAT_STEPS if backend == WEBGPU else 0)
    return {"largest": value_tolerance(info, index, Tolerance(steps, None, ())), "mean": None}


# --- texts ------------------------------------------------------------------------------------------------------------


def _index_html(artifact: Any, info: FileInfo, card: dict[str, Any], taken: PictureInput, title: str) -> str:
    _, height, width, channels = taken.tensor.shape
    kind = "gray" if channels == 1 else "color"
    count = len(artifact.class_names)
    facts = [artifact.dtype, f"{artifact.size_bytes / 1024:,.1f} KiB", f"{width} × {height} {kind}"]
    result_title, note = templates.RESULTS[card["task"]]
    digest = base64.b64encode(hashlib.sha256(IMPORT_MAP.encode()).digest()).decode()
    texts = {
        "title": printable(title),
        "facts": " · ".join([*facts, f"{count} classes"] if count else facts),
        "result_title": result_title,
        "result_note": note,
        "input_words": f"{width} × {height}, {taken.preprocessing.words}{taken.doubt}",
        "litert_version": LITERT_JS_VERSION,
        "tolerance_words": _tolerance_words(artifact, info),
    }
    return templates.Template((PAGE / "index.html").read_text(encoding="utf-8")).substitute(
        {key: html.escape(text) for key, text in texts.items()},
        import_map=IMPORT_MAP,
        import_map_digest=f"sha256-{digest}",
    )


def _tolerance_words(artifact: Any, info: FileInfo) -> str:
    allowed = tolerance(info, artifact.target, artifact.verification.get("error_bound_steps"))
    return f"Against the outputs of LiteRT where the kit was made. Tolerance on WebAssembly: {allowed.words}."


def web_section(has_page: bool) -> str:
    """README's part."""
    return templates.WEB_SECTION if has_page else templates.NO_PAGE_SECTION
