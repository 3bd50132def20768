"""`Recipe.teacher`: the loss against NumPy, what a student learns, resuming, other back ends' batches, errors."""

import dataclasses

import keras
import numpy as np
import pytest

import wavemix_tf as wm
from wavemix_tf.training.distribution import ONE_DEVICE
from wavemix_tf.training.fitting.teaching import Teacher
from wavemix_tf.training.losses import Distillation, accuracy, cross_entropy
from wavemix_tf.training.tasks import task_of

K = 4
RECIPE = dataclasses.replace(
    wm.training.RECIPES["digits"],
    num_classes=K,
    epochs=3,
    warmup_epochs=0,
    batch_size=20,
    learning_rate=0.01,
    ema=0.0,
    calibration_images=8,
    model_args=dict(width=8, depth=1, dropout=0.0),
)


def softmax(x):
    shares = np.exp(x - x.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def test_the_loss_is_the_papers(rng):
    labels, teacher, logits = softmax(rng.normal(size=(6, K))), rng.normal(size=(6, K)) * 3, rng.normal(size=(6, K)) * 2
    expected, found = softmax(teacher / 2.5), softmax(logits / 2.5)
    divergence = (expected * np.log(expected / found)).sum(-1)
    plain = -(labels * np.log(softmax(logits))).sum(-1)
    loss = Distillation(0.3, 2.5)(np.concatenate([labels, teacher], -1).astype("float32"), logits.astype("float32"))
    np.testing.assert_allclose(loss, 0.7 * plain + 0.3 * 2.5**2 * divergence, rtol=1e-5)


def test_labels_without_a_teacher_and_the_accuracy(rng):
    logits = rng.normal(size=(6, K)).astype("float32")
    labels = np.arange(6) % K
    np.testing.assert_array_equal(Distillation(0.3, 2.0)(labels, logits), cross_entropy(labels, logits))
    taught = np.concatenate([np.eye(K)[labels], rng.normal(size=(6, K))], -1).astype("float32")
    np.testing.assert_array_equal(accuracy(taught, logits), accuracy(labels, logits))


@pytest.fixture(scope="module")
def data():
    """Images whose class is the brightest pixel, with labels that say nothing of it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (240, 8, 8, 1)).astype(np.uint8)
    classes = rng.integers(0, K, 240)
    images[np.arange(240), 2 * classes, 2 * classes] = 255
    return images, classes, rng.integers(0, K, 240)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A network of the user's that is right by construction."""
    inputs = keras.Input((8, 8, 1))
    head = keras.layers.Dense(K, use_bias=False)
    model = keras.Model(inputs, head(keras.layers.Flatten()(inputs)))
    kernel = np.zeros((64, K), "float32")
    kernel[[18 * k for k in range(K)], np.arange(K)] = 8.0
    head.kernel.assign(kernel)
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    model.save(path)
    return path


def student():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(K)])


@pytest.mark.slow
def test_a_student_learns_what_the_labels_do_not_say(data, teacher):
    images, classes, labels = data
    recipe = dataclasses.replace(RECIPE, epochs=12, learning_rate=0.05)
    found = []
    for one in (dataclasses.replace(recipe, teacher=str(teacher), teacher_weight=1.0), recipe):
        model = wm.training.fit(one, model=student(), data=(images, labels), verbose=0).model
        found.append((model.predict(images / np.float32(255), verbose=0).argmax(-1) == classes).mean())
    assert found[0] > 0.9
    assert found[1] < 0.5


@pytest.mark.slow
def test_without_weight_the_training_is_that_of_the_labels(data, teacher):
    images, _, labels = data
    recipe = dataclasses.replace(RECIPE, teacher=str(teacher), teacher_weight=0.0, mixup=0.2, label_smoothing=0.1)
    ours = wm.training.fit(recipe, data=(images, labels), verbose=0)
    plain = wm.training.fit(dataclasses.replace(recipe, teacher=None), data=(images, labels), verbose=0)
    np.testing.assert_allclose(ours.history["loss"], plain.history["loss"], rtol=1e-5)
    np.testing.assert_allclose(ours.history["val_loss"], plain.history["val_loss"], rtol=1e-4)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_it_resumes_and_needs_the_same_teacher(data, teacher, tmp_path):
    images, _, labels = data
    copy = tmp_path / "run_of_the_teacher" / "model.keras"
    copy.parent.mkdir()
    copy.write_bytes(teacher.read_bytes())
    recipe = dataclasses.replace(RECIPE, teacher=str(copy.parent), shift=1)  # a run folder
    whole = wm.training.fit(recipe, data=(images, labels), verbose=0)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        wm.training.fit(recipe, data=(images, labels), out=out, callbacks=[Interrupt()], verbose=0)
    saved = copy.read_bytes()
    other = keras.saving.load_model(copy)
    other.layers[-1].kernel.assign(2 * other.layers[-1].kernel)
    other.save(copy)
    with pytest.raises(ValueError, match=r"the data must be unchanged"):
        wm.training.fit(recipe, data=(images, labels), out=out, verbose=0)
    copy.write_bytes(saved)
    resumed = wm.training.fit(recipe, data=(images, labels), out=out, verbose=0)
    assert resumed.resumed_epochs == 2
    assert resumed.history["loss"] == pytest.approx(whole.history["loss"], rel=1e-6)
    for mine, theirs in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


class Batches(keras.utils.PyDataset):
    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images) // 20

    def __getitem__(self, index):
        rows = slice(20 * index, 20 * index + 20)
        return self.images[rows], self.labels[rows]


@pytest.mark.slow
def test_batches_of_a_pydataset_are_taught(data, teacher):
    images, classes, labels = data
    recipe = dataclasses.replace(RECIPE, epochs=12, learning_rate=0.05, teacher=str(teacher), teacher_weight=1.0)
    pixels = images / np.float32(255)
    held = pixels[:40], labels[:40]
    result = wm.training.fit(recipe, model=student(), data=Batches(pixels, labels), validation_data=held, verbose=0)
    assert (result.model.predict(pixels, verbose=0).argmax(-1) == classes).mean() > 0.95


def test_errors(teacher, data, tmp_path):
    images, _, labels = data
    with pytest.raises(ValueError, match=r"A teacher needs task='classification'\. Received: teacher='x', task="):
        dataclasses.replace(wm.training.RECIPES["camvid"], teacher="x")
    with pytest.raises(ValueError, match=r"teacher_weight must be in \[0, 1\]\. Received: teacher_weight=1\.5"):
        dataclasses.replace(RECIPE, teacher_weight=1.5)
    with pytest.raises(ValueError, match=r"teacher_temperature must be positive"):
        dataclasses.replace(RECIPE, teacher_temperature=0.0)
    with pytest.raises(FileNotFoundError, match=r"teacher must be a \.keras file or a run folder\. Received: "):
        wm.training.fit(dataclasses.replace(RECIPE, teacher=str(tmp_path)), data=(images, labels), verbose=0)
    inputs = keras.Input((8, 8, 1))
    shares = keras.layers.Dense(K, activation="softmax")(keras.layers.Flatten()(inputs))
    keras.Model(inputs, shares).save(tmp_path / "shares.keras")
    with pytest.raises(ValueError, match=r"The teacher must fit the recipe\. The model must return logits, not prob"):
        wm.training.fit(
            dataclasses.replace(RECIPE, teacher=str(tmp_path / "shares.keras")), data=(images, labels), verbose=0
        )
    lost = keras.saving.load_model(teacher)
    lost.layers[-1].kernel.assign(np.full((64, K), np.nan))
    lost.save(tmp_path / "lost.keras")
    with pytest.raises(ValueError, match=r"The teacher must return finite logits \(20, 4\)\. Received: .* 0 of 80"):
        wm.training.fit(
            dataclasses.replace(RECIPE, teacher=str(tmp_path / "lost.keras")), data=(images, labels), verbose=0
        )
    own = tmp_path / "own"
    own.mkdir()
    (own / "model.keras").write_bytes(teacher.read_bytes())
    for name in (own, own / "model.keras"):
        with pytest.raises(ValueError, match=r"teacher must not be in the run folder, whose files are replaced"):
            wm.training.fit(
                dataclasses.replace(RECIPE, teacher=str(name)),
                data=(images, labels), out=own, overwrite=True, verbose=0,
            )  # fmt: skip
    assert [path.name for path in own.iterdir()] == ["model.keras"]
    other = tmp_path / "other.keras"
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(7)]).save(other)
    with pytest.raises(ValueError, match=r"The teacher must fit the recipe\. The model must return 4 logits"):
        wm.training.fit(dataclasses.replace(RECIPE, teacher=str(other)), data=(images, labels), verbose=0)


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["a", "b", "c", "d"], None),
        (["0", "1", "2", "3"], None),
        (["b", "a", "c", "d"], r"classes in the order a, b, c, d \(there b, a, c, d\)"),
        (["a", "b", "c", "x"], r"classes without x and with d, which was not there"),
    ],
)
def test_a_teacher_of_other_classes_is_refused(names, error, data, teacher, tmp_path):
    """Of as many classes: its file does not name them, but its run folder does."""
    (tmp_path / "model.keras").write_bytes(teacher.read_bytes())
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in names))
    recipe = dataclasses.replace(RECIPE, teacher=str(tmp_path))
    task = task_of(recipe, K)
    if error is None:
        assert Teacher.load(recipe, task, ONE_DEVICE, ["a", "b", "c", "d"]).classes == K
        return
    with pytest.raises(ValueError, match=rf"must have the data's classes in their order\. Received: .*{error}"):
        Teacher.load(recipe, task, ONE_DEVICE, ["a", "b", "c", "d"])
