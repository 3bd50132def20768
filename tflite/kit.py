"""``Artifact.save_kit``: a folder that a mobile or firmware engineer can use at once, and check a device against.

Everything in it is text made from the artifact, and what a real runtime computes on a few images.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wavemix_tf.files import replacing_folder

from . import kit_templates as templates
from .flatbuffer import FileInfo, TensorInfo, read_file, to_input
from .images import check_inputs, generated_values
from .microcontroller import c_identifier, resolver_name
from .targets import get_target
from .verifier import run_raw

LITERT_VERSION = "2.3.0"  # of com.google.ai.edge.litert; from 2.3.0 on the GPU accelerator is an artifact of its own
VECTOR_BYTES = 64 << 10  # of input; more vectors would not fit the flash that a self-test may take
VECTORS_JSON = "test_vectors/vectors.json"
C_TYPES = {"float32": "float", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "int32": "int32_t"}
RUNTIMES = {
    "litert-xnnpack": ("LiteRT with XNNPACK, one thread", "ai-edge-litert"),
    "litert-reference": ("LiteRT's reference kernels", "ai-edge-litert"),
    "tflite-micro": ("TensorFlow Lite Micro's reference kernels", "tflite-micro"),
}
METRICS = {"accuracy": "top-1", "mean_iou": "mIoU", "psnr_y": "PSNR of the luma"}  # of report.json
UNKNOWN = "unknown"
LARGEST_LIST = 40  # class names; a longer list is in the labels alone


@dataclass(frozen=True)
class Vectors:
    """Inputs and what a runtime computed for them.

    Args:
        runtime: "litert-xnnpack", "litert-reference" or "tflite-micro".
        inputs: One array (N, ...) an input, of its dtype.
        outputs: One array (N, ...) an output, of its dtype.
        source: Where the inputs come from, in words.
        labels: True class of each vector; None where it is not known.
    """

    runtime: str
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    source: str
    labels: tuple[str | None, ...]

    @property
    def count(self) -> int:
        return len(self.inputs[0])


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
) -> Path:
    """Write the deployment kit of an artifact; see ``Artifact.save_kit``."""
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise FileExistsError(f"Pass overwrite=True to replace {folder}. Received: overwrite=False")
    if folder.exists() and not (folder / VECTORS_JSON).is_file():
        # A slip of the path must not cost a folder of something else.
        raise FileExistsError(
            f"overwrite replaces a folder that save_kit wrote, with {VECTORS_JSON}. Received: {folder}"
        )
    name = f"{artifact.target}-{artifact.dtype}" if name is None else name
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise ValueError(f"name must be of letters, digits, '_', '-' and '.'. Received: name={name!r}")
    if vectors < 1:
        raise ValueError(f"vectors must be at least 1. Received: vectors={vectors}")
    info = read_file(artifact.content)
    computed = compute_vectors(artifact, info, images, labels, vectors)
    files = kit_files(artifact, info, name, computed, report)
    with replacing_folder(folder) as temporary:
        for path, content in files.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_bytes(content)
    return folder


def kit_digest(folder: Path) -> str | None:
    """sha256 of the file that a kit in ``folder`` was made for; None if there is no kit."""
    try:
        return str(json.loads((folder / VECTORS_JSON).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compute_vectors(artifact: Any, info: FileInfo, images: Any, labels: Any, count: int) -> Vectors:
    """Run a few images in the first runtime of the artifact's target.

    Args:
        artifact: From ``export`` or ``Artifact.load``.
        info: Its content, read.
        images: float (N, H, W, C) as for ``verify``; None: generated ones.
        labels: Integer class of each image (N,); None: not known.
        count: Vectors, at most; fewer of large inputs.
    """
    input_bytes = sum(int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize for tensor in info.inputs)
    count = max(1, min(count, VECTOR_BYTES // input_bytes))
    ranges = list(artifact.input_ranges)
    classes = None
    if images is None:
        chosen = [
            generated_values(tuple(tensor.shape[1:]), limits, seed, count)
            for seed, (tensor, limits) in enumerate(zip(info.inputs, ranges, strict=True))
        ]
        source = "generated"
    else:
        chosen = [part[:count] for part in check_inputs(images, info.inputs, ranges, name="images")]
        source = "given"
        classes = None if labels is None else np.asarray(labels).reshape(-1)
        if classes is not None and len(classes) < len(chosen[0]):
            raise ValueError(
                f"labels must name a class for each image. Received: {len(classes)} labels, {len(chosen[0])} images"
            )
    runtime = get_target(artifact.target).runtimes[0]
    inputs = [to_input(tensor, part) for tensor, part in zip(info.inputs, chosen, strict=True)]
    named = [None if classes is None else artifact.class_names[int(classes[i])] for i in range(len(chosen[0]))]
    outputs = run_raw(artifact.content, inputs, runtime)
    return Vectors(runtime, tuple(inputs), tuple(outputs), source, tuple(named))


def kit_files(
    artifact: Any, info: FileInfo, name: str, vectors: Vectors, report: Mapping[str, Any] | None
) -> dict[str, bytes]:
    """Path in the kit -> content of everything that it holds."""
    saved = {path.name: content for path, content in artifact.files(Path(f"{name}.tflite")).items()}
    header = next((file for file in saved if file.endswith(".h")), None)
    micro, android = header is not None, artifact.target.startswith("android")
    c_name = header.removesuffix(".h") if header is not None else c_identifier(name)
    files: dict[str, bytes] = {}
    for file, content in saved.items():
        files[f"micro/{file}" if file.endswith((".h", ".cc")) else file] = content
    vectors_header = vectors_h(c_name, info, vectors).encode()
    files[f"{'micro' if micro else 'test_vectors'}/{c_name}_vectors.h"] = vectors_header
    files[VECTORS_JSON] = (
        json.dumps(vectors_card(artifact, info, f"{name}.tflite", vectors), indent=2) + "\n"
    ).encode()
    for kind, arrays in (("input", vectors.inputs), ("expected", vectors.outputs)):
        for index, array in enumerate(arrays):
            files[f"test_vectors/{kind}_{index}.bin"] = array.astype(array.dtype.newbyteorder("<")).tobytes()
    if micro:
        files["micro/main.cc"] = main_cc(artifact, info, c_name).encode()
    class_name = "".join(part.capitalize() for part in re.split(r"\W|_", name))
    class_name = class_name if class_name[0].isalpha() else f"Model{class_name}"
    if android and _has_kotlin(info):
        files[f"android/{class_name}.kt"] = kotlin(artifact, info, name, class_name, vectors).encode()
    files["MODEL_CARD.md"] = model_card(artifact, info, name, vectors, report).encode()
    files["README.md"] = readme(artifact, info, name, c_name, class_name, vectors, files).encode()
    return files


# --- test vectors -----------------------------------------------------------------------------------------------------


def vectors_card(artifact: Any, info: FileInfo, file: str, vectors: Vectors) -> dict[str, Any]:
    """What ``vectors.json`` says: how to read the .bin files, and how near a device should come."""
    bound = artifact.verification.get("error_bound_steps", {}).get(vectors.runtime)
    step = artifact.verification.get("fidelity", {}).get("step")
    exact = _is_exact(info)
    words, package = RUNTIMES[vectors.runtime]
    return {
        "file": file,
        "sha256": artifact.sha256,
        "runtime": vectors.runtime,
        "runtime_words": words,
        "runtime_version": _version(package),
        "images": vectors.source,
        "vectors": vectors.count,
        "byte_order": "little",
        "compare": "integers, bit by bit" if exact else "floats, by the mean absolute difference",
        "mean_difference_bound": None if exact or bound is None or step is None else bound * step,
        "inputs": [
            _array_card(f"input_{i}.bin", tensor, array)
            for i, (tensor, array) in enumerate(zip(info.inputs, vectors.inputs, strict=True))
        ],
        "outputs": [
            _array_card(f"expected_{i}.bin", tensor, array)
            for i, (tensor, array) in enumerate(zip(info.outputs, vectors.outputs, strict=True))
        ],
        "labels": list(vectors.labels),
        "first_class": _first_classes(artifact, vectors),
    }


def _array_card(file: str, tensor: TensorInfo, array: np.ndarray) -> dict[str, Any]:
    return {
        "file": file,
        "name": tensor.name,
        "shape": list(array.shape),
        "dtype": tensor.dtype,
        "scale": tensor.scale,
        "zero_point": tensor.zero_point,
    }


def _first_classes(artifact: Any, vectors: Vectors) -> list[str] | None:
    """Name of the largest output of each vector; None where the output is no row of classes."""
    scores = vectors.outputs[0]
    if scores.ndim != 2 or scores.shape[1] != len(artifact.class_names):
        return None
    return [artifact.class_names[int(index)] for index in scores.argmax(-1)]


def vectors_h(c_name: str, info: FileInfo, vectors: Vectors) -> str:
    """The vectors as C arrays, (vectors, values) each."""
    sizes, arrays = [], []
    for kind, tensors, found in (
        ("input", info.inputs, vectors.inputs),
        ("expected", info.outputs, vectors.outputs),
    ):
        for index, (tensor, array) in enumerate(zip(tensors, found, strict=True)):
            array_name, size = f"{c_name}_{kind}_{index}", array[0].size
            sizes.append(f"  {array_name}_size = {size}")
            rows = ",\n".join(f"    {{{_c_values(row.ravel())}}}" for row in array)
            arrays.append(
                f"// {'x'.join(map(str, array.shape[1:]))} {tensor.dtype}, "
                f"{_quantization(tensor) if tensor.scale else 'no quantization'}.\n"
                f"static const {C_TYPES[tensor.dtype]} {array_name}[{array.shape[0]}][{size}] = {{\n{rows}}};\n"
            )
    return templates.VECTORS_H.substitute(
        name=c_name,
        guard=f"{c_name.upper()}_VECTORS_H_",
        runtime=RUNTIMES[vectors.runtime][0],
        count=vectors.count,
        sizes=",\n".join(sizes),
        arrays="\n".join(arrays),
    )


def _c_values(values: np.ndarray) -> str:
    texts = [_c_float(value) for value in values] if values.dtype.kind == "f" else [str(int(value)) for value in values]
    return ",\n     ".join(", ".join(texts[i : i + 20]) for i in range(0, len(texts), 20))


def _c_float(value: np.floating) -> str:
    """A float literal that reads back as the same float32."""
    text = f"{float(value):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


# --- C++ --------------------------------------------------------------------------------------------------------------


def main_cc(artifact: Any, info: FileInfo, c_name: str) -> str:
    """A self-test for TensorFlow Lite Micro."""
    checks, feeds, comparisons = [], [], []
    for index in range(len(info.inputs)):
        array = f"{c_name}_input_{index}"
        checks.append(templates.SIZE_CHECK.substitute(side="input", index=index, array=array))
        feeds.append(templates.FEED.substitute(index=index, array=array))
    for index, tensor in enumerate(info.outputs):
        array = f"{c_name}_expected_{index}"
        checks.append(templates.SIZE_CHECK.substitute(side="output", index=index, array=array))
        comparisons.append(templates.COMPARISON.substitute(index=index, array=array, ctype=C_TYPES[tensor.dtype]))
    return templates.MAIN_CC.substitute(
        name=c_name,
        op_list=", ".join(resolver_name(op) for op in sorted(set(artifact.ops))),
        input_count=len(info.inputs),
        output_count=len(info.outputs),
        size_checks="".join(checks),
        feeds="".join(feeds).rstrip("\n"),
        comparisons="".join(comparisons).rstrip("\n"),
    )


# --- Kotlin -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _KotlinType:
    """How Kotlin and LiteRT's TensorBuffer hold a dtype."""

    array: str
    write: str
    read: str
    from_bytes: str  # of {0}, a ByteArray in little-endian order
    value: str  # of element {0}, as a Float


KOTLIN_TYPES = {
    "float32": _KotlinType("FloatArray", "writeFloat", "readFloat", "floats({0})", "{0}[i]"),
    "int8": _KotlinType("ByteArray", "writeInt8", "readInt8", "{0}", "{0}[i].toFloat()"),
    # TensorBuffer knows no uint8; the bytes are the same.
    "uint8": _KotlinType("ByteArray", "writeInt8", "readInt8", "{0}", "({0}[i].toInt() and 0xFF).toFloat()"),
}


def _has_kotlin(info: FileInfo) -> bool:
    tensors = (*info.inputs, *info.outputs)
    return len(tensors) == 2 and all(tensor.dtype in KOTLIN_TYPES for tensor in tensors)


def accelerator(target: str) -> str:
    """LiteRT's accelerator for a target: "CPU", "GPU" or "NPU"."""
    return next((kind for kind in ("GPU", "NPU") if kind.lower() in target.split("-")), "CPU")


def kotlin(artifact: Any, info: FileInfo, name: str, class_name: str, vectors: Vectors) -> str:
    """A class for Android."""
    source, sink = info.inputs[0], info.outputs[0]
    fed, given = KOTLIN_TYPES[source.dtype], KOTLIN_TYPES[sink.dtype]
    npu = accelerator(artifact.target) == "NPU"
    image, classes = _is_image(source), _is_classes(artifact, sink)
    imports = {
        "android.content.Context",
        "android.content.res.AssetManager",
        "com.google.ai.edge.litert.Accelerator",
        "com.google.ai.edge.litert.CompiledModel",
        "kotlin.math.abs",
    }
    floats = "float32" in (source.dtype, sink.dtype)
    if floats:
        imports |= {"java.nio.ByteBuffer", "java.nio.ByteOrder"}
    environment = "Environment.create(context, BuiltinNpuAcceleratorProvider(context))"
    if npu:
        imports |= {f"com.google.ai.edge.litert.{one}" for one in ("BuiltinNpuAcceleratorProvider", "Environment")}
    preprocessing = ""
    if image:
        imports.add("android.graphics.Bitmap")
        _, height, width, channels = source.shape
        preprocessing = templates.KOTLIN_PIXELS.substitute(
            height=height,
            width=width,
            channels=channels,
            channel_words="red, green, blue" if channels == 3 else "grey (ITU-R BT.601 luma, as in training)",
            meaning=artifact.to_dict()["input_meaning"],
            input_array=fed.array,
            writes=_kotlin_writes(source, artifact.input_ranges[0]),
        )
        if "roundToInt" in preprocessing:
            imports.add("kotlin.math.roundToInt")
    real = "{0}" if not sink.scale else f"({{0}} - ({sink.zero_point})) * {_c_float(np.float32(sink.scale))}"
    value = given.value.format("output")
    postprocessing = templates.KOTLIN_VALUES.substitute(
        output_formula=_output_formula(sink),
        output_array=given.array,
        values_body="output" if sink.dtype == "float32" else f"FloatArray(output.size) {{ i -> {real.format(value)} }}",
    )
    if image and classes:
        postprocessing += templates.KOTLIN_IMAGE.substitute()
    return templates.KOTLIN.substitute(
        class_name=class_name,
        file=f"{name}.tflite",
        labels=f"{name}.labels.txt",
        version=LITERT_VERSION,
        device=get_target(artifact.target).device,
        imports="\n".join(f"import {one}" for one in sorted(imports)),
        environment=f"    private val environment = {environment}\n" if npu else "",
        env_argument=", environment" if npu else "",
        close_environment="        environment.close()\n" if npu else "",
        accelerator=accelerator(artifact.target),
        preprocessing=preprocessing,
        postprocessing=postprocessing,
        input_words=f"{'x'.join(map(str, source.shape[1:]))} {source.dtype} values"
        + (f", {artifact.to_dict()['input_meaning']}" if image else ""),
        input_array=fed.array,
        output_array=given.array,
        write=fed.write,
        read=given.read,
        unit="output steps" if sink.scale else "the output's own unit",
        input_from_bytes=fed.from_bytes.format("input.copyOfRange(vector * inputBytes, (vector + 1) * inputBytes)"),
        output_from_bytes=given.from_bytes.format(
            "expected.copyOfRange(vector * outputBytes, (vector + 1) * outputBytes)"
        ),
        floats=templates.KOTLIN_FLOATS.substitute() if floats else "",
        found_value=given.value.format("found"),
        wanted_value=given.value.format("wanted"),
        count=vectors.count,
    )


def _kotlin_writes(tensor: TensorInfo, limits: tuple[float, float] | None) -> str:
    """Statements that put pixel i, as ``red``, ``green`` and ``blue`` in 0..255, into ``input``."""
    channels = tensor.shape[-1]
    indent = " " * 12
    if channels == 3:
        return "\n".join(
            f"{indent}input[3 * i{f' + {c}' if c else ''}] = {_kotlin_pixel(tensor, colour, limits)}"
            for c, colour in enumerate(("red", "green", "blue"))
        )
    grey = f"{indent}val grey = 19595 * red + 38470 * green + 7471 * blue + 32768 shr 16"
    return f"{grey}\n{indent}input[i] = {_kotlin_pixel(tensor, 'grey', limits)}"


def _kotlin_pixel(tensor: TensorInfo, pixel: str, limits: tuple[float, float] | None) -> str:
    """A pixel in 0..255 as the input takes it, where 0 and 255 are the ends of the input's range."""
    low, high = limits or (0.0, 1.0)
    real = {(0.0, 1.0): f"{pixel} / 255f", (0.0, 255.0): f"{pixel}.toFloat()"}.get(
        (low, high), f"{pixel} / 255f * {_c_float(np.float32(high - low))} + ({_c_float(np.float32(low))})"
    )
    if tensor.dtype == "float32":
        return real
    ends = np.iinfo(tensor.dtype)
    if low == 0 and np.isclose(tensor.scale, high / 255, rtol=1e-5) and tensor.zero_point == ends.min:
        return f"({pixel} - {-ends.min}).toByte()" if ends.min else f"{pixel}.toByte()"
    level = f"(({real}) / {_c_float(np.float32(tensor.scale))}).roundToInt() + ({tensor.zero_point})"
    return f"({level}).coerceIn({ends.min}, {ends.max}).toByte()"


# --- Markdown ---------------------------------------------------------------------------------------------------------


def readme(
    artifact: Any, info: FileInfo, name: str, c_name: str, class_name: str, vectors: Vectors, files: Iterable[str]
) -> str:
    """What is in the folder and how to use it."""
    android = f"android/{class_name}.kt"
    described = {
        f"{name}.tflite": "the model",
        f"{name}.labels.txt": "name of each output, a line each",
        f"{name}.json": "everything known of the file, for programs",
        "MODEL_CARD.md": "everything known of the model, for people",
        "test_vectors/": "inputs and expected outputs, raw bytes, and `vectors.json` that says how to read them",
        android: "the model for Kotlin, with its pre-processing and a self-test",
        "micro/main.cc": "a self-test for TensorFlow Lite Micro",
        f"micro/{c_name}.h": "array, size, arena and ops of the model; `.cc` holds the array",
        f"micro/{c_name}_vectors.h": "the test vectors as C arrays",
        f"test_vectors/{c_name}_vectors.h": "the test vectors as C arrays",
    }
    present = {*files, "test_vectors/"}
    sections = []
    if android in present:
        sections.append(_android_section(artifact, info, name, class_name))
    elif artifact.target.startswith("android"):
        sections.append(
            "## Android\n\nLiteRT's Kotlin TensorBuffer has no call for a dtype of this file: there is no class.\n"
        )
    if "micro/main.cc" in present:
        sections.append(templates.MICRO_SECTION.substitute(c_name=c_name, arena_bytes=f"{artifact.arena_bytes:,}"))
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


def _android_section(artifact: Any, info: FileInfo, name: str, class_name: str) -> str:
    kind = accelerator(artifact.target)
    dependencies = [f'    implementation("com.google.ai.edge.litert:litert:{LITERT_VERSION}")']
    words = ""
    if kind == "GPU":
        dependencies.append(f'    implementation("com.google.ai.edge.litert:litert-gpu:{LITERT_VERSION}")')
        words = (
            "\n`Accelerator.GPU` alone makes `CompiledModel.create` throw where the phone's GPU cannot run the whole "
            "model; `CompiledModel.Options(Accelerator.GPU, Accelerator.CPU)` lets the CPU take what is left.\n"
        )
    elif kind == "NPU":
        dependencies.append("    // and the runtime of the NPU's maker, for example")
        dependencies.append(
            f'    // implementation("com.google.ai.edge.litert:litert-npu-runtime-qualcomm:{LITERT_VERSION}")'
        )
        words = "\nOps that the NPU does not take run on the CPU.\n"
    usage = [f'    Log.i("{class_name}", "largest difference: ${{model.checkVectors(context.assets)}}")']
    if _is_image(info.inputs[0]) and _is_classes(artifact, info.outputs[0]):
        usage.append("    val (label, value) = model.classify(bitmap).first()")
    return templates.ANDROID_SECTION.substitute(
        version=LITERT_VERSION,
        dependencies="\n".join(dependencies),
        file=f"{name}.tflite",
        labels=f"{name}.labels.txt",
        class_name=class_name,
        usage="\n".join(usage),
        accelerator_words=words,
    )


def _input_section(artifact: Any, info: FileInfo) -> str:
    parts = []
    for tensor in info.inputs:
        shape = " x ".join(map(str, tensor.shape))
        lines = [f"{shape} {tensor.dtype}, row by row: " + _quantization(tensor) + "."]
        if _is_image(tensor):
            _, height, width, channels = tensor.shape
            colours = "red, green, blue in this order" if channels == 3 else "grey (0.299 R + 0.587 G + 0.114 B)"
            lines.append(
                f"Each value is **{artifact.input_meaning}**, where a pixel is 0 to 255; the real values, those of the "
                f"model, are {_real_values(artifact)}. Channels: {colours}. Resize an image to {height} x {width} "
                "(height x width) with antialiasing, as the training data was; whether to crop it first is in the "
                "model card, as far as it is known."
            )
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
        parts.append(f"{shape} {tensor.dtype}: {_quantization(tensor)}. Real value: {_output_formula(tensor)}.")
    last = artifact.ops[-1] if artifact.ops[-1] not in ("QUANTIZE", "DEQUANTIZE") else artifact.ops[-2]
    if _is_classes(artifact, info.outputs[0]):
        kind = (
            "probabilities" if last == "SOFTMAX" else "scores (logits): take the largest; softmax makes shares of them"
        )
        parts.append(f"One value a class, in the order of the labels: {kind}.")
    return "\n\n".join(parts)


def _vectors_section(artifact: Any, info: FileInfo, vectors: Vectors) -> str:
    words, package = RUNTIMES[vectors.runtime]
    source = {"generated": "Generated images", "given": "Images that were given (the command gives test images)"}[
        vectors.source
    ]
    lines = [
        f"{vectors.count} vectors. {source}; the expected outputs are what {words} ({package} {_version(package)}) "
        "computed for them where this kit was made. A `.bin` file holds the vectors one after another, little-endian."
    ]
    if not _is_exact(info):
        card = vectors_card(artifact, info, "", vectors)
        bound = card["mean_difference_bound"]
        within = (
            "" if bound is None else f"; a mean absolute difference up to {bound:.2g} is the bound that this file kept"
        )
        lines.append(f"Floating-point results differ between processors in their last digits{within}.")
    elif vectors.runtime == "tflite-micro":
        lines.append("TensorFlow Lite Micro's reference kernels must give every integer: compare bit by bit.")
    else:
        lines.append(
            "Integers: compare bit by bit. XNNPACK has kernels of its own for each kind of processor; where one rounds "
            "a half-way product the other way, a value may be one step off."
        )
    return "\n\n".join(lines)


def model_card(artifact: Any, info: FileInfo, name: str, vectors: Vectors, report: Mapping[str, Any] | None) -> str:
    """The model card: what the artifact and the run's report say, and "unknown" where they say nothing."""
    report = report or {}
    row = _report_row(artifact, report)
    device = get_target(artifact.target).device
    network = report.get("model", {})
    counts = {op: artifact.ops.count(op) for op in sorted(set(artifact.ops))}
    identity = [
        ("network", network.get("name", artifact.model_name)),
        ("parameters", f"{network['parameters']:,}" if "parameters" in network else UNKNOWN),
        ("target", f"{artifact.target}: {device}"),
        ("arithmetic", artifact.dtype),
        ("size of the file", f"{artifact.size_bytes:,} bytes"),
        ("tensor arena", _arena(artifact)),
        ("sha256", f"`{artifact.sha256}`"),
        ("upsampling written as", artifact.upsample_form or "no transposed convolution in the model"),
        ("activations replaced", ", ".join(artifact.substituted) or "none"),
        ("made", report.get("created", UNKNOWN)),
        ("by", f"`{report['command']}`" if "command" in report else UNKNOWN),
        ("with", ", ".join(f"{k} {v}" for k, v in report.get("versions", {}).items()) or UNKNOWN),
    ]
    tensors = [
        f"- {side}: {' x '.join(map(str, tensor.shape))} {tensor.dtype}, {_quantization(tensor)}"
        for side, group in (("input", info.inputs), ("output", info.outputs))
        for tensor in group
    ]
    if _is_image(info.inputs[0]):
        tensors.append(f"- an input value is {artifact.to_dict()['input_meaning']}, a pixel 0 to 255")
    names = ", ".join(artifact.class_names[:LARGEST_LIST])
    more = len(artifact.class_names) - LARGEST_LIST
    tensors.append(f"- {len(artifact.class_names)} outputs: {names}" + (f" and {more} more" if more > 0 else ""))
    return templates.MODEL_CARD.substitute(
        name=name,
        summary=f"`{name}.tflite`, for {device}. What is not known is said to be unknown.",
        identity=_rows(identity),
        tensors="\n".join(tensors),
        data=_data(report),
        metrics=_metrics(report, row),
        verification=_verification(artifact, vectors),
        ops=f"{len(artifact.ops)} ops of {len(counts)} kinds.\n\n| op | times |\n|---|---|\n" + _rows(counts.items()),
        limits="\n".join(f"- {text}" for text in _limits(artifact, vectors, row)),
        licence="Of these weights: unknown; it follows from the data and from whoever trained them. wavemix-tf, which "
        "wrote the file, is under Apache-2.0, which says nothing about the weights.",
    )


def _report_row(artifact: Any, report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The report's results of exactly this file, known by its digest."""
    for export in report.get("exports", []):
        if export.get("card", {}).get("sha256") == artifact.sha256:
            return next((row for row in report.get("results", []) if row.get("name") == export["name"]), None)
    return None


def _data(report: Mapping[str, Any]) -> str:
    recipe, data = report.get("recipe", {}), report.get("dataset", {})
    if not data:
        return "Unknown: the kit was made without the report of a training run."
    height, width, channels = data["image_shape"]
    rows = [
        ("data set", recipe.get("dataset", UNKNOWN)),
        ("recipe", recipe.get("name", UNKNOWN)),
        *((f"{kind} images", f"{count:,}") for kind, count in data["sizes"].items()),
        ("classes", f"{len(data['class_names']):,}"),
        ("image", f"{height} x {width}, {channels} channel{'s' if channels > 1 else ''}"),
        (
            "brought to that size by",
            {
                True: "cropping the centre to the proportions, then resizing",
                False: "resizing, proportions not kept",
            }.get(recipe.get("crop_to_aspect_ratio"), UNKNOWN),
        ),
        ("epochs, of them int8", f"{recipe.get('epochs', UNKNOWN)}, {recipe.get('qat_epochs', UNKNOWN)}"),
        ("where the images come from, and consent", UNKNOWN),
    ]
    return "| | |\n|---|---|\n" + _rows(rows)


def _metrics(report: Mapping[str, Any], row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "Accuracy: unknown; there is no report of a run that measured this file."
    tested = report.get("dataset", {}).get("tested")
    metric = report.get("metric", "accuracy")
    lines = [f"| | {METRICS[metric]} on the test images |", "|---|---|"]
    for other in report["results"]:
        if other is row or other.get("runtime") == "Keras":
            mark = "**this file**, " if other is row else ""
            lines.append(f"| {mark}{other['name']} ({other['runtime']}) | {_score(other.get(metric), metric)} |")
    lines.append("")
    lines.append(f"{UNKNOWN if tested is None else f'{tested:,}'} test images, seen by neither training nor export.")
    latency = row.get("latency_ms") or {}
    if latency:
        machine = report.get("machine")
        where = machine if isinstance(machine, str) else ", ".join(f"{k} {v}" for k, v in (machine or {}).items())
        lines.append(
            f"Latency p50 {latency['p50']:.3g} ms, p90 {latency['p90']:.3g} ms at batch 1 under LiteRT on the machine "
            f"that made the file ({where or UNKNOWN}): no device's figure."
        )
    return "\n".join(lines)


def _verification(artifact: Any, vectors: Vectors) -> str:
    checks = artifact.verification
    lines = []
    for key, title in (
        ("fidelity", "Against the Keras model that the file computes"),
        ("against_given_model", "Against the Keras model that was given to export"),
    ):
        found = checks.get(key)
        if not found:
            lines.append(f"{title}: {UNKNOWN}.")
            continue
        lines += [
            f"{title} (images: {checks.get('images', UNKNOWN)}; a step is {found['step']:.4g}):",
            "",
            "| runtime | images | mean error, steps | largest | bound of the mean | same first class |",
            "|---|---|---|---|---|---|",
        ]
        for one in found["runtimes"]:
            bound = checks.get("error_bound_steps", {}).get(one["runtime"])
            shown = UNKNOWN if bound is None else f"{bound:g}"
            judged = "not judged" if one["agreement"] is None or found["degenerate"] else _percent(one["agreement"])
            lines.append(
                f"| {RUNTIMES[one['runtime']][0]} | {one['images']:,} | {one['mean_error_steps']:.3g} | "
                f"{one['max_error_steps']:.3g} | {shown if key == 'fidelity' else '-'} | "
                f"{judged} of {one['counted']:,} |"
            )
        lines.append("")
    lines.append(f"Every op was checked against the list of target {artifact.target} before the file was written.")
    return "\n".join(lines)


def _limits(artifact: Any, vectors: Vectors, row: Mapping[str, Any] | None) -> list[str]:
    checks = artifact.verification
    limits = [
        "It was run in the runtimes named above on the machine that made it, and on no phone, board or accelerator.",
        "It answers with one of its outputs whatever it is shown; how it does on images unlike its data is unknown.",
        "Fairness, robustness and uses that it was not made for: unknown.",
    ]
    if row is None:
        limits.append("Its accuracy is unknown here.")
    if checks.get("images") == "generated":
        limits.append("It was verified on generated images, not on real ones.")
    if checks.get("fidelity", {}).get("degenerate"):
        limits.append("Its outputs hardly depend on the image: it looks untrained.")
    if artifact.arena_bytes is not None:
        limits.append("The arena was measured with reference kernels on a 64-bit host; tuned kernels may need more.")
    if accelerator(artifact.target) != "CPU":
        limits.append("The accelerator's own rounding (float16 on most) is not in the verification figures.")
    return limits


def _arena(artifact: Any) -> str:
    if artifact.arena_bytes is None:
        return "not of this target"
    return f"{artifact.arena_bytes:,} bytes under TensorFlow Lite Micro, measured on a 64-bit host"


def _is_image(tensor: TensorInfo) -> bool:
    """Whether it is one image, grey or RGB."""
    return len(tensor.shape) == 4 and tensor.shape[0] == 1 and tensor.shape[-1] in (1, 3)


def _is_classes(artifact: Any, tensor: TensorInfo) -> bool:
    return len(tensor.shape) == 2 and tensor.shape[-1] == len(artifact.class_names)


def _is_exact(info: FileInfo) -> bool:
    """Whether the outputs are integers, which can be compared bit by bit."""
    return all(tensor.dtype != "float32" for tensor in info.outputs)


def _quantization(tensor: TensorInfo) -> str:
    if not tensor.scale:
        return "not quantized"
    return f"scale {tensor.scale:.9g}, zero point {tensor.zero_point}"


def _output_formula(tensor: TensorInfo) -> str:
    return f"(q - ({tensor.zero_point})) * {tensor.scale:.9g}" if tensor.scale else "as it is"


def _score(value: float | None, metric: str) -> str:
    """A share in percent, or decibels."""
    return f"{value:.2f} dB" if metric == "psnr_y" and value is not None else _percent(value)


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.2f} %"


def _rows(pairs: Iterable[tuple[Any, Any]]) -> str:
    return "\n".join(f"| {key} | {str(value).replace('|', chr(92) + '|')} |" for key, value in pairs)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN
