"""Folders of an older commit (`fixtures/make_old_state.py`) resume: a run, a search and a comparison."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import wavemix_tf as wm
from wavemix_tf.command.comparing import Comparison
from wavemix_tf.training import Recipe

OLD = Path(__file__).parent / "fixtures" / "old_state"


@pytest.fixture
def old(tmp_path):
    """A copy of the folders, to be resumed."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def arrays():
    """As ``make_old_state.arrays``."""
    labels = np.arange(48) % 2
    noise = np.random.default_rng(0).integers(0, 100, (48, 8, 8, 1))
    return (noise + 150 * labels[:, None, None, None]).astype(np.uint8), labels


@pytest.mark.parametrize("path", sorted(OLD.rglob("recipe.json")), ids=lambda path: str(path.parent.relative_to(OLD)))
def test_a_recipe_reads_and_writes_as_it_was(path):
    recipe = Recipe.from_json(path)
    assert recipe.to_json() == path.read_text()
    assert recipe == Recipe.from_json(recipe.to_json())


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_numbers_of_one_in_a_piece(old, tmp_path):
    recipe = Recipe.from_json(old / "run" / "recipe.json")
    first_row = (old / "run" / "history.csv").read_text().splitlines()[1]
    result = wm.training.fit(recipe, data=arrays(), out=old / "run", verbose=0)
    assert result.resumed_epochs == 1
    assert (old / "run" / "history.csv").read_text().splitlines()[1] == first_row
    whole = wm.training.fit(recipe, data=arrays(), out=tmp_path / "whole", verbose=0)
    # The first epoch used another number of threads: a difference of 2e-4. Another seed differs by 1e-1.
    assert result.history["val_loss"] == pytest.approx(whole.history["val_loss"], rel=5e-4)


@pytest.mark.slow
def test_an_interrupted_search_goes_on(old):
    recipe = Recipe.from_json(old / "run" / "recipe.json")
    trained = []
    best = wm.training.search(
        recipe,
        tuner="random",
        max_trials=2,
        epochs=1,
        data=arrays(),
        out=old / "search",
        callbacks=lambda: trained.append(1) or [],
        verbose=0,
    )
    assert len(trained) == 1, "the finished trial is not trained again"
    outcomes = [json.loads((old / "search" / "trials" / name / "outcome.json").read_text()) for name in "01"]
    assert outcomes[0] == json.loads((OLD / "search" / "trials" / "0" / "outcome.json").read_text())
    assert outcomes[1]["status"] == "completed"
    assert best.epochs == recipe.epochs


def test_a_comparison_is_taken_up(old):
    stored = json.loads((OLD / "comparison" / "comparison.json").read_text())
    recipe = Recipe.from_json(json.dumps(stored["recipe"]))
    found = Comparison(recipe, ["wavemix"], {}, None, [], 1, old / "comparison", False, "compare")
    assert found.record["systems"] == stored["systems"]
    run = old / "comparison" / "runs" / "wavemix" / "seed0"
    result = wm.training.fit(Recipe.from_json(run / "recipe.json"), out=run, verbose=0)
    assert result.history == {}  # nothing is trained, and the fixture has no curves
    assert result.validation_score == stored["systems"]["wavemix"]["runs"]["0"]["validation"]
