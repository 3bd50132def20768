"""The result of ``export``: a verified file with the data that an application or a firmware needs to use it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavemix_tf.files import write_bytes
from wavemix_tf.preprocessing import Preprocessing
from wavemix_tf.state_files import DamagedFileError, reading

from ..c_source.generator import write_c
from ..errors import ExportError
from ..file.flatbuffer import TensorInfo, read_file
from ..file.identifiers import c_identifier, check_c_name
from ..file.metadata import min_runtime
from ..file.model_cards import card_path, read_card, read_content, remedy
from ..kit.projects.writer import write_project
from ..kit.writer import write_kit
from ..names import KERNELS, MICRO_KIT
from ..per_op.layer_costs import op_report
from ..runtimes.ethos import NpuReport
from ..runtimes.microcontroller import c_array, kernel_arena_texts
from ..targets.firmware import firmware_bytes
from ..targets.table import TARGETS, get_target

C_SUFFIXES = (".h", ".cc", ".c", "_plan.svg")


@dataclass(frozen=True)
class Artifact:
    """A verified ``.tflite`` file.

    Args:
        content: The file.
        target: Key of ``TARGETS``.
        dtype: "float32", "float16", "int8" or "int16x8".
        ops: Ops in execution order.
        class_names: Name of each output; empty where the outputs are not classes.
        model_name: Name of the Keras model it came from.
        upsample_form: How transposed convolutions were written; None if there are none.
        substituted: Layers whose activation was replaced, for this target or when the model was quantized.
        arena_bytes: Tensor arena under TensorFlow Lite Micro on a 32-bit device, enough for all of
            ``kernel_arena_bytes``; for "c" the program's working memory; None for other targets.
        kernel_arena_bytes: By kernels ("reference", "cmsis-nn"): the smallest arena in which the file starts,
            calculated (``arena``); empty for other targets.
        verification: Figures of the check that ``export`` made.
        input_ranges: Range of the values of each input; None where it was measured.
        float_layers: Layers that stay float in an int8 file.
        model_sha256: Digest of the layers and weights of the model it was made from.
        npu: The file compiled for an Ethos-U and the compiler's figures; None for other targets.
        preprocessing: How pictures were resized to the input's size in training; None: unknown, or no pictures.
        op_layers: For each of ``ops`` the layer of the Keras model that it belongs to, "" where that is unknown; ()
            in cards of earlier versions.
        code_name: Begins every name of the file's C code that other code sees; a C identifier. None: the code is named
            after the file.
    """

    content: bytes = field(repr=False)
    target: str
    dtype: str
    io_dtype: str
    ops: tuple[str, ...] = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    model_name: str
    upsample_form: str | None
    substituted: tuple[str, ...]
    arena_bytes: int | None
    verification: dict[str, Any] = field(repr=False)
    input_ranges: tuple[tuple[float, float] | None, ...] = ((0.0, 1.0),)
    float_layers: tuple[str, ...] = ()
    model_sha256: str = ""
    kernel_arena_bytes: Mapping[str, int] = field(default_factory=dict)
    npu: NpuReport | None = None
    preprocessing: Preprocessing | None = None
    op_layers: tuple[str, ...] = ()
    code_name: str | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    @property
    def firmware_bytes(self) -> dict[str, tuple[int, int]] | None:
        """Flash of file and program on a Cortex-M4: kernels -> (built without messages, with them); else None."""
        if not get_target(self.target).counts_firmware:
            return None
        return {kernels: firmware_bytes(self.size_bytes, self.ops, kernels) for kernels in KERNELS}

    @property
    def sha256(self) -> str:
        """Digest of the file; ``load`` uses it to check that the model card belongs to the file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def input_meaning(self) -> str:
        """Meaning of a value of the (first) input, as a phrase."""
        limits, tensor = self.input_ranges[0], read_file(self.content).inputs[0]
        if limits in ((0.0, 1.0), (0.0, 255.0)) and self.io_dtype != "int16":
            whole = {"int8": "pixel - 128", "uint8": "pixel"}
            return whole.get(self.io_dtype, "pixel / 255" if limits == (0.0, 1.0) else "pixel")
        real = "x" if limits is None else f"x in [{limits[0]:g}, {limits[1]:g}]"
        if self.io_dtype == "float32":
            return real
        return f"round(x / {tensor.scale:.9g}) + {tensor.zero_point}, {real}"

    def to_dict(self) -> dict[str, Any]:
        """The model card: everything except the content, JSON-able."""
        info = read_file(self.content)
        return {
            "model": self.model_name,
            "model_sha256": self.model_sha256,
            "target": self.target,
            "dtype": self.dtype,
            "io_dtype": self.io_dtype,
            "input": _tensor_card(info.inputs[0], info.input_names[0]),
            "input_meaning": self.input_meaning,
            "output": _tensor_card(info.outputs[0], info.output_names[0]),
            "inputs": list(map(_tensor_card, info.inputs, info.input_names)),
            "outputs": list(map(_tensor_card, info.outputs, info.output_names)),
            "input_ranges": self.input_ranges,
            "preprocessing": None if self.preprocessing is None else self.preprocessing.to_dict(),
            "min_runtime": min_runtime(self.content),
            "float_layers": list(self.float_layers),
            "class_names": list(self.class_names),
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "arena_bytes": self.arena_bytes,
            "kernel_arena_bytes": dict(self.kernel_arena_bytes),
            "firmware_bytes": self.firmware_bytes,
            "npu": None if self.npu is None else self.npu.to_dict(),
            "ops": {name: self.ops.count(name) for name in sorted(set(self.ops))},
            "op_sequence": list(self.ops),
            "op_layers": list(self.op_layers),
            "code_name": self.code_name,
            "upsample_form": self.upsample_form,
            "substituted_activations": list(self.substituted),
            "verification": self.verification,
        }

    def files(self, path: str | os.PathLike[str]) -> dict[Path, bytes]:
        """Path -> content of everything ``save(path)`` writes."""
        base = Path(path)
        if base.suffix != ".tflite":
            raise ValueError(f"path must end in .tflite. Received: path={str(path)!r}")
        files = {
            base: self.content,
            base.with_suffix(".json"): (json.dumps(self.to_dict(), indent=2) + "\n").encode(),
        }
        if self.class_names:
            files[base.with_suffix(".labels.txt")] = "".join(f"{name}\n" for name in self.class_names).encode()
        if self.npu is not None:
            files[_compiled_path(base)] = self.npu.content
        name = self.code_name or c_identifier(base.stem)
        if get_target(self.target).kit == MICRO_KIT:
            texts = kernel_arena_texts(self.kernel_arena_bytes)
            header, source = c_array(self.content, name, self.ops, self.arena_bytes or 0, texts)
            files[base.with_name(f"{name}.h")] = header.encode()
            files[base.with_name(f"{name}.cc")] = source.encode()
        if get_target(self.target).writes_c:
            program = write_c(self.content, name, self.class_names)
            files[base.with_name(f"{name}.h")] = program.header.encode()
            files[base.with_name(f"{name}.c")] = program.source.encode()
            files[base.with_name(f"{name}_plan.svg")] = op_report(self).plan_svg().encode()
        return files

    def save(self, path: str | os.PathLike[str], overwrite: bool = False, *, name: str | None = None) -> Path:
        """Write the file, its labels, its model card and, for a microcontroller, the C array or program.

        For an Ethos-U, ``<name>_vela.tflite`` is the compiled file, the one to put on the device. Beside a program in
        C, ``<name>_plan.svg`` is the picture of its arena.

        Every file is written under a temporary name and then renamed. The ``.tflite`` comes last: if it exists, the
        others exist too.

        Args:
            path: Ends in ``.tflite``.
            overwrite: Replace existing files.
            name: C identifier that names the code: files ``<name>.h`` and ``<name>.cc`` or ``<name>.c``, and the prefix
                of every symbol, so that several networks fit into one firmware. None: ``code_name``, else the name of
                the file.

        Returns:
            ``path``.

        Raises:
            ValueError: ``name`` is no identifier.
            FileExistsError: one of the files exists and ``overwrite`` is False, or another ``.tflite`` file of the
                folder has code of this name; nothing is written.
        """
        if name is not None:
            return dataclasses.replace(self, code_name=check_c_name(name)).save(path, overwrite)
        files = self.files(path)
        existing = [str(file) for file in files if file.exists()]
        if existing and not overwrite:
            raise FileExistsError(f"Pass overwrite=True to replace {', '.join(existing)}. Received: overwrite=False")
        check_code_name_is_free(Path(path), self.target, self.code_name)
        before = _saved_code_name(Path(path))
        for file, content in reversed(files.items()):
            write_bytes(file, content)
        stems = {c_identifier(Path(path).stem), before} - {None}
        code = (Path(path).with_name(f"{stem}{suffix}") for stem in stems for suffix in C_SUFFIXES)
        for old in (_compiled_path(Path(path)), *code):
            if old not in files and overwrite:  # C code or a compiled file that belongs to the file that is replaced
                old.unlink(missing_ok=True)
        return Path(path)

    def save_kit(
        self,
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
        """Write a deployment kit: what a mobile or firmware engineer needs, and test vectors to check a device.

        The kit contains the file, its labels and card; test vectors (inputs, and the outputs that the target's runtime
        computes for them) as raw bytes and C arrays; for a phone a Kotlin class, for a microcontroller the C array and
        a ``main`` that compares itself with the vectors; a model card. The folder is written under a temporary name and
        then renamed.

        Args:
            folder: Path of the kit; must not exist.
            overwrite: Replace ``folder`` if it contains a kit.
            name: Name of the files, and prefix of the symbols in C; None: ``code_name``, else ``<target>-<dtype>``.
            images: float (N, H, W, C) in [0, 1]; the first ones become vectors. None: generated images.
            labels: Integer class of each image or picture, stated in the card of the vectors; None: unknown.
            vectors: Largest number of vectors; fewer if the input is so large that they would exceed 64 KiB. Where the
                file takes a picture, each vector starts from one (a PNG file), and one more from a generated picture of
                another size.
            pictures: uint8 (h, w, 1, 3 or 4) of any size, instead of ``images``, as a camera or a file gives them. They
                are resized by the rules of training (``export``'s ``crop_to_aspect_ratio``).
            report: Content of a run's ``report.json``, for data and accuracy in the model card; None: the model card
                states them as unknown.

        Returns:
            ``folder``.

        Raises:
            FileExistsError: ``folder`` exists and ``overwrite`` is False, or it is not a kit.
            RuntimeFailureError: the target's runtime cannot run the file.
        """
        return write_kit(
            self,
            folder,
            overwrite,
            name=name,
            images=images,
            labels=labels,
            vectors=vectors,
            report=report,
            pictures=pictures,
        )

    def save_project(
        self,
        folder: str | os.PathLike[str],
        project: str,
        overwrite: bool = False,
        *,
        name: str | None = None,
        images: Any = None,
        labels: Any = None,
        vectors: int = 4,
        report: Mapping[str, Any] | None = None,
        pictures: Any = None,
    ) -> Path:
        """Write a project that the tools of a device build: source code, build files, test vectors, README.

        The folder is written under a temporary name and then renamed.

        Args:
            folder: Path of the project; must not exist.
            project: Key of ``kit.projects.table.PROJECTS``, such as "cmake"; each row states the targets it admits.
            overwrite: Replace ``folder`` if it contains a project.
            name: C identifier that begins every symbol and file name of the code, as ``<name>_classify``, so that
                several networks fit into one firmware. None: ``code_name``; without one, the code is named
                ``classify`` and the model ``<target>-<dtype>``. Of an Android project, the name of the files.
            images: As for ``save_kit``.
            labels: As for ``save_kit``.
            vectors: As for ``save_kit``.
            pictures: As for ``save_kit``.
            report: As for ``save_kit``.

        Returns:
            ``folder``.

        Raises:
            ValueError: the project is unknown, or does not admit the file's target.
            ExportError: the project cannot use such a file.
            FileExistsError: ``folder`` exists and ``overwrite`` is False, or it is not a project.
            RuntimeFailureError: the target's runtime cannot run the file.
        """
        return write_project(
            self,
            folder,
            project,
            overwrite,
            name=name,
            images=images,
            labels=labels,
            vectors=vectors,
            report=report,
            pictures=pictures,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Artifact:
        """Read what ``save`` wrote: the file and its model card.

        Raises:
            ExportError: one of them is missing or damaged, or the card belongs to another file.
        """
        base = Path(path)
        try:
            card = read_card(base)
            content = read_content(base, card)
            with reading(card_path(base), remedy(base)):
                get_target(card["target"])
                npu = card.get("npu")
                npu = None if npu is None else NpuReport.from_dict(npu, _compiled_path(base).read_bytes())
                return cls(
                    content=content,
                    target=card["target"],
                    dtype=card["dtype"],
                    io_dtype=card["io_dtype"],
                    ops=tuple(card["op_sequence"]),
                    class_names=tuple(card["class_names"]),
                    model_name=card["model"],
                    upsample_form=card["upsample_form"],
                    substituted=tuple(card["substituted_activations"]),
                    arena_bytes=card["arena_bytes"],
                    kernel_arena_bytes=card.get("kernel_arena_bytes", {}),  # cards of 1.0 had none
                    verification=card["verification"],
                    input_ranges=tuple(None if part is None else (part[0], part[1]) for part in card["input_ranges"]),
                    float_layers=tuple(card["float_layers"]),
                    model_sha256=card["model_sha256"],
                    npu=npu,
                    preprocessing=Preprocessing.from_dict(card.get("preprocessing")),
                    op_layers=tuple(card.get("op_layers", ())),  # cards of 1.0 had none
                    code_name=card.get("code_name"),
                )
        except FileNotFoundError as error:
            raise ExportError(f"save() writes a file and its model card. Received: {error.filename} missing") from error
        except DamagedFileError as error:
            raise ExportError(str(error)) from error


def check_code_name_is_free(path: Path, target: str, name: str | None) -> None:
    """FileExistsError if another ``.tflite`` file beside ``path`` has C code of the same name.

    Args:
        path: Where a file is to be saved.
        target: Its target.
        name: ``Artifact.code_name``.
    """
    if not _has_code(target):
        return
    name = name or c_identifier(path.stem)
    for other in sorted(path.parent.glob("*.tflite")):
        card = _card_beside(other)
        if other == path or not _has_code(card.get("target")):
            continue
        if (card.get("code_name") or c_identifier(other.stem)).lower() == name.lower():  # macros are in upper case
            raise FileExistsError(
                f"Two files of a folder need code of different names: {other.name} has this one. Choose another "
                f"name. Received: name={name!r}"
            )


def _has_code(target: str | None) -> bool:
    return target in TARGETS and (TARGETS[target].kit == MICRO_KIT or TARGETS[target].writes_c)


def _saved_code_name(path: Path) -> str | None:
    return _card_beside(path).get("code_name")


def _card_beside(path: Path) -> dict[str, Any]:
    """The card of a file; {} if there is none or it is damaged."""
    try:
        found = json.loads(card_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _compiled_path(base: Path) -> Path:
    return base.with_name(f"{base.stem}_vela.tflite")


def _tensor_card(tensor: TensorInfo, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": tensor.scale,
        "zero_point": tensor.zero_point,
    }
