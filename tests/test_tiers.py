"""Every entry of ``tiers.py`` names tests that exist, and the tiers select what they say."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiers import NIGHTLY, is_nightly

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def collected():
    """Test ids of each tier, as pytest selects them."""

    def ids(*words):
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return {line for line in done.stdout.splitlines() if "::" in line}

    return {"all": ids("-m", ""), "change": ids(), "nightly": ids("-m", "nightly"), "quick": ids("-m", "not slow")}


@pytest.mark.slow
def test_the_tiers(collected):
    assert collected["change"] | collected["nightly"] == collected["all"]
    assert not collected["change"] & collected["nightly"]
    assert collected["quick"] < collected["change"]
    assert collected["nightly"] == {name for name in collected["all"] if is_nightly(name)}


@pytest.mark.slow
@pytest.mark.parametrize("pattern", NIGHTLY)
def test_every_pattern_names_a_test(collected, pattern, monkeypatch):
    monkeypatch.setattr("tiers.NIGHTLY", {pattern: ""})
    assert any(is_nightly(name) for name in collected["all"])
