"""Each private part of keras-tuner that the search uses exists and behaves as the search expects."""

import ast
import inspect
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import keras_tuner
import pytest
from keras_tuner.engine import base_tuner, trial
from keras_tuner.src.distribute.oracle_chief import OracleServicer
from keras_tuner.src.engine import oracle as oracle_module

from wavemix_tf.training.searching import keras_tuner_internals as internals

SEARCHING = Path(internals.__file__).parent
ORACLES = keras_tuner.oracles
COMPLETED = trial.TrialStatus.COMPLETED
# Methods that are called or overridden, and their parameters.
METHODS = [
    (keras_tuner.Oracle, "_get_oracle_fname", ["self"]),
    (keras_tuner.Oracle, "_duplicate", ["self", "values"]),
    (keras_tuner.Oracle, "_compute_values_hash", ["self", "values"]),
    (keras_tuner.Oracle, "_random_values", ["self"]),
    (keras_tuner.Oracle, "_check_consecutive_failures", ["self"]),
    (keras_tuner.Oracle, "_save_trial", ["self", "trial"]),
    (ORACLES.HyperbandOracle, "_start_new_bracket", ["self"]),
    (ORACLES.HyperbandOracle, "_get_num_brackets", ["self"]),
    (ORACLES.HyperbandOracle, "_get_num_rounds", ["self", "bracket_num"]),
    (ORACLES.HyperbandOracle, "_get_size", ["self", "bracket_num", "round_num"]),
    (ORACLES.HyperbandOracle, "_increment_bracket_num", ["self"]),
    (ORACLES.HyperbandOracle, "_random_trial", ["self", "trial_id", "bracket"]),
    (ORACLES.BayesianOptimizationOracle, "_nonfixed_space", ["self"]),
    (ORACLES.BayesianOptimizationOracle, "_vectorize_trials", ["self"]),
    (ORACLES.BayesianOptimizationOracle, "_random_populate_space", ["self"]),
    (base_tuner.BaseTuner, "_is_worker", ["self"]),
    (base_tuner.BaseTuner, "_run_and_update_trial", ["self", "trial", "fit_args", "fit_kwargs"]),
    (base_tuner.BaseTuner, "_try_run_and_update_trial", ["self", "trial", "fit_args", "fit_kwargs"]),
    (base_tuner.BaseTuner, "_get_tuner_fname", ["self"]),
]


@pytest.mark.parametrize(("owner", "name", "parameters"), METHODS, ids=[name for _, name, _ in METHODS])
def test_the_method_is_there(owner, name, parameters):
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_nothing_else_reaches_into_keras_tuner():
    owners = {owner for owner, _, _ in METHODS}
    private = {name for owner in owners for name in dir(owner) if name.startswith("_") and not name.startswith("__")}
    private |= {"_retry_queue", "_brackets", "_current_bracket", "stop_triggered"}  # of instances
    for path in set(SEARCHING.glob("*.py")) - {Path(internals.__file__)}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            used = getattr(node, "attr", None) or (node.name if isinstance(node, ast.FunctionDef) else None)
            assert used not in private, f"{path}:{node.lineno} {used}"
            module = getattr(node, "module", None) or ""
            assert not module.startswith("keras_tuner.src"), f"{path}:{node.lineno} {module}"


# --- behavior ---


class Random(internals.OracleInternals, ORACLES.RandomSearchOracle):
    """Records which hooks keras-tuner calls."""

    def __init__(self, **options):
        self.called = []
        super().__init__(**options)

    def random_values(self):
        self.called.append("random_values")
        return super().random_values()

    def count_failures(self):
        self.called.append("count_failures")
        super().count_failures()

    def save_trial(self, trial):
        self.called.append("save_trial")
        super().save_trial(trial)


def space():
    hp = keras_tuner.HyperParameters()
    hp.Choice("width", [1, 2, 3, 4])
    hp.Int("depth", 1, 3)
    hp.Fixed("fixed", 1)
    return hp


def made(oracle_class, folder, **options):
    oracle = oracle_class(objective=keras_tuner.Objective("score", "max"), hyperparameters=space(), seed=1, **options)
    oracle.verbose = 0
    oracle._set_project_dir(folder, "project")
    return oracle


def run_trial(oracle, score):
    found = oracle.create_trial("t")
    oracle.update_trial(found.trial_id, {"score": score})
    found.status = COMPLETED
    oracle.end_trial(found)
    return found


def test_an_oracle_calls_the_hooks(tmp_path):
    oracle = made(Random, tmp_path)
    values = run_trial(oracle, 1.0).hyperparameters.values
    assert set(oracle.called) == {"random_values", "count_failures", "save_trial"}
    assert oracle.is_tried(values)
    assert oracle.values_hash(values) == oracle.values_hash(dict(values))
    other = oracle.untried_random_values()
    assert other != values
    assert not oracle.is_tried(other)
    assert oracle.state_path == tmp_path / "project" / "oracle.json"
    oracle.save()
    assert oracle.state_path.is_file()


def test_a_trial_of_the_retry_queue_comes_next(tmp_path):
    oracle = made(Random, tmp_path)
    lost = oracle.create_trial("lost")
    del oracle.ongoing_trials["lost"]
    oracle.retry_queue = [lost.trial_id]
    assert oracle.create_trial("t").trial_id == lost.trial_id
    assert oracle.retry_queue == []


def test_the_lock_of_an_oracle_is_given_back(tmp_path):
    oracle = made(Random, tmp_path)
    oracle_module.LOCKS[oracle].acquire()
    oracle_module.THREADS[oracle] = "another"
    oracle.release_lock()
    assert not oracle_module.LOCKS[oracle].locked()
    run_trial(oracle, 1.0)  # would wait forever


class Hyperband(internals.OracleInternals, internals.HyperbandInternals):
    def __init__(self, **options):
        self.called = []
        super().__init__(**options)

    def round_size(self, bracket, turn):
        self.called.append("round_size")
        return super().round_size(bracket, turn)

    def advance_bracket(self):
        self.called.append("advance_bracket")
        super().advance_bracket()

    def random_trial(self, trial_id, bracket):
        self.called.append("random_trial")
        return super().random_trial(trial_id, bracket)


def test_hyperband_fills_brackets_of_rounds(tmp_path):
    oracle = made(Hyperband, tmp_path, max_epochs=9, factor=3)
    sizes = {
        bracket: [oracle.round_size(bracket, turn) for turn in range(oracle.round_count(bracket))]
        for bracket in range(oracle.bracket_count())
    }
    assert {bracket: len(rounds) for bracket, rounds in sizes.items()} == {0: 1, 1: 2, 2: 3}
    assert all(rounds == sorted(rounds, reverse=True) for rounds in sizes.values())
    oracle.clear_brackets()
    oracle.bracket = 1
    oracle.start_bracket()
    assert (oracle.bracket, oracle.get_state()["brackets"][0]["bracket_num"]) == (1, 1)
    oracle.called.clear()
    for score in range(sum(sizes[1]) + 1):  # one more starts the next bracket
        run_trial(oracle, float(score))
    assert {"round_size", "advance_bracket", "random_trial"} <= set(oracle.called)
    assert oracle.bracket != 1


class Bayesian(internals.OracleInternals, internals.BayesianInternals):
    pass


def test_the_gaussian_process_has_a_row_a_trial(tmp_path):
    oracle = made(Bayesian, tmp_path, num_initial_points=2)
    assert [parameter.name for parameter in oracle.varied_parameters()] == ["width", "depth"]
    for score in (1.0, 3.0):
        run_trial(oracle, score)
    x, y = oracle.trial_vectors()
    assert x.shape == (2, 2)
    assert y[1] < y[0], "a loss: smaller is better"
    assert set(oracle.random_response()["values"]) == {"width", "depth", "fixed"}


class Tuner(internals.TunerInternals):
    def __init__(self, *given, **named):
        self.called = []
        super().__init__(*given, **named)

    def run_trial(self, trial, *_, **__):
        self.called.append("run_trial")
        return {"score": 1.0}

    def try_trial(self, trial):
        self.called.append("try_trial")
        self.run_and_report(trial)
        trial.status = COMPLETED

    def tuner_state_path(self):
        self.called.append("tuner_state_path")
        return Path(self.project_dir, "other.json")


class HyperModel(keras_tuner.HyperModel):
    def build(self, hp):
        return None


def test_a_tuner_runs_trials_by_the_hooks(tmp_path, monkeypatch):
    monkeypatch.delenv("KERASTUNER_ORACLE_IP", raising=False)
    tuner = Tuner(made(Random, tmp_path, max_trials=2), HyperModel(), directory=str(tmp_path), project_name="project")
    assert not tuner.is_worker()
    tuner.search()
    assert tuner.called.count("run_trial") == tuner.called.count("try_trial") == 2
    tuner.save()
    assert (tmp_path / "project" / "other.json").is_file()
    assert all(found.score == 1.0 for found in tuner.oracle.trials.values())


def test_the_servicer_answers_and_says_when_nothing_is_left(tmp_path):
    oracle = made(Random, tmp_path, max_trials=1)
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = internals.add_to_server(oracle, server)
    assert isinstance(servicer, OracleServicer)
    run_trial(oracle, 1.0)
    assert not internals.has_stopped(servicer)
    servicer.CreateTrial(internals.protos.get_service().CreateTrialRequest(tuner_id="t"), None)
    assert internals.has_stopped(servicer)
