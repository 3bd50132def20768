"""Every named network has the parameters and products of its paper, or of its authors' code."""

import sys
from pathlib import Path

import numpy as np
import pytest

import wavemix_tf as wm

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from sizes import PUBLISHED, agrees, profile_of

# The same row with other classes, or another scale, as published for other data.
ELSEWHERE = [
    ("wavemix_192_16_l3_p4", {"num_classes": 200}, 27.70e6),
    ("wavemix_192_16_l1_p4", {"num_classes": 10}, 12.30e6),
    ("wavemixsr_v2", {"scale": 4}, 2 * 780_985),
]


def test_every_name_has_its_figures():
    assert set(PUBLISHED) == set(wm.VARIANTS)
    assert any(row.giga_macs for row in PUBLISHED.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name):
    model, found = profile_of(name)
    assert not found.uncounted
    assert found.parameters == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert agrees(found, PUBLISHED[name]), (found.parameters, found.macs)


@pytest.mark.parametrize(("name", "options", "parameters"), ELSEWHERE)
@pytest.mark.slow
def test_sizes_for_other_data(name, options, parameters):
    model = wm.build_model(name, **options)
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    if isinstance(parameters, int):
        assert count == parameters
    else:
        assert round(count / 1e4) == round(parameters / 1e4)


@pytest.mark.slow
def test_another_size_does_not_agree():
    found = wm.profile(wm.build_model("deit_tiny", num_classes=999))
    assert not agrees(found, PUBLISHED["deit_tiny"])
