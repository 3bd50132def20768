"""Quiet, small and reproducible: TensorFlow's logs off, few threads, every random generator seeded before each test."""

import json
import os
import sys

# Read by TensorFlow, OpenMP and BLAS when they load, so before any test module imports them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# One thread a worker: as many workers run as there are cores.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import pytest
from tiers import SLOW_FIXTURES, is_nightly

EVERY_CHANGE = "not nightly"  # of pyproject.toml's addopts


def pytest_addoption(parser):
    parser.addoption("--cpu-times", metavar="FILE", help="append each test's processor seconds to FILE (see tiers.py)")


def _processor_seconds():
    """Of this process and of those that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """With ``--cpu-times`` a line for each test: its id and its seconds, setup and teardown included."""
    path = item.config.getoption("--cpu-times")
    begun = _processor_seconds()
    yield
    if path:
        with open(path, "a") as file:
            file.write(json.dumps([item.nodeid, round(_processor_seconds() - begun, 3)]) + "\n")


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(config, items):
    """Mark the tests that ``tiers.py`` names. Whoever names a single test gets it, whatever its tier."""
    for item in items:
        if is_nightly(item.nodeid):
            item.add_marker(pytest.mark.nightly)
            item.add_marker(pytest.mark.slow)
        if SLOW_FIXTURES & {f"{item.path.name}::{name}" for name in item.fixturenames}:
            item.add_marker(pytest.mark.slow)
    if config.option.markexpr == EVERY_CHANGE and any("::" in str(word) for word in config.args):
        config.option.markexpr = ""


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    """Seeds Python, NumPy and Keras; a test that never imported Keras does not import it now."""

    if "keras" in sys.modules:
        import keras

        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy("float32")
        keras.config.set_floatx("float32")


@pytest.fixture
def rng():
    """A NumPy generator with a fixed seed."""
    import numpy as np

    return np.random.default_rng(0)
