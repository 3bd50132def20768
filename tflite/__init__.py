"""Quantization-aware training, export, audit and benchmark of TensorFlow Lite files."""

if __name__ != "wavemix_tf.tflite":
    # The same files under two names would register every Keras class twice, the last one winning silently.
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
from .targets import TARGETS, Npu, Target

if TYPE_CHECKING or not is_command():
    from .artifact import Artifact
    from .copy_check import QuantizationReport
    from .device_costs import DeviceCosts
    from .ethos import NpuReport
    from .exporter import export
    from .judgement import Agreement, OutputReport
    from .latency import BenchmarkReport, benchmark
    from .layer_noise import LayerError, layer_errors
    from .lowering import fold
    from .quantizer import calibrate, quantize
    from .range_choice import LayerRange
    from .tfmot_engine import TfmotModel
    from .verifier import RuntimeReport, VerifyReport, verify

__all__ = [
    "TARGETS",
    "Agreement",
    "Artifact",
    "BenchmarkReport",
    "CopyError",
    "DeviceCosts",
    "ExportError",
    "FidelityError",
    "LayerError",
    "LayerRange",
    "MemoryLimitError",
    "Npu",
    "NpuReport",
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
    "quantize",
    "verify",
]
