"""Descriptions of a ``.tflite`` file's inputs and outputs, as entries in the file's own list of metadata.

``TFLITE_METADATA`` is the standard entry (TensorFlow Lite's metadata schema 1.0.0, ``metadata_schema.fbs``), which
other tools read: color space, normalization and range of each input, and the file of the class names, a ZIP archive
behind the model. ``wavemix_tf`` is JSON: how pictures are resized to the input's size, for which that schema has no
field; ``predict`` reads it, so it needs no further files.

Unknown values take as many bytes as known ones: the size of a file without class names, which may be a budget, depends
only on its network.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Sequence
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from wavemix_tf.preprocessing import Preprocessing

from .flatbuffer import FileInfo, TensorInfo, pack, read_file

STANDARD_ENTRY, OWN_ENTRY = "TFLITE_METADATA", "wavemix_tf"
RUNTIME_ENTRY = "min_runtime_version"
OWN_BYTES = 128  # the size of the own entry is a multiple of this
STANDARD_IDENTIFIER = b"M001"
PARSER_VERSION = "1.0.0"
FEATURE_PROPERTIES, IMAGE_PROPERTIES, NORMALIZATION_OPTIONS = 1, 2, 1  # their numbers in the schema's two unions
TENSOR_AXIS_LABELS = 2  # of AssociatedFileType
LABELS_FILE = "labels.txt"  # in the archive
COLOUR_SPACES = {3: 1, 1: 2}  # channels -> RGB, GRAYSCALE

Ranges = Sequence[tuple[float, float] | None]


def add_metadata(
    content: bytes,
    ranges: Ranges,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
) -> bytes:
    """The same file with both entries, which replace existing ones.

    Args:
        content: A ``.tflite`` file.
        ranges: Range of the values of each input; None where it was measured.
        preprocessing: How training made inputs from pictures; None: unknown, or no pictures.
        class_names: Of the first output: the file then describes its outputs and ends with the archive of the names,
            as ML Kit and MediaPipe read them; empty: no names, only descriptions; None: neither, for devices whose
            flash counts.
    """
    info = read_file(content)
    own: dict[str, Any] = {"input_ranges": [None if part is None else list(part) for part in ranges]}
    if preprocessing is not None:
        kept = ("resize", "crop_to_aspect_ratio")  # the rules that may differ between networks
        own["preprocessing"] = {key: preprocessing.to_dict()[key] for key in kept}
    text = json.dumps(own, separators=(",", ":"))
    padded = text.ljust(-(-len(text) // OWN_BYTES) * OWN_BYTES)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    entries = {
        STANDARD_ENTRY: _standard(info, ranges, class_names),
        OWN_ENTRY: padded.encode(),
    }
    model.metadata = model.metadata or []
    there = {_name(entry): model.buffers[entry.buffer] for entry in model.metadata}
    for key, data in entries.items():
        if key not in there:
            entry = schema.MetadataT()
            entry.name, entry.buffer = key, len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.metadata.append(entry)
            there[key] = model.buffers[-1]
        there[key].data = list(data)
    return _with_labels(pack(model), class_names) if class_names else pack(model)


def read_metadata(content: bytes) -> tuple[Preprocessing | None, list[tuple[float, float] | None] | None]:
    """(how inputs were made from pictures, range of each input's values) by the file's metadata; None if missing."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    entry = next((entry for entry in model.metadata or [] if _name(entry) == OWN_ENTRY), None)
    try:
        found = json.loads(bytes(model.buffers[entry.buffer].data)) if entry is not None else {}
        ranges = found.get("input_ranges")
        checked = None if ranges is None else [None if r is None else (float(r[0]), float(r[1])) for r in ranges]
        return Preprocessing.from_dict(found.get("preprocessing")), checked
    except (ValueError, TypeError, IndexError, AttributeError):  # a foreign entry of that name, or damage
        return None, None


def min_runtime(content: bytes) -> str | None:
    """The oldest release of TensorFlow Lite that runs a file, as "2.5.0".

    TensorFlow's converter writes it by its table of op versions (tensorflow/lite/tools/versioning/runtime_version.cc).
    TensorFlow Lite Micro has no releases and does not read the versions of ops.

    Args:
        content: A ``.tflite`` file.

    Returns:
        None if the file does not state it.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    entry = next((entry for entry in model.metadata or [] if _name(entry) == RUNTIME_ENTRY), None)
    data = None if entry is None else model.buffers[entry.buffer].data
    text = "" if data is None else bytes(data).rstrip(b"\0").decode("ascii", "replace")
    return text if re.fullmatch(r"\d+(\.\d+)+", text) else None


def _name(entry: Any) -> str:
    return entry.name.decode() if isinstance(entry.name, bytes) else str(entry.name)


def _with_labels(content: bytes, class_names: Sequence[str]) -> bytes:
    """The file with an archive of the names behind it; always the same bytes for the same names."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:  # readers do not decompress
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), "".join(f"{name}\n" for name in class_names).encode())
    return file.getvalue()


def read_labels(content: bytes) -> list[str]:
    """Class names in the archive behind a ``.tflite`` file; empty if it has none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(LABELS_FILE).decode().split("\n")[:-1]
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError):
        return []


def _standard(info: FileInfo, ranges: Ranges, class_names: Sequence[str] | None) -> bytes:
    builder = flatbuffers.Builder(512)
    made = [_input(builder, *pair) for pair in zip(info.inputs, ranges, strict=True)]
    outputs = [_output(builder, name, class_names, first=not i) for i, name in enumerate(info.output_names)]
    graph = _table(builder, {2: _vector(builder, made), 3: _vector(builder, outputs)}, 7)
    fields = {3: _vector(builder, [graph]), 7: builder.CreateString(PARSER_VERSION)}
    builder.Finish(_table(builder, fields, 8), STANDARD_IDENTIFIER)
    return bytes(builder.Output())


def _input(builder: Any, tensor: TensorInfo, limits: tuple[float, float] | None) -> int:
    """``TensorMetadata`` of an input."""
    fields: dict[int, int] = {}
    if len(tensor.shape) == 4 and tensor.shape[-1] in COLOUR_SPACES:
        properties = _table(builder, {}, 2, COLOUR_SPACES[tensor.shape[-1]])
        fields[3] = _table(builder, {1: properties}, 3, IMAGE_PROPERTIES)
        if limits is not None:  # a value is (pixel - mean) / std
            std = 255 / (limits[1] - limits[0])
            numbers = {0: _floats(builder, [0.0 - limits[0] * std]), 1: _floats(builder, [std])}
            unit = _table(builder, {1: _table(builder, numbers, 2)}, 2, NORMALIZATION_OPTIONS)
            fields[4] = _vector(builder, [unit])
    if limits is not None:
        fields[5] = _table(builder, {0: _floats(builder, [limits[1]]), 1: _floats(builder, [limits[0]])}, 2)
    return _table(builder, fields, 7)


def _output(builder: Any, name: str, class_names: Sequence[str] | None, first: bool) -> int:
    """``TensorMetadata`` of an output. MediaPipe crashes on an output without content."""
    if class_names is None:
        return _table(builder, {}, 7)
    fields = {0: builder.CreateString(name)}
    fields[3] = _table(builder, {1: _table(builder, {}, 0)}, 3, FEATURE_PROPERTIES)
    if class_names and first:
        labels = _table(builder, {0: builder.CreateString(LABELS_FILE)}, 5, TENSOR_AXIS_LABELS, kind_slot=2)
        fields[6] = _vector(builder, [labels])
    return _table(builder, fields, 7)


def _table(builder: Any, fields: dict[int, int], count: int, kind: int = 0, kind_slot: int = 0) -> int:
    """A table of ``count`` slots; ``kind``, if not 0, is a byte in ``kind_slot``: an enum, or a union's member."""
    builder.StartObject(count)
    for slot, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    if kind:
        builder.PrependUint8Slot(kind_slot, kind, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: Any, values: list[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())
