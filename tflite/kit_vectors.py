"""The test vectors of a deployment kit: inputs, and what a real runtime computes for them."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import kit_templates as templates
from .flatbuffer import FileInfo, TensorInfo, to_input
from .images import check_inputs, generated_values
from .kit_tensors import c_float, is_exact, quantization
from .targets import get_target
from .verifier import run_raw

VECTOR_BYTES = 64 << 10  # of input; more vectors would not fit the flash that a self-test may take
C_TYPES = {"float32": "float", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "int32": "int32_t"}
RUNTIMES = {
    "litert-xnnpack": ("LiteRT with XNNPACK, one thread", "ai-edge-litert"),
    "litert-reference": ("LiteRT's reference kernels", "ai-edge-litert"),
    "tflite-micro": ("TensorFlow Lite Micro's reference kernels", "tflite-micro"),
}
UNKNOWN = "unknown"


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


def vectors_card(artifact: Any, info: FileInfo, file: str, vectors: Vectors) -> dict[str, Any]:
    """What ``vectors.json`` says: how to read the .bin files, and how near a device should come."""
    bound = artifact.verification.get("error_bound_steps", {}).get(vectors.runtime)
    step = artifact.verification.get("fidelity", {}).get("step")
    exact = is_exact(info)
    words, package = RUNTIMES[vectors.runtime]
    return {
        "file": file,
        "sha256": artifact.sha256,
        "runtime": vectors.runtime,
        "runtime_words": words,
        "runtime_version": version(package),
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
                f"{quantization(tensor) if tensor.scale else 'no quantization'}.\n"
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
    texts = [c_float(value) for value in values] if values.dtype.kind == "f" else [str(int(value)) for value in values]
    return ",\n     ".join(", ".join(texts[i : i + 20]) for i in range(0, len(texts), 20))


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN
