"""A cost that a command measures from a candidate's file."""

import sys

import pytest
from search_support import RECIPE, patterns

import wavemix_tf as wm
from wavemix_tf.tflite.errors import ExportError
from wavemix_tf.training import SearchResult, search

SCRIPT = """
import sys
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1])
interpreter.allocate_tensors()
print("warm-up: 1e9 us")
print("tensors:", len(interpreter.get_tensor_details()), "us", file=sys.stderr)
"""
RUN = [sys.executable, "-c", SCRIPT, "{file}"]
PATTERN = r"([0-9.e+]+) us"


def network(depth=1):
    return wm.WaveMixClassifier(3, (8, 8, 1), width=8, depth=depth)


@pytest.mark.slow
def test_the_last_number_of_the_last_command_counts():
    cost = wm.tflite.CommandCost("tensors", [["true"], RUN], PATTERN, scale=0.5)
    small, large = cost(network())["tensors"], cost(network(2))["tensors"]
    assert 4 < small < large < 100
    assert small * 2 == int(small * 2)


@pytest.mark.slow
def test_a_search_within_a_budget_that_a_command_measures(tmp_path):
    cost = wm.tflite.CommandCost("tensors", [RUN], PATTERN)
    limit = cost(network(2))["tensors"]
    search(RECIPE, max_trials=2, epochs=1, budget={"tensors": limit}, costs=[cost], data=patterns(), out=tmp_path)
    trials = SearchResult.load(tmp_path).trials
    assert trials
    assert all(0 < trial.costs["tensors"] <= limit for trial in trials)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ([["false", "{file}"]], r"'false'.*ended with code 1"),
        ([["no-such-program", "{file}"]], "could not be run"),
        ([["echo", "nothing", "{file}"]], "must print a number that matches"),
        ([["echo", "... us", "{file}"]], "must print a number that matches"),
        ([["sh", "-c", "exec sleep 60 # {file}"]], "could not be run"),
    ],
)
def test_a_command_that_fails_is_no_property_of_the_network(commands, message):
    with pytest.raises(RuntimeError, match=message) as caught:
        wm.tflite.CommandCost("ms", commands, PATTERN, timeout_s=0.5)(network())
    assert not isinstance(caught.value, ExportError)


@pytest.mark.parametrize(
    ("commands", "pattern", "message"),
    [
        ("adb {file}", PATTERN, "list of lists"),
        ([["adb", "shell"]], PATTERN, "must have the word"),
        ([RUN], "[0-9]+ us", "one group"),
        ([RUN], "([0-9]+ us", r"pattern must be a regular expression: .*Received: pattern="),
        ([["adb", 5, "{file}"]], PATTERN, "words of a command must be strings"),
    ],
)
def test_wrong_arguments(commands, pattern, message):
    with pytest.raises(ValueError, match=message):
        wm.tflite.CommandCost("ms", commands, pattern)


@pytest.mark.parametrize("options", [{"scale": 0}, {"scale": "1e-3"}, {"timeout_s": -1}, {"timeout_s": None}])
def test_its_numbers_are_positive(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be a positive number"):
        wm.tflite.CommandCost("ms", [RUN], PATTERN, **options)


def test_a_cost_has_a_name_of_its_own():
    cost = wm.tflite.CommandCost("parameters", [RUN], PATTERN)
    with pytest.raises(ValueError, match=r"name of its own\. Received: parameters more than once"):
        search(RECIPE, max_trials=1, budget={"parameters": 5}, costs=[cost], data=patterns())
