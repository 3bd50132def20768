"""Quantization-aware training, export, audit and benchmark of TensorFlow Lite files."""

if __name__ != "wavemix_tf.tflite":
    # The same files under two names would register every Keras class twice, and the last would silently win.
    raise ImportError(
        "This folder is installed as wavemix_tf.tflite: run `pip install -e .`, then `import wavemix_tf.tflite`."
    )

from typing import TYPE_CHECKING

from wavemix_tf.startup import is_command

from .errors import (
    CopyError,
    ExportError,
    FidelityError,
    MemoryLimitError,
    RuntimeFailureError,
    UnsupportedLayerError,
    UnsupportedOpError,
)
from .targets.table import TARGETS, Npu, Target

if TYPE_CHECKING or not is_command():
    from .exporting.artifact import Artifact
    from .exporting.exporter import export
    from .graph.lowering import fold
    from .measuring.command_cost import CommandCost
    from .measuring.device_costs import DeviceCosts
    from .measuring.latency import BenchmarkReport, benchmark
    from .measuring.layer_noise import LayerError, layer_errors
    from .per_op.layer_costs import LayerCost, OpReport, OpRow, op_report
    from .quantization.copy_check import QuantizationReport
    from .quantization.quantizer import calibrate, quantize
    from .quantization.range_choice import LayerRange
    from .quantization.tfmot.model import TfmotModel
    from .runtimes.ethos import NpuReport
    from .verification.judgement import Agreement, OutputReport
    from .verification.verifier import RuntimeReport, VerifyReport, verify

__all__ = [
    "TARGETS",
    "Agreement",
    "Artifact",
    "BenchmarkReport",
    "CommandCost",
    "CopyError",
    "DeviceCosts",
    "ExportError",
    "FidelityError",
    "LayerCost",
    "LayerError",
    "LayerRange",
    "MemoryLimitError",
    "Npu",
    "NpuReport",
    "OpReport",
    "OpRow",
    "OutputReport",
    "QuantizationReport",
    "RuntimeFailureError",
    "RuntimeReport",
    "Target",
    "TfmotModel",
    "UnsupportedLayerError",
    "UnsupportedOpError",
    "VerifyReport",
    "benchmark",
    "calibrate",
    "export",
    "fold",
    "layer_errors",
    "op_report",
    "quantize",
    "verify",
]


def __dir__() -> list[str]:
    return sorted(__all__)
