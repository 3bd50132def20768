"""Golden parity: with the weights of the official networks, ours compute the official outputs.

The fixture comes from fixtures/make_golden.py; no PyTorch is needed here.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import wavemix_tf as wm

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from nets import our_network, our_outputs

GOLDEN = np.load(Path(__file__).parent / "fixtures" / "golden.npz")
CASES = sorted({key.split("/")[0] for key in GOLDEN.files})


def golden_state(case: str) -> dict[str, np.ndarray]:
    prefix = f"{case}/state/"
    return {key.removeprefix(prefix): GOLDEN[key] for key in GOLDEN.files if key.startswith(prefix)}


def golden_model(case: str) -> keras.Model:
    return our_network(json.loads(str(GOLDEN[f"{case}/config"])))


def test_every_level_and_both_stems_are_covered():
    assert {f"{stem}{level}" for stem in ("strided", "patchify") for level in (1, 2, 3, 4)} <= set(CASES)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_outputs_equal_the_official_ones(case):
    model = wm.load_torch_weights(golden_model(case), golden_state(case))
    outputs = our_outputs(model, GOLDEN[f"{case}/image"])
    np.testing.assert_allclose(outputs, GOLDEN[f"{case}/outputs"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_exported_weights_are_the_official_ones(case):
    """Also that nothing is left out: every tensor of the official network, to the last bit."""
    state = golden_state(case)
    exported = wm.export_torch_weights(wm.load_torch_weights(golden_model(case), state))
    assert set(exported) == set(state)
    for key, array in state.items():
        np.testing.assert_array_equal(exported[key], array, err_msg=key)
        assert exported[key].dtype == array.dtype


@pytest.mark.parametrize("case", CASES)
def test_trainable_parameters_equal_the_official_ones(case):
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    official = sum(array.size for key, array in golden_state(case).items() if not key.endswith(statistics))
    assert sum(int(np.prod(variable.shape)) for variable in golden_model(case).trainable_variables) == official
