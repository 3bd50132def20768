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
from .tensors import INDEPENDENT, PROBABILITIES, c_float, is_classes, is_exact, output_formula, score_kind
from .vectors import Vectors

LITERT_VERSION = "2.3.0"  # of com.google.ai.edge.litert; from 2.3.0 on the GPU accelerator is a separate artifact


# Accelerator of a target -> those that LiteRT may use; an NPU runs no file whole that has an op it lacks.
ACCELERATORS = {"CPU": ("CPU",), "GPU": ("GPU",), "NPU": ("NPU", "CPU")}


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
            tolerance=tolerance_kt(artifact, info, vectors),
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


def tolerance_kt(artifact: Any, info: FileInfo, vectors: Vectors) -> str:
    """Largest allowed difference of an output value from the vectors' on a phone, in ``output_unit``: a literal."""
    bound = artifact.verification.get("error_bound_steps", {}).get(vectors.runtime)
    step = artifact.verification.get("fidelity", {}).get("step")
    unknown = bound is None or step is None
    return c_float(np.float32(1.0 if is_exact(info) else 0.0 if unknown else OUTPUT_SHARE * bound * step))


def output_unit(info: FileInfo) -> str:
    """Unit of the difference that ``checkVectors`` returns."""
    return "output steps" if info.outputs[0].scale else "the output's own unit"


def _kotlin(
    artifact: Any, info: FileInfo, name: str, class_name: str, vectors: Vectors, taken: PictureInput | None
) -> str:
    source, sink, row = info.inputs[0], info.outputs[0], get_target(artifact.target)
    fed, given = KOTLIN_TYPES[source.dtype], KOTLIN_TYPES[sink.dtype]
    imports = {
        "android.content.Context",
        "android.content.res.AssetManager",
        "com.google.ai.edge.litert.Accelerator",
        "com.google.ai.edge.litert.BuiltinNpuAcceleratorProvider",
        "com.google.ai.edge.litert.CompiledModel",
        "com.google.ai.edge.litert.Environment",
        "kotlin.math.abs",
    }
    floats = "float32" in (source.dtype, sink.dtype)
    if floats:
        imports |= {"java.nio.ByteBuffer", "java.nio.ByteOrder"}
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
        has_shares = score_kind(info) in (PROBABILITIES, INDEPENDENT)
        imports |= set() if has_shares else {"kotlin.math.exp"}
        postprocessing += templates.KOTLIN_IMAGE.substitute(
            output_array=given.array,
            shares="the output itself" if has_shares else "softmax of the output",
            shares_body="= values(output)" if has_shares else templates.KOTLIN_SOFTMAX,
        )
    return templates.KOTLIN.substitute(
        class_name=class_name,
        file=f"{name}.tflite",
        name=name,
        labels=templates.KOTLIN_LABELS.substitute(labels=f"{name}.labels.txt") if artifact.class_names else "",
        version=LITERT_VERSION,
        device=row.device,
        imports="\n".join(f"import {one}" for one in sorted(imports)),
        accelerators=", ".join(
            f"Accelerator.{one}" for one in ACCELERATORS[get_target(artifact.target).litert_accelerator]
        ),
        pictures=picture_functions,
        postprocessing=postprocessing,
        input_words=f"{'x'.join(map(str, source.shape[1:]))} {source.dtype} values"
        + (f", {artifact.to_dict()['input_meaning']}" if taken is not None else ""),
        input_array=fed.array,
        output_array=given.array,
        write=fed.write,
        read=given.read,
        unit=output_unit(info),
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
            "\nLiteRT throws if the phone's GPU cannot run the whole model. With `setOf(Accelerator.GPU, "
            f"Accelerator.CPU)` as second argument of `{class_name}` the CPU runs the rest, or all of it, without a "
            "word.\n"
        )
    elif kind == "NPU":
        dependencies.append("    // and the runtime of the NPU's vendor, for example")
        dependencies.append(
            f'    // implementation("com.google.ai.edge.litert:litert-npu-runtime-qualcomm:{LITERT_VERSION}")'
        )
        words = (
            "\nOps that the NPU does not support run on the CPU. With `setOf(Accelerator.NPU, Accelerator.NONE)` as "
            f"second argument of `{class_name}` LiteRT throws if there are any.\n"
        )
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
