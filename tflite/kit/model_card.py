"""The model card of a deployment kit, from the artifact and a run's report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wavemix_tf.escaping import markdown, markdown_code

from ..c_source.flash import c_flash_words
from ..c_source.generator import c_arena_bytes
from ..file.flatbuffer import FileInfo
from ..file.metadata import min_runtime
from ..names import KERNELS, MICRO_KIT, RUNTIMES
from ..targets.cmsis_nn import not_run
from ..targets.firmware import flash_words
from ..targets.table import get_target
from . import templates
from .firmware_files import cmsis_nn_words, file_tolerance
from .speed import speed_of
from .tensors import is_image, quantization
from .vectors import UNKNOWN, Vectors

METRICS = {
    "accuracy": "top-1",
    "mean_iou": "mIoU",
    "psnr_y": "PSNR of the luma",
}  # metric in report.json -> its name in the card
LARGEST_LIST = 40  # class names; a longer list is only in the labels


def model_card(artifact: Any, info: FileInfo, name: str, vectors: Vectors, report: Mapping[str, Any] | None) -> str:
    """The model card, from the artifact and the run's report; missing values are "unknown"."""
    report = report or {}
    row = _report_row(artifact, report)
    device = get_target(artifact.target).device
    network = report.get("model", {})
    counts = {op: artifact.ops.count(op) for op in sorted(set(artifact.ops))}
    identity = [
        ("network", markdown(network.get("name", artifact.model_name))),
        ("parameters", f"{network['parameters']:,}" if "parameters" in network else UNKNOWN),
        ("target", f"{artifact.target}: {device}"),
        ("arithmetic", artifact.dtype),
        ("size of the file", f"{artifact.size_bytes:,} bytes"),
        *_device_rows(artifact, name),
        *speed_of(artifact),
        ("tolerance against test vectors", file_tolerance(artifact, info).words),
        ("tensor arena", _arena(artifact)),
        *([] if get_target(artifact.target).writes_c else [("oldest TensorFlow Lite that runs it", _oldest(artifact))]),
        ("sha256", f"`{artifact.sha256}`"),
        ("upsampling written as", artifact.upsample_form or "no transposed convolution in the model"),
        ("activations replaced", markdown(", ".join(artifact.substituted)) or "none"),
        ("made", report.get("created", UNKNOWN)),
        ("by", markdown_code(report["command"]) if "command" in report else UNKNOWN),
        ("with", ", ".join(f"{k} {v}" for k, v in report.get("versions", {}).items()) or UNKNOWN),
    ]
    tensors = [
        f"- {which}, {markdown_code(said)}: {' x '.join(map(str, tensor.shape))} {tensor.dtype}, {quantization(tensor)}"
        for which, said, tensor in info.ends()
    ]
    if is_image(info.inputs[0]):
        tensors.append(f"- an input value is {artifact.to_dict()['input_meaning']}, a pixel 0 to 255")
        how = UNKNOWN if artifact.preprocessing is None else artifact.preprocessing.words
        tensors.append(f"- how pictures are resized to its size: {how}")
    names = ", ".join(map(markdown, artifact.class_names[:LARGEST_LIST]))
    more = len(artifact.class_names) - LARGEST_LIST
    tensors.append(f"- {len(artifact.class_names)} outputs: {names}" + (f" and {more} more" if more > 0 else ""))
    return templates.MODEL_CARD.substitute(
        name=name,
        summary=f"`{name}.tflite`, for {device}. Missing information is marked as unknown.",
        identity=_rows(identity),
        tensors="\n".join(tensors),
        data=_data(report),
        metrics=_metrics(report, row),
        verification=_verification(artifact, vectors),
        ops=f"{len(artifact.ops)} ops of {len(counts)} kinds.\n\n| op | times |\n|---|---|\n" + _rows(counts.items()),
        limits="\n".join(f"- {text}" for text in _limits(artifact, info, vectors, row)),
        licence="Of these weights: unknown; it depends on the data and on the owner of the training. wavemix-tf, which "
        "wrote the file, is under Apache-2.0, which does not cover the weights.",
    )


def _report_row(artifact: Any, report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The report's results of exactly this file, identified by its digest."""
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
        ("dataset", markdown(recipe.get("dataset", UNKNOWN))),
        ("recipe", markdown(recipe.get("name", UNKNOWN))),
        *((f"{kind} images", f"{count:,}") for kind, count in data["sizes"].items()),
        ("classes", f"{len(data['class_names']):,}"),
        ("image", f"{height} x {width}, {channels} channel{'s' if channels > 1 else ''}"),
        (
            "resized to that size by",
            {
                True: "cropping the center to the proportions, then resizing",
                False: "resizing, proportions not kept",
            }.get(recipe.get("crop_to_aspect_ratio"), UNKNOWN),
        ),
        ("epochs, of them int8", f"{recipe.get('epochs', UNKNOWN)}, {recipe.get('qat_epochs', UNKNOWN)}"),
        ("source of the images, and consent", UNKNOWN),
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
            lines.append(
                f"| {mark}{markdown(other['name'])} ({other['runtime']}) | {_score(other.get(metric), metric)} |"
            )
    lines.append("")
    counted = UNKNOWN if tested is None else f"{tested:,}"
    lines.append(f"{counted} test image{'' if tested == 1 else 's'}, used in neither training nor export.")
    latency = row.get("latency_ms") or {}
    if latency:
        machine = report.get("machine")
        where = machine if isinstance(machine, str) else ", ".join(f"{k} {v}" for k, v in (machine or {}).items())
        lines.append(
            f"Latency p50 {latency['p50']:.3g} ms, p90 {latency['p90']:.3g} ms at batch 1 under LiteRT on the machine "
            f"that made the file ({where or UNKNOWN}): not a figure of a device."
        )
    return "\n".join(lines)


def _verification(artifact: Any, vectors: Vectors) -> str:
    checks = artifact.verification
    lines = []
    for key, title in (
        ("fidelity", "Against the Keras model that the file computes"),
        ("against_given_model", "Against the Keras model that was given to export"),
        ("against_float_model", "Against the float model (for a quantized one the same weights without any rounding)"),
    ):
        found = checks.get(key)
        if not found:
            lines.append(f"{title}: {UNKNOWN}.")
            continue
        lines += [
            f"{title} (images: {checks.get('images', UNKNOWN)}; a step is {found['step']:.4g}):",
            "",
            "| runtime | images | mean error, steps | largest | tolerance of the mean | SNR | top-1 agreement |",
            "|---|---|---|---|---|---|---|",
        ]
        for one in found["runtimes"]:
            bound = checks.get("error_bound_steps", {}).get(one["runtime"])
            shown = UNKNOWN if bound is None else f"{bound:g}"
            judged = "not judged" if one["agreement"] is None or found["degenerate"] else _percent(one["agreement"])
            lines.append(
                f"| {RUNTIMES[one['runtime']].words} | {one['images']:,} | {one['mean_error_steps']:.3g} | "
                f"{one['max_error_steps']:.3g} | {shown if key == 'fidelity' else '-'} | {_snr(one.get('snr_db'))} | "
                f"{judged} of {one['counted']:,} |"
            )
        if key == "against_float_model":
            lines += ["", *(_judged(one, output) for one in found["runtimes"][:1] for output in one["outputs"])]
        lines.append("")
    tried = (
        "each entry of that list was run, or compiled, as a separate file"
        if get_target(artifact.target).tried_in
        else "no entry of that list was tried by this project"
    )
    lines.append(
        f"Every op was checked against the list of target {artifact.target} before the file was written; {tried}."
    )
    return "\n".join(lines)


def _snr(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f} dB"


def _judged(row: Mapping[str, Any], output: Mapping[str, Any]) -> str:
    """Line for one output against the float model."""
    shares = [f"same {one['what']} for {_percent(one['share'])} of {one['counted']:,}" for one in output["agreements"]]
    return (
        f"- {output['name']}: {', '.join([_snr(output['snr_db']), *shares])}; counted {output['judged']:,} of "
        f"{row['images']:,} images ({RUNTIMES[row['runtime']].words})"
    )


def _limits(artifact: Any, info: FileInfo, vectors: Vectors, row: Mapping[str, Any] | None) -> list[str]:
    checks = artifact.verification
    limits = [
        "It was run in the runtimes named above on the machine that made it, not on a phone, board or accelerator.",
        "It answers with one of its outputs whatever its input is; its quality on images unlike its data is unknown.",
        "Fairness, robustness and uses that it was not made for: unknown.",
    ]
    if row is None:
        limits.append("Its accuracy is unknown here.")
    if checks.get("images") == "generated":
        limits.append("It was verified on generated images, not on real ones.")
    if seen := checks.get("calibration_images"):
        limits.append(f"{seen} of the images on which it was verified before it was written are calibration images.")
    if checks.get("fidelity", {}).get("degenerate"):
        limits.append("Its outputs hardly depend on the image: it looks untrained.")
    if get_target(artifact.target).kit == MICRO_KIT:
        refused = not_run(info) is not None
        limits.append(
            "The arena was calculated for TensorFlow Lite Micro on a 32-bit device with the reference kernels"
            f"{'' if refused else ' and with CMSIS-NN'}; kernels tuned for other chips may need more."
        )
        if refused:
            limits.append(f"CMSIS-NN: {cmsis_nn_words(info)}")
    if get_target(artifact.target).litert_accelerator != "CPU":
        limits.append("The accelerator's own rounding (float16 on most) is not in the verification figures.")
    return limits


def _device_rows(artifact: Any, name: str) -> list[tuple[str, str]]:
    """Flash that the file takes on a device, and the file for an Ethos-U."""
    if artifact.npu is not None:
        npu = artifact.npu
        return [
            ("file for the device", f"`{name}_vela.tflite`, compiled by {npu.compiler} only for {npu.accelerator}"),
            ("flash", f"{npu.flash_bytes:,} bytes for the compiled file only, without the program that runs it"),
        ]
    row = get_target(artifact.target)
    if row.writes_c:
        return [("flash", c_flash_words(artifact.content))]
    interpreted = row.kit == MICRO_KIT
    return [("flash", flash_words(artifact.size_bytes, artifact.ops))] if interpreted else []


def _oldest(artifact: Any) -> str:
    release = min_runtime(artifact.content)
    return UNKNOWN if release is None else f"{release}, by the versions of its ops"


def _arena(artifact: Any) -> str:
    if get_target(artifact.target).writes_c:
        return f"{c_arena_bytes(artifact.content):,} bytes of the program in C, beside inputs and outputs"
    if artifact.arena_bytes is None:
        return "none for this target"
    parts = "; ".join(f"{KERNELS[kernels]} {size:,}" for kernels, size in artifact.kernel_arena_bytes.items())
    return f"{artifact.arena_bytes:,} bytes under TensorFlow Lite Micro" + (f" ({parts})" if parts else "")


def _score(value: float | None, metric: str) -> str:
    """A share in percent, or decibels."""
    return f"{value:.2f} dB" if metric == "psnr_y" and value is not None else _percent(value)


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.2f} %"


def _rows(pairs: Iterable[tuple[Any, Any]]) -> str:
    """Rows of a table; names given by users are Markdown already."""
    return "\n".join(f"| {key} | {value} |" for key, value in pairs)
