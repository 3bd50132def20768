"""The test vectors of a deployment kit: inputs, and the outputs that a real runtime computes for them."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..file.flatbuffer import FileInfo, TensorInfo, to_input
from ..graph.inputs import check_inputs, generated_values
from ..names import RUNTIMES
from ..runtimes.running import run_raw, runtimes_of
from ..targets.table import get_target
from ..verification.tolerance import tolerance
from . import templates
from .picture import PictureInput, check_picture, png
from .tensors import c_float, is_exact, quantization

VECTOR_BYTES = 64 << 10  # bytes of input; more vectors would not fit the flash of a self-test
PICTURE_BYTES, MICRO_PICTURE_BYTES = 512 << 10, 16 << 10  # size of the generated picture
C_TYPES = {"float32": "float", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "int32": "int32_t"}
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Vectors:
    """Inputs and the outputs that a runtime computed for them.

    Args:
        runtime: "litert-xnnpack", "litert-reference" or "tflite-micro".
        inputs: One array (N, ...) per input, of its dtype.
        outputs: One array (N, ...) per output, of its dtype.
        source: Source of the inputs, in words.
        labels: True class of each vector; None where it is unknown.
        pictures: Picture of each vector's input, uint8 (h, w, 1, 3 or 4); empty if the file takes no picture.
    """

    runtime: str
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    source: str
    labels: tuple[str | None, ...]
    pictures: tuple[np.ndarray, ...] = ()

    @property
    def count(self) -> int:
        return len(self.inputs[0])


def compute_vectors(
    artifact: Any, info: FileInfo, images: Any, labels: Any, count: int, pictures: Any = None
) -> Vectors:
    """Run a few images in the first runtime of the artifact's target.

    If the file takes a picture, each vector starts from one, resized by the rules of the kit's own code, and one more
    starts from a generated picture of another size with transparent parts.

    Args:
        artifact: From ``export`` or ``Artifact.load``.
        info: Its parsed content.
        images: float (N, H, W, C) as for ``verify``; None: generated images.
        labels: Integer class of each image or picture (N,); None: unknown.
        count: Largest number of vectors; fewer if the inputs are large.
        pictures: uint8 (h, w, 1, 3 or 4) arrays of any size, instead of ``images``.
    """
    input_bytes = sum(int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize for tensor in info.inputs)
    count = max(1, min(count, VECTOR_BYTES // input_bytes))
    taken = PictureInput.of(artifact, info)
    if pictures is not None and taken is None:
        raise ValueError("pictures apply to a file with one picture as its only input. Received: another file")
    chosen: tuple[np.ndarray, ...] = ()
    if pictures is not None:
        chosen = tuple(check_picture(picture) for picture in pictures[:count])
        given = len(chosen)
    else:
        arrays = _arrays(artifact, info, images, count)
        given = len(arrays[0])
        inputs = [to_input(tensor, part) for tensor, part in zip(info.inputs, arrays, strict=True)]
        if taken is not None:
            chosen = tuple(taken.picture(image) for image in arrays[0])
    classes = None if labels is None else np.asarray(labels).reshape(-1)
    if classes is not None and len(classes) < given:
        raise ValueError(f"labels must name a class for each image. Received: {len(classes)} labels, {given} images")
    named = [None if classes is None else artifact.class_names[int(classes[i])] for i in range(given)]
    if taken is not None:
        chosen = (*chosen, taken.generated(PICTURE_BYTES if artifact.arena_bytes is None else MICRO_PICTURE_BYTES))
        inputs = [np.stack([taken.values[taken.levels(picture)] for picture in chosen])]
        named.append(None)
    runtime = runtimes_of(get_target(artifact.target), info)[0]
    outputs = run_raw(artifact.content, inputs, runtime)
    source = "generated" if images is None and pictures is None else "given"
    return Vectors(runtime, tuple(inputs), tuple(outputs), source, tuple(named), chosen)


def _arrays(artifact: Any, info: FileInfo, images: Any, count: int) -> list[np.ndarray]:
    """Float (N, ...) for each input."""
    ranges = list(artifact.input_ranges)
    if images is not None:
        return [part[:count] for part in check_inputs(images, info.inputs, ranges, name="images")]
    return [
        generated_values(tuple(tensor.shape[1:]), limits, seed, count)
        for seed, (tensor, limits) in enumerate(zip(info.inputs, ranges, strict=True))
    ]


def vector_files(name: str, vectors: Vectors) -> dict[str, bytes]:
    """Path -> content: the inputs and outputs, one vector after another, little-endian, and the pictures."""
    files = {}
    for kind, arrays in (("input", vectors.inputs), ("expected", vectors.outputs)):
        for index, array in enumerate(arrays):
            files[f"test_vectors/{name}/{kind}_{index}.bin"] = array.astype(array.dtype.newbyteorder("<")).tobytes()
    for index, picture in enumerate(vectors.pictures):
        files[f"test_vectors/{name}/picture_{index}.png"] = png(picture)
    return files


def vectors_card(artifact: Any, info: FileInfo, file: str, vectors: Vectors) -> dict[str, Any]:
    """Content of ``vectors.json``: how to read the .bin files, and the tolerance for a device."""
    bound = artifact.verification.get("error_bound_steps", {}).get(vectors.runtime)
    step = artifact.verification.get("fidelity", {}).get("step")
    exact = is_exact(info)
    allowed = tolerance(info, artifact.target, artifact.verification.get("error_bound_steps"))
    runtime = RUNTIMES[vectors.runtime]
    return {
        "file": file,
        "sha256": artifact.sha256,
        "runtime": vectors.runtime,
        "runtime_words": runtime.words,
        "runtime_version": version(runtime.package),
        "images": vectors.source,
        "vectors": vectors.count,
        "byte_order": "little",
        "compare": ("integers, bit by bit" if allowed.largest_steps == 0 else "integers, within the tolerance")
        if exact
        else "floats, by the mean absolute difference",
        "tolerance": {
            "largest_steps": allowed.largest_steps,
            "mean_steps": allowed.mean_steps,
            "reasons": list(allowed.reasons),
        },
        "mean_difference_bound": None if exact or bound is None or step is None else bound * step,
        "inputs": [
            _array_card(f"input_{i}.bin", name, tensor, array)
            for i, (name, tensor, array) in enumerate(zip(info.input_names, info.inputs, vectors.inputs, strict=True))
        ],
        "outputs": [
            _array_card(f"expected_{i}.bin", name, tensor, array)
            for i, (name, tensor, array) in enumerate(
                zip(info.output_names, info.outputs, vectors.outputs, strict=True)
            )
        ],
        "pictures": [f"picture_{i}.png" for i in range(len(vectors.pictures))],
        "labels": list(vectors.labels),
        "first_class": _first_classes(artifact, vectors),
    }


def _array_card(file: str, name: str, tensor: TensorInfo, array: np.ndarray) -> dict[str, Any]:
    return {
        "file": file,
        "name": name,
        "shape": list(array.shape),
        "dtype": tensor.dtype,
        "scale": tensor.scale,
        "zero_point": tensor.zero_point,
    }


def _first_classes(artifact: Any, vectors: Vectors) -> list[str] | None:
    """Name of the largest output of each vector; None if the output is not a row of classes."""
    scores = vectors.outputs[0]
    if scores.ndim != 2 or scores.shape[1] != len(artifact.class_names):
        return None
    return [artifact.class_names[int(index)] for index in scores.argmax(-1)]


def vectors_h(c_name: str, info: FileInfo, vectors: Vectors, with_picture: bool = False) -> str:
    """The vectors as C arrays, (vectors, values) each, and the picture that the last one starts from."""
    sizes, arrays = [], []
    if with_picture and vectors.pictures:
        height, width, channels = vectors.pictures[-1].shape
        sizes += [f"  {c_name}_picture_{word} = {size}" for word, size in (("rows", height), ("columns", width))]
        rows = ",\n".join(f"    {{{_c_values(row.ravel())}}}" for row in vectors.pictures[-1])
        arrays.append(
            f"// Picture of the last vector: {height} rows of {width} pixels: red, green, blue and alpha.\n"
            f"static const uint8_t {c_name}_picture[{height}][{width * channels}] = {{\n{rows}}};\n"
        )
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
        runtime=RUNTIMES[vectors.runtime].words,
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
