"""Quantization-aware training, export, audit and benchmark of TensorFlow Lite files: installed as ``wavemix_tf.tflite``."""

if __name__ == "tflite":
    # The same files under two names would register every Keras class twice, the last one winning silently.
    raise ImportError("This folder is installed as wavemix_tf.tflite: `pip install -e .`, then `import wavemix_tf.tflite`.")

from .artifact import Artifact
from .errors import ExportError, FidelityError, RuntimeFailureError, UnsupportedLayerError, UnsupportedOpError
from .exporter import export
from .latency import BenchmarkReport, benchmark
from .quantizer import calibrate, quantize
from .targets import TARGETS, Target
from .verifier import RuntimeReport, VerifyReport, verify

__all__ = [
    "TARGETS",
    "Artifact",
    "BenchmarkReport",
    "ExportError",
    "FidelityError",
    "RuntimeFailureError",
    "RuntimeReport",
    "Target",
    "UnsupportedLayerError",
    "UnsupportedOpError",
    "VerifyReport",
    "benchmark",
    "calibrate",
    "export",
    "quantize",
    "verify",
]
