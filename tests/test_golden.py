"""Golden parity: with the official package's weights our classifier computes the official logits.

The fixture comes from fixtures/make_golden.py; no PyTorch is needed here.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import wavemix_tf as wm

GOLDEN = np.load(Path(__file__).parent / "fixtures" / "golden.npz")
CASES = sorted({key.split("/")[0] for key in GOLDEN.files})


def golden_state(case: str) -> dict[str, np.ndarray]:
    prefix = f"{case}/state/"
    return {key.removeprefix(prefix): GOLDEN[key] for key in GOLDEN.files if key.startswith(prefix)}


def golden_model(case: str) -> wm.WaveMixClassifier:
    config = json.loads(str(GOLDEN[f"{case}/config"]))
    return wm.WaveMixClassifier(**config | {"image_shape": tuple(config["image_shape"])})


def test_every_level_and_both_stems_are_covered():
    assert {f"{stem}{level}" for stem in ("strided", "patchify") for level in (1, 2, 3, 4)} <= set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_the_official_ones(case):
    model = wm.load_torch_weights(golden_model(case), golden_state(case))
    logits = np.asarray(model(GOLDEN[f"{case}/image"], training=False))
    np.testing.assert_allclose(logits, GOLDEN[f"{case}/logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_trainable_parameters_equal_the_official_ones(case):
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    official = sum(array.size for key, array in golden_state(case).items() if not key.endswith(statistics))
    assert sum(int(np.prod(variable.shape)) for variable in golden_model(case).trainable_variables) == official
