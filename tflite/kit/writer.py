"""``Artifact.save_kit``: a folder for mobile or firmware engineers, with the means to check a device.

All content is generated from the artifact and the outputs of a real runtime on a few images.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wavemix_tf.escaping import markdown
from wavemix_tf.files import replacing_folder

from ..file.flatbuffer import FileInfo, read_file
from ..file.identifiers import c_identifier, check_name, kotlin_class
from ..names import ANDROID_KIT, EDGE_TPU_KIT, RUNTIMES, WEB_KIT
from ..per_op.layer_costs import OpReport, op_report
from ..targets.table import get_target
from ..verification.tolerance import tolerance
from . import templates
from .android import android_section, has_kotlin, kotlin_files
from .c_files import c_section, main_c
from .edge_tpu import check_py, edge_tpu_section
from .ethos_files import compiled_words, ethos_files, ethos_section
from .existing import VECTORS_JSON, kit_digest, vectors_json
from .firmware_files import main_cc, micro_section
from .model_card import model_card
from .picture import PictureInput, picture_h
from .tensors import SCORES, is_classes, is_exact, is_image, output_formula, quantization, score_kind
from .vectors import Vectors, compute_vectors, vector_files, vectors_card, vectors_h, version
from .web import page_task, web_files, web_section

__all__ = ["VECTORS_JSON", "kit_digest", "kit_files", "readme", "write_kit"]
COSTS = "costs"  # folder of the pictures and node data


def write_kit(
    artifact: Any,
    folder: str | os.PathLike[str],
    overwrite: bool = False,
    *,
    name: str | None = None,
    images: Any = None,
    labels: Any = None,
    vectors: int = 4,
    report: Mapping[str, Any] | None = None,
    pictures: Any = None,
) -> Path:
    """Write the deployment kit of an artifact; see ``Artifact.save_kit``."""
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise FileExistsError(f"Pass overwrite=True to replace {folder}. Received: overwrite=False")
    if folder.exists() and vectors_json(folder) is None:
        # A wrong path must not delete another folder.
        raise FileExistsError(
            f"overwrite replaces a folder that save_kit wrote, with {VECTORS_JSON} in test_vectors/. Received: {folder}"
        )
    name = artifact.code_name if name is None else name
    name = check_name(f"{artifact.target}-{artifact.dtype}" if name is None else name)
    if vectors < 1:
        raise ValueError(f"vectors must be at least 1. Received: vectors={vectors}")
    info = read_file(artifact.content)
    computed = compute_vectors(artifact, info, images, labels, vectors, pictures)
    files = kit_files(artifact, info, name, computed, report)
    with replacing_folder(folder) as temporary:
        for path, content in files.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_bytes(content)
    return folder


def kit_files(
    artifact: Any, info: FileInfo, name: str, vectors: Vectors, report: Mapping[str, Any] | None
) -> dict[str, bytes]:
    """Path in the kit -> content, for every file."""
    artifact = dataclasses.replace(artifact, code_name=None)  # the name of the kit is that of the code
    saved = {path.name: content for path, content in artifact.files(Path(f"{name}.tflite")).items()}
    header = next((file for file in saved if file.endswith(".h")), None)
    row = get_target(artifact.target)
    npu, micro, android = artifact.npu is not None, header is not None and not row.writes_c, row.kit == ANDROID_KIT
    own = "c" if row.writes_c else "ethos_u" if npu else "micro"  # folder of the file in C
    c_name = header.removesuffix(".h") if header is not None else c_identifier(name)
    files: dict[str, bytes] = {}
    for file, content in saved.items():
        if file.endswith(".svg"):  # among the pictures of every kit
            continue
        files[f"{own}/{file}" if file.endswith((".h", ".cc", ".c")) else file] = content
    taken, beside = PictureInput.of(artifact, info), f"test_vectors/{name}"
    if npu:
        files |= {f"{own}/{file}": content for file, content in ethos_files(artifact, info, c_name).items()}
    c_folder = own if header is not None or npu else "native" if taken is not None else beside
    in_c = row.kit != WEB_KIT  # a browser runs no C
    if in_c:
        files[f"{c_folder}/{c_name}_vectors.h"] = vectors_h(c_name, info, vectors, with_picture=micro or npu).encode()
    if in_c and taken is not None:
        files[f"{c_folder}/{c_name}_picture.h"] = picture_h(taken, c_name).encode()
    files[f"{beside}/{VECTORS_JSON}"] = (
        json.dumps(vectors_card(artifact, info, f"{name}.tflite", vectors), indent=2) + "\n"
    ).encode()
    files |= vector_files(name, vectors)
    if micro:
        files["micro/main.cc"] = main_cc(artifact, info, c_name).encode()
    if row.writes_c:
        files["c/main.c"] = main_c(info, c_name).encode()
    if row.kit == EDGE_TPU_KIT:
        files["edge_tpu/check.py"] = check_py(artifact, info, name).encode()
    class_name = kotlin_class(name)
    if android and has_kotlin(info):
        for path, text in kotlin_files(artifact, info, name, class_name, vectors, taken).items():
            files[f"android/{path}"] = text.encode()
    title = str((report or {}).get("name") or artifact.model_name)
    if row.kit == WEB_KIT and taken is not None and page_task(artifact, info) is not None:
        for path, content in web_files(artifact, info, name, vectors, taken, title).items():
            files[f"web/{path}"] = content
        own_vectors = [path for path in files if path.startswith(f"{beside}/")]
        files |= {f"web/vectors/{Path(path).name}": files[path] for path in own_vectors}
    costs = op_report(artifact)
    files |= {f"{COSTS}/{path}": content for path, content in costs.files().items()}
    files["MODEL_CARD.md"] = model_card(artifact, info, name, vectors, report).encode()
    files["README.md"] = readme(artifact, info, name, c_name, class_name, vectors, files, costs).encode()
    return files


# --- Markdown ---------------------------------------------------------------------------------------------------------


def readme(
    artifact: Any,
    info: FileInfo,
    name: str,
    c_name: str,
    class_name: str,
    vectors: Vectors,
    files: Iterable[str],
    costs: OpReport,
) -> str:
    """README of the folder: its content and its use."""
    android = f"android/{class_name}.kt"
    described = {
        f"{name}.tflite": "the model",
        f"{name}.labels.txt": "name of each output, one per line",
        f"{name}.json": "all data about the file, for programs",
        f"{name}_vela.tflite": compiled_words(artifact),
        "MODEL_CARD.md": "all data about the model, for people",
        f"test_vectors/{name}/": "pictures, the inputs made from them, the expected outputs, and `vectors.json`, which "
        "describes how to read them",
        android: "the model for Kotlin, with a self-test",
        f"android/{class_name}Picture.kt": "makes the input from a picture, as in training; without Android classes",
        f"android/{class_name}Test.kt": "an instrumented test: from the pictures to the outputs",
        f"micro/{c_name}_picture.h": "makes the input from a picture, as in training, in C",
        f"native/{c_name}_picture.h": "makes the input from a picture, as in training, in C (for the NDK)",
        "micro/main.cc": "a self-test for TensorFlow Lite Micro",
        f"micro/{c_name}.h": "array, size, arena and ops of the model; `.cc` contains the array",
        f"micro/{c_name}_vectors.h": "the test vectors as C arrays",
        "ethos_u/main.cc": "a self-test for TensorFlow Lite Micro with the NPU's driver",
        f"ethos_u/{c_name}.h": "array, size, arena and op of the compiled model; `.cc` contains the array",
        f"ethos_u/{c_name}_picture.h": "makes the input from a picture, as in training, in C",
        f"ethos_u/{c_name}_vectors.h": "the test vectors as C arrays",
        "edge_tpu/check.py": "a self-test in Python, with or without the Edge TPU",
        "web/index.html": "the page for browsers; `web/README.md` starts it",
        "web/picture.js": "makes the input from a picture, as in training, in JavaScript",
        "c/main.c": "a self-test in C99",
        f"c/{c_name}.h": "sizes and scales of the program; `.c` is the program",
        f"c/{c_name}_picture.h": "how a picture becomes the input, as in training, in C",
        f"c/{c_name}_vectors.h": "the test vectors as C arrays",
        f"native/{c_name}_vectors.h": "the test vectors as C arrays",
        f"test_vectors/{name}/{c_name}_vectors.h": "the test vectors as C arrays",
    }
    described[f"{COSTS}/"] = "pictures of memory and cost by op, and node data for Model Explorer"
    present = {*files, f"test_vectors/{name}/", f"{COSTS}/"}
    sections = []
    if android in present:
        sections.append(android_section(artifact, info, name, class_name))
    elif get_target(artifact.target).kit == ANDROID_KIT:
        sections.append(
            "## Android\n\nLiteRT's Kotlin TensorBuffer does not support a dtype of this file, so there is no class.\n"
        )
    if "micro/main.cc" in present:
        sections.append(micro_section(artifact, info, c_name))
    if "c/main.c" in present:
        sections.append(c_section(artifact, info, c_name))
    if get_target(artifact.target).kit == WEB_KIT:
        sections.append(web_section("web/index.html" in present))
    if artifact.npu is not None:
        sections.append(ethos_section(artifact, info, name, c_name))
    if get_target(artifact.target).kit == EDGE_TPU_KIT:
        sections.append(edge_tpu_section(artifact, info, name))
    sections.append(costs_section(costs))
    return (
        templates.README.substitute(
            name=name,
            file=f"`{name}.tflite`",
            contents="\n".join(f"| `{file}` | {words} |" for file, words in described.items() if file in present),
            input_section=_input_section(artifact, info),
            output_section=_output_section(artifact, info),
            vectors_section=_vectors_section(artifact, info, vectors),
            device_section="\n".join(sections).rstrip("\n"),
        ).rstrip("\n")
        + "\n"
    )


def costs_section(costs: OpReport) -> str:
    """README's section on memory and cost by op."""
    lines = ["## Memory and cost by op", ""]
    if costs.plan is not None and costs.peak is not None:
        most = f"{max(costs.plan.live_bytes):,} bytes in op {costs.peak.index}, {markdown(costs.peak.title)}"
        lines += [
            f"Memory plan of {costs.plan.arena_bytes:,} bytes: {costs.planned}. The peak is {most}.",
            "",
            f"![Memory plan: bytes over the steps of an inference]({COSTS}/memory_plan.svg)",
            "",
        ]
    lines += [
        f"Cost by layer of the Keras model, the largest first: {costs.measured}.",
        "",
        f"![Cost by layer]({COSTS}/cost_by_layer.svg)",
        "",
        "The same over the graph of the file: `pip install ai-edge-model-explorer`, run `model-explorer` and open the "
        f"`.tflite` file, then add a `{COSTS}/*.node_data.json` file as per-node data.",
    ]
    return "\n".join(lines) + "\n"


def _input_section(artifact: Any, info: FileInfo) -> str:
    parts = []
    for tensor in info.inputs:
        shape = " x ".join(map(str, tensor.shape))
        lines = [f"{shape} {tensor.dtype}, row by row: " + quantization(tensor) + "."]
        if is_image(tensor):
            channels = tensor.shape[-1]
            colours = "red, green, blue in this order" if channels == 3 else "gray (0.299 R + 0.587 G + 0.114 B)"
            lines.append(
                f"Each value is **{artifact.input_meaning}**, where a pixel is 0 to 255; the real values, those of the "
                f"model, are {_real_values(artifact)}. Channels: {colours}."
            )
            taken = PictureInput.of(artifact, info)
            if taken is None:
                lines.append("How a pixel maps to the model's values is unknown, so the kit has no code for it.")
            else:
                lines.append(templates.PICTURE_SECTION.substitute(words=taken.words))
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


def _real_values(artifact: Any) -> str:
    limits = artifact.input_ranges[0]
    if limits is None:
        return "those it was calibrated with"
    low, high = limits
    known = {(0.0, 1.0): "pixel / 255", (0.0, 255.0): "the pixels"}
    return known.get((low, high), f"pixel / 255 * {high - low:g} + ({low:g})")


def _output_section(artifact: Any, info: FileInfo) -> str:
    parts = []
    for tensor in info.outputs:
        shape = " x ".join(map(str, tensor.shape))
        parts.append(f"{shape} {tensor.dtype}: {quantization(tensor)}. Real value: {output_formula(tensor)}.")
    if is_classes(artifact, info.outputs[0]):
        parts.append(f"One value per class, in the order of the labels: {SCORES[score_kind(info)]}.")
    return "\n\n".join(parts)


def _vectors_section(artifact: Any, info: FileInfo, vectors: Vectors) -> str:
    runtime = RUNTIMES[vectors.runtime]
    source = {"generated": "Generated images", "given": "Given images (the command uses test images)"}[vectors.source]
    lines = [
        f"{vectors.count} vectors. {source}; {runtime.words} ({runtime.package} {version(runtime.package)}) computed "
        "the expected outputs when this kit was made. "
        "A `.bin` file contains the vectors one after another, little-endian."
    ]
    allowed = tolerance(info, artifact.target, artifact.verification.get("error_bound_steps"))
    if not is_exact(info):
        card = vectors_card(artifact, info, "", vectors)
        bound = card["mean_difference_bound"]
        within = (
            "" if bound is None else f"; a mean absolute difference up to {bound:.2g} is the tolerance of this file"
        )
        lines.append(f"Floating-point results differ between processors in their last digits{within}.")
        if allowed.largest_steps:
            lines.append(f"They are computed from integers, which may be off by {allowed.words}.")
    elif allowed.largest_steps == 0:
        lines.append("Integers: compare bit by bit. The supported kernels of this target compute exactly these.")
    else:
        lines.append(
            f"Integers, **not** to be compared bit by bit: the tolerance is {allowed.words}. Larger differences are "
            "errors."
        )
    return "\n\n".join(lines)
