"""Calls of a user that mypy checks through ``.ci/check_types.py``. Nothing runs this file.

Each wrong call has the error that mypy must report: with ``strict``, a comment that ignores nothing is an error too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import wavemix_tf as wm
from wavemix_tf.training.fitting.fit_result import FitResult


def types(model: Any, images: Any) -> None:
    recipe = wm.training.RECIPES["digits"]
    assert_type(recipe, wm.training.Recipe)
    result = wm.training.fit(recipe, data=(images, None), out="run")
    assert_type(result, FitResult)
    assert_type(result.history, dict[str, list[float]])
    assert_type(wm.training.load_data(recipe), wm.training.DataBundle)
    artifact = wm.tflite.export(model, target="mcu", dtype="int8")
    assert_type(artifact, wm.tflite.Artifact)
    assert_type(artifact.ops, tuple[str, ...])
    assert_type(artifact.size_bytes, int)
    assert_type(wm.tflite.verify(artifact, model, images), wm.tflite.VerifyReport)
    assert_type(wm.tflite.benchmark(artifact), wm.tflite.BenchmarkReport)
    assert_type(wm.profile(model), wm.ModelProfile)
    assert_type(wm.save_to_preset(model, "folder", class_names=["a", "b"]), Path)
    assert_type(wm.list_presets(), dict[str, dict[str, Any]])


def wrong_calls(model: Any, artifact: wm.tflite.Artifact) -> None:
    wm.tflite.quantize(model, None, rounding=8)  # type: ignore[arg-type]
    wm.tflite.quantize(model)  # type: ignore[call-arg]
    wm.tflite.export(model, max_arena_bytes="256 KiB")  # type: ignore[arg-type]
    wm.tflite.export(model, arena_bytes=1)  # type: ignore[call-arg]
    wm.tflite.benchmark(artifact, runs="100")  # type: ignore[arg-type]
    wm.training.fit("digits")  # type: ignore[arg-type]
    wm.training.Recipe("mine", "folder", (64, 64))  # type: ignore[arg-type]
    wm.from_preset(3)  # type: ignore[arg-type]
    wm.save_to_preset(model, "folder", card="text")  # type: ignore[arg-type]
    wm.build_model(artifact)  # type: ignore[arg-type]
    print(artifact.arena_kib)  # type: ignore[attr-defined]
