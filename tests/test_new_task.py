"""A new task is one class: a task that learns the brightness of an image, as a number, needs no other code."""

import keras
import numpy as np
import pytest

import wavemix_tf as wm
from wavemix_tf.training import Recipe, run_files, tasks
from wavemix_tf.training import recipe as recipe_module
from wavemix_tf.training.augment import Augmenter


@keras.saving.register_keras_serializable("test_new_task")
class NegativeError(keras.metrics.Mean):
    """Mean of -|error|: larger is better."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(-keras.ops.abs(keras.ops.cast(y_true, "float32") - y_pred[..., 0]))


class Brightness(tasks.Classification):
    """A number for an image: labels (B,), one output."""

    name = "brightness"
    metric, metric_title, metric_unit = "negative_error", "negative error", "dB"
    soft_targets = False
    excluded_fields = (*tasks.Classification.excluded_fields, "mixup", "cutmix", "label_smoothing")

    def _output_shape(self):
        return (1,)

    def _output_name(self):
        return "one number"

    def augmenter(self, crop, framework):
        return Augmenter(self.recipe, crop=crop, framework=framework)

    def augmenter_targets(self, labels, framework):
        return labels

    def smoothed(self, targets):
        return targets

    def compile_arguments(self):
        return self.plain_compile_arguments()

    def plain_compile_arguments(self):
        return {"loss": keras.losses.MeanSquaredError(), "metrics": [NegativeError(name="negative_error")]}


@pytest.fixture
def brightness(monkeypatch):
    """The row of ``TASKS`` that a new task is."""
    table = {**tasks.TASKS, "brightness": Brightness}
    for module in (tasks, recipe_module):
        monkeypatch.setattr(module, "TASKS", table)
    monkeypatch.setattr(run_files, "METRICS", (*run_files.METRICS, "negative_error"))


def data():
    labels = np.arange(96) % 4
    images = np.random.default_rng(0).integers(0, 20, (96, 8, 8, 1)) + 60 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


def network():
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)])


@pytest.mark.usefixtures("brightness")
def test_a_new_task_trains_and_is_judged_by_its_metric(tmp_path):
    recipe = Recipe(
        name="new", dataset="folder", task="brightness", image_shape=(8, 8, 1), batch_size=16, epochs=20,
        learning_rate=0.1, warmup_epochs=0.0, calibration_images=4, flip=True,
    )  # fmt: skip
    assert recipe.metric == "negative_error"
    result = wm.training.fit(recipe, model=network(), data=data(), out=tmp_path, verbose=0)
    assert result.metric == "negative_error"
    assert result.validation_score > -0.5  # the labels are 0 to 3
    again = wm.training.fit(recipe, data=data(), out=tmp_path, verbose=0)
    assert again.validation_score == result.validation_score
    with pytest.raises(ValueError, match="task='brightness' takes no mixup"):
        Recipe(name="new", dataset="folder", task="brightness", image_shape=(8, 8, 1), mixup=0.2)
    wide = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="The model must return one number"):
        wm.training.fit(recipe, model=wide, data=data(), verbose=0)


def test_an_unknown_task_lists_those_there_are():
    with pytest.raises(ValueError, match="task must be one of 'classification', 'segmentation', 'super_resolution'"):
        Recipe(name="new", dataset="folder", task="brightness", image_shape=(8, 8, 1))


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=list(tasks.TASKS))
def test_a_task_says_everything(task):
    for name in (
        "name",
        "metric",
        "metric_title",
        "metric_unit",
        "targets",
        "target_dtype",
        "target_rank",
        "network_name",
    ):
        assert getattr(task, name), name
    fields = set(Recipe.__dataclass_fields__)
    assert set(task.excluded_fields) <= fields
    assert set(task.folder_changes) <= fields
    assert hasattr(wm, task.network_name)
