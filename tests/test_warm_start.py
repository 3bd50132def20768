"""A trial that begins with the weights of a smaller network."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from search_support import RECIPE, patterns

import wavemix_tf as wm
from wavemix_tf.training import search
from wavemix_tf.training.searching.search_result import SearchResult
from wavemix_tf.training.searching.warm_start import (
    CHOICE_FILE,
    Donor,
    begin_from,
    computes_the_same,
    fits,
    parts_of,
    weights_of,
)


def network(**options):
    keras.utils.set_random_seed(options.pop("seed", 1))
    arguments = {"num_classes": 3, "image_shape": (16, 16, 1), "width": 8, "depth": 2, **options}
    return wm.WaveMixClassifier(**arguments)


def trained(**options):
    """A network whose weights and statistics are all away from their initial values."""
    model = network(**options)
    random = np.random.default_rng(0)
    for variable in model.weights:
        scale = 0.2 * np.abs(random.standard_normal(variable.shape)) + 0.8
        variable.assign(np.array(variable) * scale + 0.1 * np.abs(random.standard_normal(variable.shape)))
    return model


def donor_of(model):
    return Donor("0", weights_of(model), parts_of(model))


@pytest.mark.parametrize("options", [{}, {"upsample": "bilinear"}, {"levels": 2}, {"upsample": "pixel_shuffle"}])
@pytest.mark.parametrize("larger", [{"width": 16}, {"depth": 4}, {"width": 12, "depth": 3}, {"levels": 3}, {}])
def test_the_larger_network_computes_what_the_smaller_one_did(options, larger):
    small, large = trained(**options), network(**{**options, **larger}, seed=2)
    images = np.random.default_rng(1).random((6, 16, 16, 1)).astype("float32")
    expected = np.array(small(images))
    assert np.abs(np.array(large(images)) - expected).max() > 0.1
    assert fits(donor_of(small), large)
    begin_from(large, donor_of(small))
    np.testing.assert_allclose(large(images), expected, rtol=1e-4, atol=1e-4)
    assert computes_the_same(large, small)


def mixer(name, **options):
    return wm.TokenMixerClassifier(name, 3, (16, 16, 1), patch_size=4, **{"width": 8, "depth": 1, **options})


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (lambda: trained(activation="relu"), lambda: network(width=12)),
        (lambda: trained(stride=1), lambda: network(stride=2)),
        (lambda: network(image_shape=(8, 8, 1)), network),
        (lambda: mixer("fourier"), lambda: mixer("fourier", width=16)),
        (lambda: mixer("poolformer"), lambda: mixer("poolformer", depth=2)),
    ],
)
def test_a_network_that_computes_something_else_is_seen(small, large):
    """Its weights fit in shape: another activation, stride, resolution, and mixing over more channels."""
    small, large = small(), large()
    assert fits(donor_of(small), large)
    begin_from(large, donor_of(small))
    assert not computes_the_same(large, small)


def test_new_channels_and_blocks_are_trained():
    large = network(width=16, depth=3, seed=2)
    begin_from(large, donor_of(trained()))
    images = np.random.default_rng(1).random((12, 16, 16, 1)).astype("float32")
    before = weights_of(large)
    large.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    large.fit(images, np.arange(12) % 3, epochs=3, batch_size=6, verbose=0)
    after = weights_of(large)
    moved = {
        variable.path: np.abs(after[variable.path] - before[variable.path]) for variable in large.trainable_weights
    }
    assert moved["head/kernel"][8:].min() > 0
    assert moved["block3/block3_norm1/gamma"].min() > 0
    assert moved["block3/block3_expand1/kernel"].max() > 0


def test_only_a_network_that_fits_is_taken():
    for options in ({"width": 12}, {"depth": 3}, {"levels": 2}, {"upsample": "bilinear"}, {"num_classes": 4}):
        small = trained(**options)
        assert not fits(donor_of(small), network()) or options == {"upsample": "bilinear"}
    assert not fits(donor_of(trained()), network(upsample="bilinear"))


@pytest.mark.slow
def test_a_search_begins_trials_with_earlier_ones(tmp_path):
    def space(hp, recipe):
        width = hp.Choice("width", [8, 12, 4])
        return wm.training.Recipe.from_json(
            json.dumps({**json.loads(recipe.to_json()), "model_args": {**recipe.model_args, "width": width}})
        )

    data = patterns()
    for out, warm in ((tmp_path / "cold", False), (tmp_path / "warm", True)):
        search(
            RECIPE, space=space, tuner="grid", max_trials=3, epochs=2, data=data, out=out, warm_start=warm, verbose=0
        )
    chosen = {path.parent.name: json.loads(path.read_text())["trial"] for path in tmp_path.glob(f"*/*/*/{CHOICE_FILE}")}
    trials = {trial.trial_id: trial for trial in SearchResult.load(tmp_path / "warm").trials}
    by_width = {trial.values["width"]: name for name, trial in trials.items()}
    assert chosen == {by_width[8]: None, by_width[12]: by_width[8], by_width[4]: None}  # none is as narrow as the last
    cold = {trial.values["width"]: trial for trial in SearchResult.load(tmp_path / "cold").trials}
    assert trials[by_width[12]].metrics["val_loss"] < cold[12].metrics["val_loss"]
    assert trials[by_width[8]].metrics["val_loss"] == pytest.approx(cold[8].metrics["val_loss"], rel=1e-5)


@pytest.mark.slow
def test_a_search_takes_only_trials_that_a_network_continues(tmp_path):
    """Another activation is trained from its own weights, more levels from those of fewer."""
    kinds = [{}, {"activation": "relu6"}, {"levels": 2}]

    def space(hp, recipe):
        return dataclasses.replace(recipe, model_args={**recipe.model_args, **kinds[hp.Choice("kind", [0, 1, 2])]})

    options = {"tuner": "grid", "max_trials": 3, "epochs": 1, "data": patterns(), "warm_start": True, "verbose": 0}
    search(RECIPE, space=space, out=tmp_path, **options)
    trials = SearchResult.load(tmp_path).trials
    assert [trial.error for trial in trials] == [None] * 3
    by_kind = {trial.values["kind"]: trial.trial_id for trial in trials}
    chosen = {path.parent.name: json.loads(path.read_text())["trial"] for path in tmp_path.glob(f"*/*/{CHOICE_FILE}")}
    assert chosen == {by_kind[0]: None, by_kind[1]: None, by_kind[2]: by_kind[0]}
