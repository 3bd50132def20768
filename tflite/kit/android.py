"""The Android class of a deployment kit, and its section of the README."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..file.flatbuffer import FileInfo
from ..targets.table import get_target
from ..verification.verifier import OUTPUT_SHARE
from . import android_templates as templates
from .picture import PictureInput, picture_kt
from .tensors import c_float, is_classes, is_exact, output_formula
from .vectors import Vectors

LITERT_VERSION = "2.3.0"  # of com.google.ai.edge.litert; from 2.3.0 on the GPU accelerator is a separate artifact


@dataclass(frozen=True)
class _KotlinType:
    """Representation of a dtype in Kotlin and LiteRT's TensorBuffer."""

    array: str
    write: str
    read: str
    from_bytes: str  # of {0}, a ByteArray in little-endian order
    value: str  # of element {0}, as a Float


KOTLIN_TYPES = {
    "float32": _KotlinType("FloatArray", "writeFloat", "readFloat", "floats({0})", "{0}[i]"),
    "int8": _KotlinType("ByteArray", "writeInt8", "readInt8", "{0}", "{0}[i].toFloat()"),
    # TensorBuffer has no uint8; the bytes are the same.
    "uint8": _KotlinType("ByteArray", "writeInt8", "readInt8", "{0}", "({0}[i].toInt() and 0xFF).toFloat()"),
}


def has_kotlin(info: FileInfo) -> bool:
    tensors = (*info.inputs, *info.outputs)
    return len(tensors) == 2 and all(tensor.dtype in KOTLIN_TYPES for tensor in tensors)


def kotlin_files(
    artifact: Any, info: FileInfo, name: str, class_name: str, vectors: Vectors, taken: PictureInput | None
) -> dict[str, str]:
    """File name -> text: the class, its instrumented test and the code that makes its input from a picture."""
    files = {
        f"{class_name}.kt": _kotlin(artifact, info, name, class_name, vectors, taken),
        f"{class_name}Test.kt": templates.KOTLIN_TEST.substitute(
            class_name=class_name,
            tolerance=c_float(np.float32(_tolerance(artifact, info, vectors))),
            pictures=templates.KOTLIN_PICTURE_TEST.substitute(
                class_name=class_name, level=c_float(np.float32(1.001 * taken.level))
            )
            if taken is not None
            else "",
        ),
    }
    if taken is not None:
        files[f"{class_name}Picture.kt"] = picture_kt(taken, f"{name}.tflite", class_name)
    return files


def _tolerance(artifact: Any, info: FileInfo, vectors: Vectors) -> float:
    """Largest allowed difference of an output value from the vectors' on a phone, in the unit of ``checkVectors``."""
    if is_exact(info):
        return 1.0
    bound = artifact.verification.get("error_bound_steps", {}).get(vectors.runtime)
    step = artifact.verification.get("fidelity", {}).get("step")
    return 0.0 if bound is None or step is None else OUTPUT_SHARE * bound * step


def _kotlin(
    artifact: Any, info: FileInfo, name: str, class_name: str, vectors: Vectors, taken: PictureInput | None
) -> str:
    source, sink = info.inputs[0], info.outputs[0]
    fed, given = KOTLIN_TYPES[source.dtype], KOTLIN_TYPES[sink.dtype]
    npu = get_target(artifact.target).litert_accelerator == "NPU"
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
    picture_functions = ""
    if taken is not None:
        imports |= {
            "android.graphics.Bitmap",
            "android.graphics.BitmapFactory",
            "android.graphics.ImageDecoder",
            "android.graphics.Matrix",
            "android.media.ExifInterface",
            "android.os.Build",
            "java.io.ByteArrayInputStream",
            "java.nio.ByteBuffer",
        }
        picture_functions = templates.KOTLIN_PICTURES.substitute(
            class_name=class_name,
            name=name,
            words=taken.words,
            meaning=artifact.to_dict()["input_meaning"],
            input_array=fed.array,
            found_value=fed.value.format("made"),
            wanted_value=fed.value.format("wanted"),
            input_from_bytes=fed.from_bytes.format("input.copyOfRange(vector * inputBytes, (vector + 1) * inputBytes)"),
        )
    real = "{0}" if not sink.scale else f"({{0}} - ({sink.zero_point})) * {c_float(np.float32(sink.scale))}"
    value = given.value.format("output")
    postprocessing = templates.KOTLIN_VALUES.substitute(
        output_formula=output_formula(sink),
        output_array=given.array,
        values_body="output" if sink.dtype == "float32" else f"FloatArray(output.size) {{ i -> {real.format(value)} }}",
    )
    classes = is_classes(artifact, sink)
    if taken is not None and classes:
        postprocessing += templates.KOTLIN_IMAGE.substitute()
    return templates.KOTLIN.substitute(
        class_name=class_name,
        file=f"{name}.tflite",
        name=name,
        labels=templates.KOTLIN_LABELS.substitute(labels=f"{name}.labels.txt") if artifact.class_names else "",
        version=LITERT_VERSION,
        device=get_target(artifact.target).device,
        imports="\n".join(f"import {one}" for one in sorted(imports)),
        environment=f"    private val environment = {environment}\n" if npu else "",
        env_argument=", environment" if npu else "",
        close_environment="        environment.close()\n" if npu else "",
        accelerator=get_target(artifact.target).litert_accelerator,
        pictures=picture_functions,
        postprocessing=postprocessing,
        input_words=f"{'x'.join(map(str, source.shape[1:]))} {source.dtype} values"
        + (f", {artifact.to_dict()['input_meaning']}" if taken is not None else ""),
        input_array=fed.array,
        output_array=given.array,
        write=fed.write,
        read=given.read,
        unit="output steps" if sink.scale else "the output's own unit",
        input_from_bytes=fed.from_bytes.format("input.copyOfRange(vector * inputBytes, (vector + 1) * inputBytes)"),
        output_from_bytes=given.from_bytes.format(
            "expected.copyOfRange(vector * outputBytes, (vector + 1) * outputBytes)"
        ),
        decoding=templates.KOTLIN_DECODING if taken is not None else "",
        floats=templates.KOTLIN_FLOATS.substitute() if floats else "",
        found_value=given.value.format("found"),
        wanted_value=given.value.format("wanted"),
        count=vectors.count,
    )


def android_section(artifact: Any, info: FileInfo, name: str, class_name: str) -> str:
    kind = get_target(artifact.target).litert_accelerator
    dependencies = [f'    implementation("com.google.ai.edge.litert:litert:{LITERT_VERSION}")']
    words = ""
    if kind == "GPU":
        dependencies.append(f'    implementation("com.google.ai.edge.litert:litert-gpu:{LITERT_VERSION}")')
        words = (
            "\nWith only `Accelerator.GPU`, `CompiledModel.create` throws if the phone's GPU cannot run the whole "
            "model; with `CompiledModel.Options(Accelerator.GPU, Accelerator.CPU)` the CPU runs the rest.\n"
        )
    elif kind == "NPU":
        dependencies.append("    // and the runtime of the NPU's vendor, for example")
        dependencies.append(
            f'    // implementation("com.google.ai.edge.litert:litert-npu-runtime-qualcomm:{LITERT_VERSION}")'
        )
        words = "\nOps that the NPU does not support run on the CPU.\n"
    taken = PictureInput.of(artifact, info)
    usage = [f'    Log.i("{class_name}", "largest difference: ${{model.checkVectors(context.assets)}}")']
    sources = [f"`android/{class_name}.kt`"]
    if taken is not None:
        sources.append(f"`android/{class_name}Picture.kt`")
        usage.append(
            f"    val (label, value) = model.classify({class_name}.decode(encoded)).first() // any Bitmap"
            if is_classes(artifact, info.outputs[0])
            else f"    val output = model.run(model.pixels({class_name}.decode(encoded))) // any Bitmap"
        )
    return templates.ANDROID_SECTION.substitute(
        version=LITERT_VERSION,
        dependencies="\n".join(dependencies),
        file=f"{name}.tflite",
        name=name,
        labels=f", `{name}.labels.txt`" if artifact.class_names else "",
        sources=" and ".join(sources),
        class_name=class_name,
        usage="\n".join(usage),
        accelerator_words=words,
    )
