"""A deployment kit's class for Android, and what its README says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import kit_android_templates as templates
from .flatbuffer import FileInfo, TensorInfo
from .kit_tensors import accelerator, c_float, is_classes, is_image, output_formula
from .kit_vectors import Vectors
from .targets import get_target

LITERT_VERSION = "2.3.0"  # of com.google.ai.edge.litert; from 2.3.0 on the GPU accelerator is an artifact of its own


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


def has_kotlin(info: FileInfo) -> bool:
    tensors = (*info.inputs, *info.outputs)
    return len(tensors) == 2 and all(tensor.dtype in KOTLIN_TYPES for tensor in tensors)


def kotlin(artifact: Any, info: FileInfo, name: str, class_name: str, vectors: Vectors) -> str:
    """A class for Android."""
    source, sink = info.inputs[0], info.outputs[0]
    fed, given = KOTLIN_TYPES[source.dtype], KOTLIN_TYPES[sink.dtype]
    npu = accelerator(artifact.target) == "NPU"
    image, classes = is_image(source), is_classes(artifact, sink)
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
    real = "{0}" if not sink.scale else f"({{0}} - ({sink.zero_point})) * {c_float(np.float32(sink.scale))}"
    value = given.value.format("output")
    postprocessing = templates.KOTLIN_VALUES.substitute(
        output_formula=output_formula(sink),
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
        (low, high), f"{pixel} / 255f * {c_float(np.float32(high - low))} + ({c_float(np.float32(low))})"
    )
    if tensor.dtype == "float32":
        return real
    ends = np.iinfo(tensor.dtype)
    if low == 0 and np.isclose(tensor.scale, high / 255, rtol=1e-5) and tensor.zero_point == ends.min:
        return f"({pixel} - {-ends.min}).toByte()" if ends.min else f"{pixel}.toByte()"
    level = f"(({real}) / {c_float(np.float32(tensor.scale))}).roundToInt() + ({tensor.zero_point})"
    return f"({level}).coerceIn({ends.min}, {ends.max}).toByte()"


def android_section(artifact: Any, info: FileInfo, name: str, class_name: str) -> str:
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
    if is_image(info.inputs[0]) and is_classes(artifact, info.outputs[0]):
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
