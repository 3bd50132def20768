"""Every entry of ``tiers.py`` names tests that exist, and nothing else is left to the night."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiers import NIGHTLY, SAMPLED, is_nightly

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def collected():
    """Test ids of each tier, as pytest selects them."""

    def ids(*words):
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return {line for line in done.stdout.splitlines() if "::" in line}

    return {"all": ids("-m", ""), "change": ids()}


@pytest.mark.slow
def test_the_tiers(collected):
    nightly = {name for name in collected["all"] if is_nightly(name)}
    assert nightly
    assert collected["change"] == collected["all"] - nightly


@pytest.mark.slow
def test_every_entry_names_a_test(collected):
    names = {name.removeprefix("tests/") for name in collected["all"]}
    whole = {name.partition("[")[0] for name in names}
    assert set(NIGHTLY) <= whole | names
    assert not set(NIGHTLY) & set(SAMPLED)
    for test, cases in SAMPLED.items():
        assert {f"{test}[{case}]" for case in cases} <= names
