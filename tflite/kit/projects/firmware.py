"""What all firmware projects share: the classifier, the network behind it, and the self-test, in C and C++."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

import numpy as np

from wavemix_tf.escaping import markdown, markdown_code

from ...c_source.c_text import c_string
from ...c_source.flash import c_flash_words
from ...c_source.generator import c_arena_bytes
from ...errors import ExportError
from ...file.identifiers import c_identifier
from ...file.op_costs import tensor_bytes
from ...names import KERNELS
from ...runtimes.microcontroller import resolver_name
from ...targets.firmware import CLASSIFY_BYTES, flash_words
from ...targets.table import get_target
from ...verification.tolerance import value_tolerance
from ..firmware_files import cmsis_nn_words, file_tolerance, transposed_words
from ..model_card import model_card
from ..picture import C_TYPES, PictureInput, picture_h
from ..templates import Template
from ..tensors import INDEPENDENT, LOG_PROBABILITIES, LOGITS, SCORES, c_float, is_classes, score_kind
from ..vectors import vectors_h
from .subject import Subject

LITERT_TYPES = {"float32": "kTfLiteFloat32", "int8": "kTfLiteInt8", "uint8": "kTfLiteUInt8", "int16": "kTfLiteInt16"}
SOFTMAX = """\
  {
    const float top = found.scores[found.best];
    float total = 0.0f;
    for (i = 0; i < @{PREFIX}CLASS_COUNT; ++i) {
      found.shares[i] = expf(found.scores[i] - top);
      total += found.shares[i];
    }
    for (i = 0; i < @{PREFIX}CLASS_COUNT; ++i) found.shares[i] /= total;
  }"""
SHARES = {
    LOGITS: (SOFTMAX, "softmax of the scores"),
    LOG_PROBABILITIES: (
        "  for (i = 0; i < @{PREFIX}CLASS_COUNT; ++i) found.shares[i] = expf(found.scores[i]);",
        "the exponentials of the scores: the network ends with LOG_SOFTMAX",
    ),
    INDEPENDENT: (
        "  for (i = 0; i < @{PREFIX}CLASS_COUNT; ++i) found.shares[i] = found.scores[i];",
        "the scores: the network ends with LOGISTIC, each class for itself",
    ),
}
PLAIN_SHARES = (SHARES[INDEPENDENT][0], "the scores: the network ends with SOFTMAX")


def text_of(path: str) -> str:
    """A file of ``files/``."""
    return (files(__package__) / "files").joinpath(*path.split("/")).read_text(encoding="utf-8")


def filled(path: str, values: Mapping[str, object] | None = None) -> bytes:
    """A file of ``files/`` with its placeholders filled in."""
    return Template(text_of(path)).substitute(values or {}).encode()


def names(subject: Subject) -> dict[str, object]:
    """Values of the placeholders for names of the generated code."""
    name = c_name_of(subject)
    return {"name": name, "upper": name.upper(), "prefix": subject.prefix, "PREFIX": subject.prefix.upper()}


def check_subject(project: str, subject: Subject) -> PictureInput:
    """The file's input; an ExportError, in one line, unless the file classifies pictures."""
    artifact, info = subject.artifact, subject.info
    taken = PictureInput.of(artifact, info)
    wrong = None
    if taken is None:
        wrong = "its input is not one picture whose pixels have a known meaning"
    elif len(info.outputs) != 1 or not is_classes(artifact, info.outputs[0]):
        shapes = ", ".join(" x ".join(map(str, tensor.shape)) for tensor in info.outputs)
        wrong = f"its output is {shapes}, not one score for each of {len(artifact.class_names)} class names"
    elif len(artifact.class_names) < 2:
        wrong = "it has one class"
    if wrong is not None or taken is None:
        raise ExportError(
            f"Project {project} is for a file that classifies pictures; save_kit (--kit) writes a self-test and the "
            f"resize for any file. Received: {subject.name}: {wrong}"
        )
    return taken


def c_name_of(subject: Subject) -> str:
    """Prefix of the names in the generated code."""
    return c_identifier(subject.name)


def is_program(subject: Subject) -> bool:
    """Whether the model is a C program, so that no interpreter is needed."""
    return get_target(subject.artifact.target).writes_c


def sources(
    project: str, subject: Subject, folder: str, cpp: str = ".cc", library_header: str = ""
) -> dict[str, bytes]:
    """Path -> content of the code that is the same in every firmware project.

    Args:
        project: Key of ``PROJECTS``.
        subject: The file.
        folder: Where the code goes, "" or with a "/" at its end.
        cpp: Suffix of C++ files.
        library_header: An ``#include`` line that the library needs before its other headers.
    """
    taken, name = check_subject(project, subject), c_name_of(subject)
    artifact, info, prefix = subject.artifact, subject.info, subject.prefix
    output = info.outputs[0]
    kind = score_kind(info)
    code, words = SHARES.get(kind, PLAIN_SHARES)
    score = f"(float)(output[i] - ({output.zero_point})) * {c_float(np.float32(output.scale))}"
    floats = output.dtype == "float32"
    limit = value_tolerance(info, 0, file_tolerance(artifact, info))
    _, height, width, _ = taken.tensor.shape
    values = {
        **names(subject),
        "classes": len(artifact.class_names),
        "height": height,
        "width": width,
        "scores": SCORES[kind],
        "shares": words,
        "words": taken.words,
        "labels": "".join(f"    {c_string(label)},\n" for label in artifact.class_names),
        "score": "output[i]" if floats else score,
        "share_code": Template(code).substitute(names(subject)),
        "runtime": "a C program" if is_program(subject) else "run by TensorFlow Lite Micro",
        "input_type": C_TYPES[taken.tensor.dtype],
        "output_type": C_TYPES[output.dtype],
        "input_shape": " x ".join(map(str, taken.tensor.shape)),
        "output_shape": " x ".join(map(str, output.shape)),
        "library_header": f"\n{library_header}" if library_header else "",
        "op_list": ", ".join(resolver_name(op) for op in sorted(set(artifact.ops))),
        "input_enum": LITERT_TYPES[taken.tensor.dtype],
        "output_enum": LITERT_TYPES[output.dtype],
        "input_bytes": f"sizeof({prefix}network_input_t) * {int(np.prod(taken.tensor.shape))}",
        "output_bytes": f"sizeof({prefix}network_output_t) * {int(np.prod(output.shape))}",
        "tolerance": file_tolerance(artifact, info).words,
        "wide": "float" if floats else "int",
        "limit": c_float(np.float32(limit)) if floats else str(int(limit)),
    }
    program = is_program(subject)
    made = {
        f"{prefix}classifier.h": filled("classifier.h", values),
        f"{prefix}classifier.c": filled("classifier.c", values),
        f"{prefix}network.h": filled("network.h", values),
        network_file(subject, cpp): filled("network_c.c" if program else "network_tflm.cc", values),
        f"{prefix}write_result.h": filled("write_result.h", values),
        f"{prefix}write_result.c": filled("write_result.c", values),
        f"{prefix}self_test.h": filled("self_test.h", values),
        f"{prefix}self_test.c": filled("self_test.c", values),
        f"{name}_vectors.h": vectors_h(name, info, subject.vectors, with_picture=True).encode(),
        f"{name}_picture.h": picture_h(taken, name).encode(),
    }
    for path, content in model_files(subject).items():
        made[path if not path.endswith(".cc") else path.removesuffix(".cc") + cpp] = content
    return {f"{folder}{path}": content for path, content in made.items()}


def network_file(subject: Subject, cpp: str = ".cc") -> str:
    """Name of the file that runs the network; ``cpp`` is the suffix of C++ files."""
    return f"{subject.prefix}network{'.c' if is_program(subject) else cpp}"


def model_files(subject: Subject) -> dict[str, bytes]:
    """The model as C or C++ code."""
    saved = subject.artifact.files(f"{subject.name}.tflite")
    return {path.name: content for path, content in saved.items() if path.suffix in (".h", ".c", ".cc")}


def documents(subject: Subject, readme: bytes) -> dict[str, bytes]:
    """The README, the model card and the verified file."""
    card = model_card(subject.artifact, subject.info, subject.name, subject.vectors, subject.report)
    return {"README.md": readme, "MODEL_CARD.md": card.encode(), f"{subject.name}.tflite": subject.artifact.content}


def readme_values(project: str, subject: Subject) -> dict[str, object]:
    """Values of the READMEs' placeholders that are the same in every project."""
    taken, name = check_subject(project, subject), c_name_of(subject)
    artifact = subject.artifact
    values: dict[str, object] = {
        **names(subject),
        "file": markdown_code(f"{subject.name}.tflite"),
        "device": markdown(get_target(artifact.target).device),
        "words": markdown(taken.words),
        "classes": len(artifact.class_names),
        "vectors": subject.vectors.count,
        "tolerance": file_tolerance(artifact, subject.info).words,
        "model": f"{name}.c" if is_program(subject) else f"{name}.cc",
        "network": network_file(subject),
    }
    values["memory"] = _memory_words(subject)
    values["use"] = Template(text_of("use.md")).substitute(values)
    return values


def _static_words(subject: Subject) -> str:
    """The static buffers of a program in C and its classifier, in bytes."""
    taken = PictureInput.of(subject.artifact, subject.info)
    assert taken is not None  # check_subject
    ends = [sum(map(tensor_bytes, side)) for side in (subject.info.inputs, subject.info.outputs)]
    _, _, width, channels = taken.tensor.shape
    parts = {
        "working memory": c_arena_bytes(subject.artifact.content),
        "input": ends[0],
        "output": ends[1],
        "resize": 8 * width * channels,  # int64_t sums of a row
        "result": 8 + 8 * len(subject.artifact.class_names),  # Classification: two int, two float a class
    }
    listed = ", ".join(f"{name} {size:,}" for name, size in parts.items())
    return f"{sum(parts.values()):,} bytes ({listed})"


def _memory_words(subject: Subject) -> str:
    artifact = subject.artifact
    if is_program(subject):
        more = " and ".join(f"{size:,} bytes on a {core}" for core, size in CLASSIFY_BYTES.items())
        return (
            f"- **RAM**: {_static_words(subject)}, all static; the stack comes to it.\n"
            f"- **Flash** of the network: {c_flash_words(artifact.content)}. `{subject.prefix}classify()`, with "
            f"resize, softmax and a core's routines for floating point, added up to {more} where it was measured. "
            "`arm-none-eabi-size` has your build's."
        )
    arenas = "; ".join(f"{KERNELS[kernels]} {size:,}" for kernels, size in artifact.kernel_arena_bytes.items())
    return (
        f"- **RAM**: an arena of {artifact.arena_bytes:,} bytes{f' ({arenas})' if arenas else ''}, static. If the "
        "self-test says that AllocateTensors failed, with kernels tuned for another chip, define `EXTRA_ARENA_BYTES`.\n"
        f"- **CMSIS-NN**: {cmsis_nn_words(subject.info)}\n"
        f"- **Flash**: {flash_words(artifact.size_bytes, artifact.ops)}.\n"
        f"- **Transposed convolutions**: {transposed_words(artifact)}"
    )
