"""Wrappers for the private parts of keras-tuner that the search uses; no other module accesses private parts.

keras-tuner 1.4 has no public way to refuse a candidate, to keep its state in one file, or to reassign the trial of a
lost worker. Methods of keras-tuner that start with "_" call the hooks here, which subclasses override; hooks and
attributes in turn call keras-tuner's. ``tests/test_keras_tuner_internals.py`` checks each against the installed
release, and pyproject.toml limits the release.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine import base_tuner
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer
from keras_tuner.src.engine import oracle as oracle_module

Values = dict[str, Any]


class OracleInternals(keras_tuner.Oracle):
    """Private parts of every oracle."""

    _retry_queue: list[str]

    @property
    def retry_queue(self) -> list[str]:
        """Trials that the next workers receive."""
        return self._retry_queue

    @retry_queue.setter
    def retry_queue(self, trial_ids: list[str]) -> None:
        self._retry_queue = trial_ids

    @property
    def state_path(self) -> Path:
        """File of the oracle's state."""
        return Path(self._get_oracle_fname())

    def is_tried(self, values: Values) -> bool:
        """Whether a trial had these values."""
        return self._duplicate(values)

    def values_hash(self, values: Values) -> str:
        """Hash by which keras-tuner recognizes repeated values."""
        return self._compute_values_hash(values)

    def untried_random_values(self) -> Values | None:
        """Random values that no trial had; None if keras-tuner finds none."""
        return keras_tuner.Oracle._random_values(self)

    def release_lock(self) -> None:
        """Release keras-tuner's lock, which it keeps after an error."""
        oracle_module.THREADS[self] = None
        if oracle_module.LOCKS[self].locked():
            oracle_module.LOCKS[self].release()

    # --- hooks ---

    def _random_values(self) -> Values | None:
        return self.random_values()

    def random_values(self) -> Values | None:
        """Values of the next random trial; None ends the search."""
        return super()._random_values()

    def _check_consecutive_failures(self) -> None:
        self.count_failures()

    def count_failures(self) -> None:
        """Called after a trial; keras-tuner raises after too many failures in a row."""
        super()._check_consecutive_failures()

    def _save_trial(self, trial: Any) -> None:
        self.save_trial(trial)

    def save_trial(self, trial: Any) -> None:
        """Write the file of a trial."""
        super()._save_trial(trial)


class HyperbandInternals(keras_tuner.oracles.HyperbandOracle):
    """Private parts of Hyperband: brackets of rounds, each of which trains fewer candidates for longer."""

    _current_bracket: int
    _brackets: list[dict[str, Any]]

    @property
    def bracket(self) -> int:
        """Number of the bracket that is being filled."""
        return self._current_bracket

    @bracket.setter
    def bracket(self, number: int) -> None:
        self._current_bracket = number

    def clear_brackets(self) -> None:
        """Remove all brackets."""
        self._brackets = []

    def start_bracket(self) -> None:
        """Add an empty bracket with the current number."""
        self._start_new_bracket()

    def bracket_count(self) -> int:
        """Number of kinds of brackets."""
        return self._get_num_brackets()

    def round_count(self, bracket: int) -> int:
        """Number of rounds of a bracket."""
        return self._get_num_rounds(bracket)

    # --- hooks ---

    def _get_size(self, bracket_num: int, round_num: int) -> int:
        return self.round_size(bracket_num, round_num)

    def round_size(self, bracket: int, turn: int) -> int:
        """Number of trials of a round."""
        return super()._get_size(bracket, turn)

    def _increment_bracket_num(self) -> None:
        self.advance_bracket()

    def advance_bracket(self) -> None:
        """Advance to the next bracket's number."""
        super()._increment_bracket_num()

    def _random_trial(self, trial_id: str, bracket: dict[str, Any]) -> dict[str, Any]:
        return self.random_trial(trial_id, bracket)

    def random_trial(self, trial_id: str, bracket: dict[str, Any]) -> dict[str, Any]:
        """The response with a candidate of a bracket's first round."""
        return super()._random_trial(trial_id, bracket)


class BayesianInternals(keras_tuner.oracles.BayesianOptimizationOracle):
    """Private parts of the Gaussian process."""

    def varied_parameters(self) -> list[Any]:
        """The hyperparameters that are not fixed, in the order of ``trial_vectors``."""
        return self._nonfixed_space()

    def trial_vectors(self) -> tuple[Any, Any]:
        """(x, y) of the finished trials; smaller y is better."""
        return self._vectorize_trials()

    def random_response(self) -> dict[str, Any]:
        """The response with random values."""
        return self._random_populate_space()


class TunerInternals(base_tuner.BaseTuner):
    """Private parts of the loop over trials."""

    def is_worker(self) -> bool:
        """Whether another process chooses the trials."""
        return self._is_worker()

    def run_and_report(self, trial: Any) -> None:
        """Run a trial and report its metrics to the oracle."""
        self._run_and_update_trial(trial)

    # --- hooks ---

    def _try_run_and_update_trial(self, trial: Any, *_: Any, **__: Any) -> None:
        self.try_trial(trial)

    def try_trial(self, trial: Any) -> None:
        """Run a trial and set its status, even if it raises."""
        super()._try_run_and_update_trial(trial)

    def _get_tuner_fname(self) -> str:
        return str(self.tuner_state_path())

    def tuner_state_path(self) -> Path:
        """File of the tuner's state."""
        return Path(super()._get_tuner_fname())


def add_to_server(oracle: Any, server: Any) -> Any:
    """Let a gRPC server answer workers for an oracle; return the servicer, see ``has_stopped``."""
    servicer = OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    return servicer


def has_stopped(servicer: Any) -> bool:
    """Whether a worker was informed that no trials are left."""
    return servicer.stop_triggered
