"""Profile one training step: the time of each op and the bytes that live at each moment. See step_profile.py.

Usage: step_profile_worker.py JSON, {"net": ..., "policy": ..., "recompute": ... or null, "steps": ..., "threads": ...}

Reads the trace of TensorFlow's profiler, so that it also profiles earlier versions of this package, from their own
environments. Prints one line of JSON.
"""

from __future__ import annotations

import collections
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from nets import NETS

# Part of the step -> ops of the graph. Others are "other".
PARTS: dict[str, tuple[str, ...]] = {
    "convolution": ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter", "Conv2DBackpropFilterWithBias", "MatMul"),
    "batch norm": ("BatchNormV3", "BatchNormGradV3", "BatchNormEx"),
    "random": ("StatelessRandomUniformV2", "StatelessRandomUniformFullIntV2", "StatelessRandomUniformIntV2"),
    "moves": ("ConcatV2", "Slice", "StridedSlice", "Split", "SplitV", "Pad", "Transpose", "DepthToSpace", "Cast",
              "SpaceToDepth", "StridedSliceGrad", "ConcatOffset"),
    "elementwise": ("Mul", "AddV2", "AddN", "Sub", "Erf", "Exp", "Square", "Neg", "BiasAdd", "BiasAddGrad", "Sum",
                    "Mean", "SelectV2", "GreaterEqual", "Less", "Tanh", "TanhGrad", "Relu", "ReluGrad", "RealDiv",
                    "Maximum", "Minimum", "Sqrt", "Rsqrt", "SquaredDifference", "Pow", "Sigmoid"),
}  # fmt: skip
PREFIXES = re.compile(r"^(_Mkl)?(Native)?_?(Fused)?")
PART_OF = {op: part for part, ops in PARTS.items() for op in ops}


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    # Only the BFC allocator reports every allocation on a CPU.
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPU_ALLOCATOR_USE_BFC": "true"}
    os.environ["TF_CPU_BFC_MEM_LIMIT_IN_MB"] = "12000"
    import keras
    import numpy as np
    import tensorflow as tf

    import wavemix_tf as wm

    tf.config.threading.set_intra_op_parallelism_threads(arguments["threads"])
    net = NETS[arguments["net"]]
    keras.config.set_dtype_policy(arguments["policy"])
    options = {} if arguments["recompute"] is None else {"recompute": arguments["recompute"]}
    model = wm.WaveMixClassifier(**net.config, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3), loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    images = random.random((net.training_batch, *net.config["image_shape"]), dtype="float32")
    labels = random.integers(0, net.config["num_classes"], net.training_batch)
    for _ in range(3):
        model.train_on_batch(images, labels)
    seen = [trace(tf, lambda: model.train_on_batch(images, labels)) for _ in range(arguments["steps"])]
    tables = [times(events) for events in seen]
    parts = {part: median(table.get(part, 0.0) for table in tables) for part in {name for t in tables for name in t}}
    curve = min((live(events) for events in seen), key=lambda found: found["ms"])
    return {"parts_ms": parts, **curve}


def trace(tf: Any, step: Any) -> list[tuple[float, float, str, dict[str, Any]]]:
    """(start, length, name, statistics) of each event of a step, in milliseconds, in their order."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3)
        with tf.profiler.experimental.Profile(folder, options):
            step()
        (path,) = Path(folder).glob("plugins/profile/*/*.xplane.pb")
        space = xplane_pb2.XSpace()
        space.ParseFromString(path.read_bytes())
    events = []
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                start = line.timestamp_ns / 1e6 + event.offset_ps / 1e9
                said = {plane.stat_metadata[one.metadata_id].name: one for one in event.stats}
                name = plane.event_metadata[event.metadata_id].name
                events.append((start, event.duration_ps / 1e9, name, said))
    return sorted(events, key=lambda event: event[0])


def times(events: list[tuple[float, float, str, dict[str, Any]]]) -> dict[str, float]:
    """Part of the step -> sum of the times of its ops in milliseconds; ops that run at once count each."""
    found: dict[str, float] = collections.defaultdict(float)
    for _, length, name, _ in events:
        place, colon, op = name.rpartition(":")
        if colon and place and op.isidentifier() and "/" in place:
            found[PART_OF.get(PREFIXES.sub("", op), "other")] += length  # oneDNN's kernels have names of their own
    return dict(found)


def live(events: list[tuple[float, float, str, dict[str, Any]]]) -> dict[str, Any]:
    """The allocated bytes over the step, weights and moments too: {"ms", "curve": [(ms, MiB), ...], "peak_mib"}."""
    curve = []
    for start, _, name, said in events:
        if name in ("MemoryAllocation", "MemoryDeallocation"):
            curve.append((start, _integer(said["bytes_allocated"]) / 2**20))
    origin = curve[0][0]
    moved = [(moment - origin, level) for moment, level in curve]
    peak = max(moved, key=lambda point: point[1])
    every = max(1, len(moved) // 600)
    return {"ms": moved[-1][0], "curve": sorted({*moved[::every], peak}), "peak_mib": peak[1]}


def _integer(statistic: Any) -> int:
    return int(getattr(statistic, statistic.WhichOneof("value")))


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
