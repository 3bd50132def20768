"""The search: spaces, budgets, oracles, fronts, failures, and complete searches on small networks."""

import csv
import dataclasses
import json
import math
import re

import keras
import keras_tuner
import numpy as np
import pytest
from search_support import RECIPE, patterns

import wavemix_tf as wm
from wavemix_tf.command.tuning import front_table
from wavemix_tf.training import RECIPES, SPACES, BudgetError, Recipe, SearchResult, search
from wavemix_tf.training.fitting.trainer import build
from wavemix_tf.training.searching import oracles
from wavemix_tf.training.searching.candidates import Candidates, graph_costs
from wavemix_tf.training.searching.cost_goal import CostGoal
from wavemix_tf.training.searching.folder import SearchFolder
from wavemix_tf.training.searching.median_stopping import is_hopeless
from wavemix_tf.training.searching.progress import share_text
from wavemix_tf.training.searching.search_result import Trial, cost_title
from wavemix_tf.training.searching.tuner import SearchStoppedError


@pytest.fixture(scope="module")
def data():
    return patterns()


# --- spaces ---


def candidates(space, recipe, count, seed=0):
    hp = keras_tuner.HyperParameters()
    SPACES[space](hp, recipe)
    for scope in (["strided"], ["patchify"]):  # as keras-tuner does, to find conditional parameters
        if "stem" in hp.values:
            hp.values["stem"] = scope[0]
            hp.ensure_active_values()
            SPACES[space](hp, recipe)
    for index, values in zip(range(count), oracles.sample(hp, seed), strict=False):
        chosen = hp.copy()
        chosen.values = dict(values)
        yield index, values, SPACES[space](chosen, recipe)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10"])
@pytest.mark.slow
def test_every_candidate_of_a_space_can_be_built(space, name):
    recipe = RECIPES[name]
    seen = set()
    for _, values, found in candidates(space, recipe, 12):
        arguments = found.model_args
        assert arguments["width"] % 4 == 0
        assert (arguments["width"], arguments["depth"]) == (values["width"], values["depth"])
        keras.backend.clear_session()
        small = dataclasses.replace(found, model_args={**arguments, "depth": 1, "width": min(arguments["width"], 16)})
        assert build(small, 10).output_shape == (None, 10)
        seen.add(json.dumps(values, sort_keys=True))
    assert len(seen) > 6


@pytest.mark.slow
def test_the_recipe_itself_is_the_default_candidate():
    for name in ("digits", "cifar10"):
        hp = keras_tuner.HyperParameters()
        found = SPACES["depth-width"](hp, RECIPES[name])
        assert graph_costs(build(found, 10)) == graph_costs(build(RECIPES[name], 10))


def test_widths_of_a_vit_are_those_that_its_heads_divide():
    recipe = dataclasses.replace(RECIPES["cifar10"], model="ViT", model_args={"width": 30, "depth": 1, "heads": 5})
    widths = {found.model_args["width"] for _, _, found in candidates("depth-width", recipe, 12)}
    assert len(widths) > 3
    assert all(width % 5 == 0 for width in widths)
    assert SPACES["depth-width"](keras_tuner.HyperParameters(), recipe).model_args["width"] == 30


def test_conditional_values_are_there_only_where_they_matter():
    for _, values, found in candidates("full", RECIPES["cifar10"], 30):
        assert ("stride" in values) == (values["stem"] == "strided")
        assert ("patch_size" in values) == (values["stem"] == "patchify")
        assert found.model_args.get("stride") == values.get("stride")


# --- costs and budgets ---


def test_graph_costs_are_those_of_the_profile():
    model = build(RECIPES["digits"], 10)
    costs, profile = graph_costs(model), wm.profile(model)
    assert (costs["parameters"], costs["macs"]) == (profile.parameters, profile.macs)
    assert costs["int8_activation_bytes"] * 4 == profile.peak_activation_bytes
    assert profile.parameters * 0.9 < costs["int8_bytes"] < profile.parameters * 1.5


class Measure:
    """A cost that is measured: the number of layers; it counts how often it was asked."""

    names = ("layers",)

    def __init__(self, bounded=False, refuses=0):
        self.asked, self.refuses = 0, refuses
        if bounded:
            self.bounds = lambda model: {"layers": (len(model.layers) / 2, len(model.layers) * 2)}

    def __call__(self, model):
        self.asked += 1
        if len(model.layers) == self.refuses:
            raise ValueError("the target has no such op")
        return {"layers": len(model.layers)}


def space_of(budget, measures=(), path=None):
    def recipe_of(values):
        return dataclasses.replace(RECIPE, model_args={**RECIPE.model_args, **values})

    return Candidates(recipe_of, lambda recipe: build(recipe, 3), budget, measures, path)


def layers(depth):
    return len(build(dataclasses.replace(RECIPE, model_args={"width": 8, "depth": depth, "dropout": 0.0}), 3).layers)


@pytest.mark.slow
def test_a_network_is_measured_once_and_kept(tmp_path):
    measure = Measure()
    found = space_of({"layers": layers(2)}, [measure], tmp_path / "costs.json")
    assert [found.fits({"depth": depth}) for depth in (1, 2, 3, 3, 1)] == [True, True, False, False, True]
    assert (measure.asked, len(found.refused)) == (3, 1)
    again = space_of({"layers": layers(2)}, [Measure()], tmp_path / "costs.json")
    assert not again.fits({"depth": 3})
    assert again.measures[0].asked == 0


@pytest.mark.slow
def test_bounds_decide_clear_cases_without_measuring():
    measure = Measure(bounded=True)
    found = space_of({"layers": 2.5 * layers(1)}, [measure])
    assert found.fits({"depth": 1})
    assert not found.fits({"depth": 30})
    assert measure.asked == 0
    assert found.fits({"depth": 4})
    assert measure.asked == 1


def test_a_network_that_a_target_refuses_does_not_fit_and_says_why():
    found = space_of({"layers": 100}, [Measure(refuses=layers(2))])
    assert found.fits({"depth": 1})
    assert not found.fits({"depth": 2})
    assert found.refusal(found.recipe_of({"depth": 2})) == "the target has no such op"


def test_a_measure_that_breaks_ends_the_search_and_refuses_nothing(data, tmp_path):
    class Broken(Measure):
        def __call__(self, model):
            raise RuntimeError("the worker could not be started")

    options = dict(max_trials=2, epochs=1, data=data, tuner="random", verbose=0)
    with pytest.raises(RuntimeError, match="the worker could not be started"):
        search(RECIPE, costs=[Broken()], budget={"layers": 9}, out=tmp_path / "budget", **options)
    assert not (tmp_path / "budget" / "trials").exists()
    with pytest.raises(RuntimeError, match="Measuring the costs failed: the worker could not be started"):
        search(RECIPE, costs=[Broken()], out=tmp_path / "costs", **options)
    best = search(RECIPE, costs=[Measure()], out=tmp_path / "costs", **options)  # the trial was not lost
    assert best == SearchResult.load(tmp_path / "costs").best.recipe


@pytest.mark.slow
def test_an_impossible_budget_names_the_nearest():
    def none(values):
        return ()

    found = space_of({"parameters": 100})
    with pytest.raises(BudgetError, match=r"nearest: width=8 depth=1: parameters 1,\d+; .*budget=parameters<=100"):
        found.check([{"depth": depth} for depth in (3, 1, 2)], none)
    found = space_of({"layers": 1}, [Measure()])  # only measuring can decide
    with pytest.raises(BudgetError, match=r"depth=1: layers \d+"):
        found.check([{"depth": depth} for depth in (2, 1)], none)


@pytest.mark.slow
def test_a_corner_that_fits_is_found_where_no_random_network_does():
    recipe = RECIPES["cifar10"]
    hp = keras_tuner.HyperParameters()
    for stem in ("strided", "patchify"):
        SPACES["full"](hp, recipe)
        hp.values["stem"] = stem
        hp.ensure_active_values()

    def recipe_of(values):
        chosen = hp.copy()
        chosen.values = dict(values)
        return SPACES["full"](chosen, recipe)

    found = Candidates(recipe_of, lambda one: build(one, 10), {"macs": 14_000})
    smallest = next(oracles.sample(hp, 0))  # with the smallest stride, which costs most
    assert found.excess(recipe_of(smallest))
    sure, _, looked = found.check([smallest], lambda values: oracles.variations(hp, values))
    assert sure >= 1
    assert looked < 200


def test_what_is_measured_counts_for_more_than_its_bounds():
    measure = Measure()
    measure.bounds = lambda model: {"layers": (1, 4)}  # a wrong estimate
    found = space_of({"layers": 5}, [measure])
    recipe = found.recipe_of({"depth": 2})
    assert found.fits({"depth": 2})
    assert found.costs(recipe)["layers"] > 5
    assert found.excess(recipe, measured=False)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"ram": 5}, "budget must limit costs of parameters, macs, int8_bytes, int8_activation_bytes"),
        ({"parameters": 0}, "A limit must be a positive number. Received: parameters=0"),
        ({"parameters": "many"}, "A limit must be a positive number. Received: parameters='many'"),
    ],
)
def test_a_wrong_budget(budget, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        space_of(budget)


# --- oracles ---


def make(name, max_trials=50, fits=lambda values: True, seed=1, **options):
    oracle = oracles.ORACLES[name](
        objective=keras_tuner.Objective("score", "max"),
        seed=seed,
        max_trials=max_trials,
        **({"max_epochs": 9} if name == "hyperband" else {}),
        **options,
    )
    oracle.fits = fits
    hp = keras_tuner.HyperParameters()
    hp.Int("depth", 1, 6)
    hp.Choice("width", [8, 16, 32, 64])
    oracle.update_space(hp)
    return oracle


def play(oracle, tmp_path, until=100, tuner_id="t", score=None):
    """Run trials whose score is known; returns their values."""
    oracle._set_project_dir(str(tmp_path), "state")
    tried = []
    for _ in range(until):
        trial = oracle.create_trial(tuner_id)
        if trial.status != "RUNNING":
            break
        values = dict(trial.hyperparameters.values)
        tried.append(values)
        result = score(values) if score else values["depth"] - (values["width"] - 32) ** 2 / 500
        oracle.update_trial(trial.trial_id, {"score": result})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return tried


@pytest.mark.parametrize("name", oracles.ORACLES)
@pytest.mark.slow
def test_no_oracle_proposes_what_does_not_fit(name, tmp_path):
    def fits(values):
        return values["depth"] * values["width"] <= 64

    tried = play(make(name, max_trials=16, fits=fits), tmp_path)
    assert tried
    assert all(map(fits, tried))
    if name != "hyperband":  # whose later rounds repeat values of earlier ones
        assert len({json.dumps(values, sort_keys=True) for values in tried}) == len(tried)


@pytest.mark.parametrize("name", ["random", "bayesian", "grid"])
@pytest.mark.slow
def test_a_small_space_is_gone_through_to_its_end(name, tmp_path):
    def fits(values):
        return values["width"] < 64 and values["depth"] != 3

    tried = play(make(name, fits=fits), tmp_path)
    assert len(tried) == 15


def test_the_bayesian_oracle_finds_the_best_sooner_than_chance(tmp_path):
    # 24 candidates, one best; a random search needs 12.5 trials on average; 6 trials are random for both.
    needed = []
    for seed in range(1, 7):
        tried = play(make("bayesian", seed=seed), tmp_path / str(seed))
        needed.append(tried.index({"depth": 6, "width": 32}) + 1)
    assert np.mean(needed) < 9.5


def test_hyperband_trains_the_best_on(tmp_path):
    tried = play(make("hyperband", max_trials=30), tmp_path, score=lambda values: values["depth"])
    later = [values for values in tried if values["tuner/round"] > 0]
    assert later
    assert all(values["tuner/epochs"] > values["tuner/initial_epoch"] > 0 for values in later)


def test_hyperband_ends_with_networks_that_were_trained_to_the_end(tmp_path):
    # 9 epochs make brackets that start with 9, 3 and 1 trials; the largest does not fit into ten trials.
    tried = play(make("hyperband", max_trials=10), tmp_path / "few", score=lambda values: values["depth"])
    assert len(tried) == 10
    assert any(values["tuner/epochs"] == 9 for values in tried)
    # If there are few candidates, these are promoted.
    few = make("hyperband", max_trials=30, fits=lambda values: values["depth"] == 2)
    tried = play(few, tmp_path / "small", score=lambda values: values["width"])
    assert {values["width"] for values in tried} == {8, 16, 32, 64}
    assert any(values["tuner/round"] > 0 and values["tuner/epochs"] == 9 for values in tried)


@pytest.mark.parametrize("name", oracles.ORACLES)
@pytest.mark.slow
def test_an_oracle_goes_on_after_a_kill_as_if_nothing_was(name, tmp_path):
    if name == "bayesian":  # its pool is random: check only that nothing is lost or tried twice
        first, second = make(name, max_trials=10), make(name, max_trials=10)
        tried = play(first, tmp_path, until=4)
        second._set_project_dir(str(tmp_path), "state")
        second.reload()
        tried += play(second, tmp_path)
        assert len({json.dumps(values) for values in tried}) == len(tried) == 10
        return
    whole = play(make(name, max_trials=10), tmp_path / "whole")
    parts = play(make(name, max_trials=10), tmp_path / "parts", until=4)
    killed = make(name, max_trials=10)
    killed._set_project_dir(str(tmp_path / "parts"), "state")
    killed.reload()
    running = killed.create_trial("t")  # killed in the middle of this one
    again = make(name, max_trials=10)
    again._set_project_dir(str(tmp_path / "parts"), "state")
    again.reload()
    parts += play(again, tmp_path / "parts")
    assert parts == whole
    assert dict(running.hyperparameters.values) == whole[4]


def test_a_kill_between_the_end_of_a_trial_and_its_bookkeeping_runs_nothing_twice(tmp_path):
    oracle = make("random")
    play(oracle, tmp_path, until=2)
    trial = oracle.create_trial("t")
    oracle.update_trial(trial.trial_id, {"score": 1.0})
    trial.status = "COMPLETED"
    # As keras-tuner saves it: ended, but still in the list of running trials.
    oracle.end_order.append(trial.trial_id)
    oracle.save()
    again = make("random")
    again._set_project_dir(str(tmp_path), "state")
    again.reload()
    assert again.retry_queue == []
    assert again.create_trial("t").trial_id not in oracle.trials


def test_the_trial_of_a_worker_that_fell_silent_goes_to_another(tmp_path):
    oracle = make("random", max_trials=2)
    oracle._set_project_dir(str(tmp_path), "state")
    lost, other = oracle.create_trial("dead"), oracle.create_trial("alive")
    assert oracle.create_trial("third").status == "IDLE"  # not STOPPED: one of the two may be lost
    oracle.seen[lost.trial_id] -= 60
    oracle.requeue_silent(30)
    taken = oracle.create_trial("third")
    assert taken.trial_id == lost.trial_id
    for trial in (taken, other, lost):  # the lost worker was only slow
        oracle.update_trial(trial.trial_id, {"score": 1.0})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert sorted(oracle.end_order) == sorted([lost.trial_id, other.trial_id])
    assert oracle.create_trial("alive").status == "STOPPED"


# --- results ---


def trial_of(index, score, parameters, status="completed", error=None):
    return Trial(
        str(index), status, {"depth": index}, score, {"val_accuracy": score}, {"parameters": parameters}, 4, 1.0,
        error, error and f"Traceback\n{error}", RECIPE,
    )  # fmt: skip


def test_the_front_has_what_nothing_beats(tmp_path):
    trials = [
        trial_of(0, 0.5, 100),
        trial_of(1, 0.7, 200),
        trial_of(2, 0.6, 300),  # beaten by 1
        trial_of(3, 0.7, 250),  # equal to 1, and larger
        trial_of(4, 0.9, 900),
        trial_of(5, 0.95, 950, "over budget"),
        trial_of(6, None, 10, "failed", "ValueError: no"),
    ]
    result = SearchResult("val_accuracy", "max", {"parameters": 920}, tuple(trials))
    assert [trial.trial_id for trial in result.front("parameters")] == ["0", "1", "4"]
    assert result.best.trial_id == "4"
    result.save(tmp_path)
    with (tmp_path / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["trial"], row["value"]) for row in rows] == [("0", "100"), ("1", "200"), ("4", "900")]
    for row in rows:
        assert Recipe.from_json(tmp_path / row["recipe"]) == RECIPE
    with (tmp_path / "trials.csv").open() as file:
        assert [row["error"] for row in csv.DictReader(file)][-1] == "ValueError: no"
    with pytest.raises(ValueError, match=r"cost must be one of parameters. Received: cost='flash'"):
        result.front("flash")
    assert (tmp_path / "front.png").stat().st_size > 10_000
    losses = SearchResult("val_loss", "min", {}, tuple(trials[:3]))
    assert losses.best.trial_id == "0"
    assert [trial.trial_id for trial in losses.front("parameters")] == ["0"]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((0, 10, 10), "of 10 sampled networks 10 are not yet known: each is measured when its turn comes"),
        ((3, 0, 10), "of 10 sampled networks 3 (30 %) are within it"),
        ((3, 2, 10), "of 10 sampled networks 3 (30 %) are within it, 2 are not yet known: each is measured when"),
        ((0, 0, 0), "of 0 sampled networks 0 (0 %) are within it"),
    ],
)
def test_unmeasured_networks_are_not_called_outside_the_budget(counts, said):
    assert share_text(*counts).startswith(said)
    assert ("0 %) are within" in share_text(*counts)) == (counts[1] == 0 or counts[0] > 0)


def test_instructions_name_their_core(tmp_path):
    trials = [trial_of(0, 0.5, 100), trial_of(1, 0.7, 200)]
    trials = [
        dataclasses.replace(one, costs={**one.costs, "instructions": 1e6 * (i + 1)}) for i, one in enumerate(trials)
    ]
    result = SearchResult("val_accuracy", "max", {"parameters": 920}, tuple(trials))
    result.save(tmp_path)
    with (tmp_path / "front.csv").open() as file:
        notes = {row["cost"]: row["note"] for row in csv.DictReader(file)}
    assert notes == {"parameters": "", "instructions": "estimated for a Cortex-M4"}
    assert cost_title("instructions") == "instructions, estimated for a Cortex-M4"
    assert cost_title("flash_bytes") == "flash, bytes"
    table = front_table(result)
    heads = [" ".join(str(column.header).split()) for column in table.columns]
    assert heads[:4] == ["trial", "val_accuracy", "parameters", "instructions, estimated for a Cortex-M4"]
    assert list(table.columns[3].cells) == ["1,000,000", "2,000,000"]


@pytest.mark.slow
def test_the_oracle_of_a_goal_finds_the_cheapest_that_keeps_the_score_sooner_than_chance(tmp_path):
    # 24 candidates; those from depth 4 and width 16 on keep the score; the cheapest of them costs 64.
    goal, needed = CostGoal("cost", 0.8), []

    def loss(values):
        score = min(1.0, 0.2 * min(values["depth"], 4) + (0.0 if values["width"] >= 16 else -0.2))
        return -goal.loss(score, {"cost": values["depth"] * values["width"]})  # these oracles maximize

    for seed in range(1, 5):
        tried = play(make("bayesian", seed=seed), tmp_path / str(seed), score=loss, until=14)
        best = {"depth": 4, "width": 16}
        needed.append(tried.index(best) + 1 if best in tried else 24)
    assert np.mean(needed) < 10.5  # chance: 12.5, and 6 trials are random


def test_a_goal_decides_the_best_and_not_the_penalty(tmp_path):
    def trial(number, score, cost):
        return Trial(str(number), "completed", {}, score, {}, {"macs": cost}, 1, 1.0, None, None, RECIPE)

    trials = (trial(0, 0.95, 900.0), trial(1, 0.899, 100.0), trial(2, 0.91, 500.0), trial(3, 0.90, 600.0))
    result = SearchResult("val_accuracy", "max", {}, trials, CostGoal("macs", 0.9))
    assert [one.trial_id for one in result.completed] == ["2", "3", "0", "1"]
    assert result.best.trial_id == "2"
    result.save(tmp_path)
    assert (tmp_path / "best.json").exists()
    strict = dataclasses.replace(result, goal=CostGoal("macs", 0.99))
    assert strict.best is None
    assert strict.nearest.trial_id == "0"
    strict.save(tmp_path)
    assert not (tmp_path / "best.json").exists()
    goal = CostGoal("macs", 0.9)
    assert goal.loss(0.891, {"macs": 100.0}) == pytest.approx(goal.loss(0.9, {"macs": 400.0}))  # 1 % short: times 4
    assert goal.loss(0.95, {"macs": 100.0}) == goal.loss(0.9, {"macs": 100.0})
    assert goal.loss(0.95, {}) > goal.loss(0.5, {"macs": 1e12})


# --- complete searches ---


@pytest.mark.slow
def test_a_search_ends_in_a_front_and_a_recipe(data, tmp_path, capsys):
    out = tmp_path / "search"
    options = dict(max_trials=2, epochs=2, budget={"parameters": 5000, "layers": 40}, data=data, out=out)
    best = search(RECIPE, costs=[Measure()], **options)
    shown = capsys.readouterr().out
    assert "8 combinations" in shown
    assert re.search(r"2 of 2: trial \d, depth=\d width=\d+, val_accuracy 0\.\d+, parameters [\d,]+, layers \d+", shown)
    result = SearchResult.load(out)
    assert len(result.trials) == 2
    assert all(trial.status == "completed" for trial in result.trials)
    assert all(trial.costs["parameters"] <= 5000 and trial.costs["layers"] <= 40 for trial in result.trials)
    assert best == result.best.recipe == Recipe.from_json(out / "best.json")
    assert best.epochs == RECIPE.epochs
    assert "val_accuracy" in json.loads((out / "best.json").read_text())["description"]
    assert list(out.glob("trials/*/tensorboard/hparams/*"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.keras")}
    assert search(RECIPE, costs=[Measure()], **options) == best
    assert "2 of 2 trials are finished" in capsys.readouterr().out
    more = search(RECIPE, costs=[Measure()], **{**options, "max_trials": 3})
    assert len(SearchResult.load(out).trials) == 3
    assert isinstance(more, Recipe)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(ValueError, match=r"holds another search.*Received: epochs=3 \(there 2\)"):
        search(RECIPE, costs=[Measure()], **{**options, "epochs": 3})


def test_hyperband_and_a_score_of_ones_own(data, tmp_path):
    seen = []

    def score(result, bundle):
        seen.append(result.out.name)
        assert bundle.calibration.shape[1:] == (8, 8, 1)
        return {"own_accuracy": result.validation_accuracy / 2}

    out = tmp_path / "search"
    search(RECIPE, tuner="hyperband", max_trials=5, epochs=3, objective="own_accuracy", score=score, data=data, out=out)
    result = SearchResult.load(out)
    assert len(result.trials) == len(seen) == 5
    later = [trial for trial in result.trials if trial.values.get("tuner/initial_epoch")]
    assert later
    for trial in later:
        first = next(other for other in result.trials if other.trial_id == trial.values["tuner/trial_id"])
        assert {k: v for k, v in trial.values.items() if "tuner" not in k} == {
            k: v for k, v in first.values.items() if "tuner" not in k
        }
        # It continues from the weights of the earlier round.
        history = (out / "trials" / trial.trial_id / "history.csv").read_text().splitlines()
        before = (out / "trials" / first.trial_id / "history.csv").read_text().splitlines()
        column = history[0].split(",").index("loss")
        assert float(history[1].split(",")[column]) < float(before[1].split(",")[column])


@pytest.mark.parametrize(
    ("curve", "others", "stops"),
    [
        ([0.1, 0.2], [[0.4, 0.5]] * 4, True),
        ([0.1, 0.46], [[0.4, 0.5]] * 4, False),  # the others' average is 0.45
        ([0.1, 0.2], [[0.4, 0.5]] * 3, False),  # too few
        ([0.1, 0.2], [[0.9]] * 9, False),  # none has reached the epoch
        ([0.0, 0.375], [[0.25] * 2, [0.25] * 2, [0.5] * 2, [0.5] * 2], False),  # equal to the median
        ([0.3, 0.1], [[0.4, 0.4, 0.0], [0.4, 0.4, 0.0], [0.4, 0.4, 0.0], [0.2, 0.2]], True),
        ([0.1, 0.1], [[math.nan, 0.5]] * 5 + [[0.5, 0.5]] * 4, True),  # those whose loss diverged do not count
    ],
)
def test_the_median_stopping_rule(curve, others, stops):
    assert is_hopeless(curve, others) is stops


@pytest.mark.slow
def test_a_trial_below_the_median_ends_early(data, tmp_path, capsys):
    def space(hp, recipe):  # four that learn, then one that does not
        number = hp.Choice("number", [0, 1, 2, 3, 4])
        return dataclasses.replace(recipe, seed=number, learning_rate=1e-9 if number == 4 else 5e-3)

    options = dict(space=space, tuner="grid", max_trials=5, epochs=8, data=data, median_stopping=True)
    search(RECIPE, out=tmp_path, **options)
    epochs = {trial.values["number"]: trial.epochs for trial in SearchResult.load(tmp_path).trials}
    assert epochs[4] == 2
    assert max(epochs.values()) == 8
    assert "stopped after 2 of 8 epochs" in capsys.readouterr().out
    for wrong in ({"tuner": "hyperband"}, {"minimize": "macs", "min_score": 0.5}):
        with pytest.raises(ValueError, match="median_stopping compares"):
            search(RECIPE, out=tmp_path / "other", **{**options, **wrong})


def test_a_space_of_ones_own_with_trials_that_fail(data, tmp_path, capsys):
    def space(hp, recipe):
        kind = hp.Choice("kind", ["plain", "diverges", "wide", "odd"])
        width = {"wide": 12, "odd": 6}.get(kind, 8)  # 6 is not a multiple of 4
        rate = 1e30 if kind == "diverges" else 1e-3
        return dataclasses.replace(recipe, model_args={**recipe.model_args, "width": width}, learning_rate=rate)

    out = tmp_path / "search"
    best = search(RECIPE, space=space, tuner="grid", max_trials=6, epochs=1, data=data, out=out)
    shown, errors = capsys.readouterr()
    found = {trial.values["kind"]: trial for trial in SearchResult.load(out).trials}
    assert {kind: trial.status for kind, trial in found.items()} == {
        "plain": "completed", "diverges": "failed", "wide": "completed", "odd": "failed"
    }  # fmt: skip
    assert re.search(r"ArithmeticError: loss became (nan|inf) in epoch 1", found["diverges"].error)
    assert "Received: width=6" in found["odd"].error
    assert "Traceback" in found["odd"].traceback
    assert "kind=odd, failed: ValueError: " in shown
    assert "Traceback" not in errors
    assert best.learning_rate == 1e-3


def test_three_failures_in_a_row_stop_the_search(data, tmp_path):
    def score(result, bundle):
        raise KeyError(f"no such column in {result.out.name}")

    out = tmp_path / "search"
    options = dict(max_trials=8, epochs=1, tuner="random", data=data, out=out, score=score, verbose=0)
    with pytest.raises(SearchStoppedError, match=r"3 trials in a row failed; the first: KeyError: .*in 0") as error:
        search(RECIPE, **options)
    assert "Traceback" in str(error.value)
    assert [trial.status for trial in SearchResult.load(out).trials] == ["failed"] * 3


def test_an_objective_that_no_trial_has_ends_the_search_at_once(data, tmp_path):
    def score(result, bundle):
        return {"own_accuracy": 0.5}

    options = dict(max_trials=8, epochs=1, data=data, score=score, objective="val_other_accuracy", verbose=0)
    with pytest.raises(ValueError, match=r"objective must be one of .*own_accuracy.*Received: objective='val_other"):
        search(RECIPE, out=tmp_path / "trained", **options)
    assert len(list((tmp_path / "trained" / "trials").iterdir())) == 1
    score.names = ("own_accuracy",)
    with pytest.raises(ValueError, match=r"objective must be one of .*own_accuracy including the metrics of score"):
        search(RECIPE, out=tmp_path / "told", **options)
    assert not (tmp_path / "told").exists()


def test_when_no_trial_succeeds_the_cause_is_named(data, tmp_path):
    def space(hp, recipe):
        return dataclasses.replace(recipe, model_args={**recipe.model_args, "width": hp.Choice("width", [6, 10])})

    options = dict(space=space, tuner="grid", max_trials=2, epochs=1, data=data, out=tmp_path / "search", verbose=0)
    with pytest.raises(RuntimeError, match=r"No trial succeeded; the first failure, trial 0: ValueError: .*width=6"):
        search(RECIPE, **options)


def test_a_folder_knows_its_space_and_its_data(data, tmp_path):
    """A space of the same name with another range or another recipe, and other images, are another search."""

    def named(widths, rate=1e-3):
        def space(hp, recipe):
            width = hp.Choice("width", widths)
            return dataclasses.replace(recipe, model_args={**recipe.model_args, "width": width}, learning_rate=rate)

        return space

    out = tmp_path / "search"
    options = dict(tuner="grid", max_trials=1, epochs=1, out=out, verbose=0)
    best = search(RECIPE, space=named([4, 8]), data=data, **options)
    assert search(RECIPE, space=named([4, 8]), data=data, **options) == best
    for space in (named([4, 12]), named([4, 8], 1e-2)):
        with pytest.raises(ValueError, match=r"holds another search.*a space with other hyperparameters, ranges or"):
            search(RECIPE, space=space, data=data, **options)
    images, labels = patterns()
    swapped = np.where(labels == 0, 1, np.where(labels == 1, 0, labels))
    with pytest.raises(ValueError, match=r"another search.*other data: train .*checksum \d+ \(there .*checksum \d+\)"):
        search(RECIPE, space=named([4, 8]), data=(images, swapped), **options)


@pytest.mark.slow
def test_validation_images_of_ones_own(data, tmp_path):
    images, labels = patterns()
    seen = []

    def score(result, bundle):
        seen.append(bundle.validation_source.size)
        return {}

    options = dict(max_trials=1, epochs=1, score=score, out=tmp_path / "search", verbose=0)
    search(RECIPE, data=(images[:150], labels[:150]), validation_data=(images[150:], labels[150:]), **options)
    assert seen == [42]


@pytest.mark.slow
def test_class_weights_reach_every_trial_and_belong_to_the_search(data, tmp_path):
    options = dict(tuner="grid", max_trials=1, epochs=1, data=data, out=tmp_path / "search", verbose=0)
    search(RECIPE, class_weight={0: 3}, **options)
    assert json.loads((tmp_path / "search/trials/0/training.json").read_text())["class_weight"] == {"0": 3.0}
    with pytest.raises(ValueError, match=r"holds another search.*class_weight=None \(there"):
        search(RECIPE, **options)
    with pytest.raises(ValueError, match="class_weight must map"):
        search(RECIPE, class_weight={"nobody": 3}, **options)


@pytest.mark.slow
def test_a_space_that_raises_is_a_trial_that_failed(data, tmp_path):
    def space(hp, recipe):
        if hp.Choice("depth", [1, 2]) == 2:
            raise LookupError("no such depth")
        return recipe

    search(RECIPE, space=space, tuner="grid", max_trials=2, epochs=1, data=data, out=tmp_path / "search", verbose=0)
    trials = SearchResult.load(tmp_path / "search").trials
    assert [(trial.status, trial.error) for trial in trials] == [
        ("completed", None),
        ("failed", "LookupError: no such depth"),
    ]


@pytest.mark.slow
def test_a_network_that_turns_out_over_budget_is_never_the_best(data, tmp_path):
    measure = Measure()
    measure.bounds = lambda model: {"layers": (1, 4)}  # the bounds fit
    with pytest.raises(RuntimeError, match="No trial succeeded"):
        search(
            RECIPE, costs=[measure], budget={"layers": 5}, max_trials=1, epochs=1, data=data, out=tmp_path / "search"
        )
    assert [trial.status for trial in SearchResult.load(tmp_path / "search").trials] == ["over budget"]
    assert not (tmp_path / "search" / "best.json").exists()


def test_after_an_impossible_budget_another_may_be_tried_in_the_same_folder(data, tmp_path):
    options = dict(max_trials=1, epochs=1, data=data, out=tmp_path / "search", verbose=0)
    with pytest.raises(BudgetError):
        search(RECIPE, budget={"parameters": 10}, **options)
    best = search(RECIPE, budget={"parameters": 9000}, **options)
    with pytest.raises(BudgetError):  # old results stay until a new search starts
        search(RECIPE, budget={"parameters": 10}, overwrite=True, **options)
    assert search(RECIPE, budget={"parameters": 9000}, **options) == best
    other = Measure()
    other.identity = "another device"
    with pytest.raises(ValueError, match=r"holds another search.*another device"):
        search(RECIPE, budget={"parameters": 9000}, costs=[other], **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(tuner="genetic"), "tuner must be one of 'random', 'bayesian'"),
        (dict(space="large"), "space must be one of 'depth-width'"),
        (dict(max_trials=0), "max_trials must be a positive integer"),
        (dict(max_trials=2.5), "max_trials must be a positive integer. Received: max_trials=2.5"),
        (dict(objective="accuracy"), "objective must be one of val_accuracy, val_loss without a score"),
        (dict(objective=keras_tuner.Objective("val_loss", "max")), "The direction of val_loss must be 'min'"),
        (dict(callbacks=[]), "callbacks must be a function"),
        (dict(score="accuracy"), "score must be a function"),
        (dict(recipe=dataclasses.replace(RECIPE, batch_size=500)), "batch_size must not exceed the number of training"),
        (dict(objective="speed"), "objective must be a name that ends in accuracy, mean_iou, psnr_y or loss"),
        (dict(budget={"flash": 1}), "budget must limit costs of"),
        (dict(tuner="grid", space="full"), "tuner='grid' requires a space of at most 20,000 combinations"),
        (dict(budget={"parameters": 10}), "A network of the space must be within the budget"),
    ],
)
@pytest.mark.slow
def test_wrong_arguments_are_reported_at_once(data, tmp_path, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        search(**{"recipe": RECIPE, "data": data, "out": tmp_path / "search", **change})
    assert not (tmp_path / "search" / "trials").exists()


def test_a_search_stopped_while_it_looks_at_the_budget_goes_on(data, tmp_path, monkeypatch):
    options = dict(data=data, max_trials=1, epochs=1, verbose=0, budget={"macs": 10**9})
    with monkeypatch.context() as patch:
        patch.setattr(Candidates, "check", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(RECIPE, out=tmp_path, **options)
    assert "search.json" in {path.name for path in tmp_path.iterdir()}
    other = {**options, "budget": {"macs": 10**8}}  # before the first trial, another budget may use the folder
    with monkeypatch.context() as patch:
        patch.setattr(Candidates, "check", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(RECIPE, out=tmp_path, **other)
    (tmp_path / ".search.999999999.tmp.json").write_text("half")
    search(RECIPE, out=tmp_path, **other)
    assert not [path for path in tmp_path.rglob(".*") if "tmp" in path.name]
    assert len(SearchResult.load(tmp_path).trials) == 1
    (tmp_path / "keras_tuner" / "oracle.json").write_text("{}")
    with pytest.raises(ValueError, match=r"oracle\.json must be intact.*start again"):
        search(RECIPE, out=tmp_path, **{**other, "max_trials": 2})


def test_a_folder_with_what_a_kill_left_alone_is_free(data, tmp_path):
    (tmp_path / ".search.999999999.tmp.json").write_text("half")
    (tmp_path / "keras_tuner").mkdir()
    folder = SearchFolder(tmp_path, RECIPE, {"recipe": {}})
    assert not folder.is_this_search(overwrite=False)
    (tmp_path / "photo.png").write_text("x")
    with pytest.raises(ValueError, match=r"must be a new or empty folder.*with photo\.png"):
        folder.is_this_search(overwrite=False)


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_folder_of_something_else_is_left_alone(data, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="out must be a new or empty folder"):
            search(RECIPE, data=data, out=tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
