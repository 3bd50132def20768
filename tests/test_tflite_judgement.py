"""A file that keeps too little of the float model is refused, for any outputs; so is a copy that differs."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers
from tflite_support import UNJUDGED

import wavemix_tf as wm
from wavemix_tf.keras_internals import flatten_layers
from wavemix_tf.tflite import CopyError, FidelityError, export, quantize
from wavemix_tf.tflite.graph.inputs import generated_images, predict
from wavemix_tf.tflite.graph.passes.decompose_swish import SWISH_SLOPES
from wavemix_tf.tflite.quantization.copy_check import check_copy, check_in_float32, difference, in_float32
from wavemix_tf.tflite.quantization.float_network import float_network
from wavemix_tf.tflite.quantization.freshness import is_fresh
from wavemix_tf.tflite.runtimes.running import run_file
from wavemix_tf.tflite.verification.half_range import largest_activations
from wavemix_tf.tflite.verification.judgement import (
    Agreement,
    Bounds,
    OutputReport,
    check_judged,
    judge_outputs,
    measure,
    passed,
    snr_db,
)

SHAPE = (16, 16, 3)
KINDS = ("classes", "logit", "number", "mask", "picture")


@pytest.fixture(scope="module")
def images():
    return generated_images(SHAPE, 96, seed=3)


def head(x, kind):
    if kind == "mask":
        return layers.Conv2D(1, 1, name=kind)(x)
    if kind == "picture":
        return layers.Conv2D(3, 3, padding="same", activation="sigmoid", name=kind)(x)
    return layers.Dense({"classes": 4, "logit": 1, "number": 1}[kind], name=kind)(layers.Flatten()(x))


def several(images, spoiled=True):
    """A sound first output, and one of each kind behind a tensor whose one huge channel nothing reads."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input(SHAPE)
    sound = layers.Dense(4, name="sound")(layers.Flatten()(layers.Conv2D(6, 3, activation="relu")(inputs)))
    first, second = layers.Conv2D(9, 3, padding="same", activation="relu"), layers.Conv2D(8, 3, padding="same")
    x = layers.ReLU()(second(first(inputs)))
    model = keras.Model(inputs, {"sound": sound, **{kind: head(x, kind) for kind in KINDS}})
    if spoiled:
        (kernel, bias), (after, other) = first.get_weights(), second.get_weights()
        kernel[..., -1], after[:, :, -1] = 0, 0
        kernel[1, 1, :, -1] = 2e4
        first.set_weights([kernel, bias])
        second.set_weights([after, other])
    # Logits around zero, so that both signs occur.
    for name in ("classes", "logit", "mask"):
        found = dict(zip(model.output_names, predict(model, images), strict=True))[name]
        layer = model.get_layer(name)
        layer.bias.assign(-np.mean(found.reshape(-1, found.shape[-1]), 0))
    return model


@pytest.fixture(scope="module")
def spoiled(images):
    """(a quantized model, its file, written although it is useless).

    "minmax" keeps the huge channel in the range; the default observer sees that nothing reads it.
    """
    model = quantize(several(images), images[:64], observer="minmax")
    bounds = {**UNJUDGED, "error_bound_steps": 99}
    return model, export(model, "android-cpu", images=images[64:], **bounds)


def rows(artifact):
    return artifact.verification["against_float_model"]["runtimes"]


def by_name(row):
    return {output["name"]: output for output in row["outputs"]}


# --- measurements -----------------------------------------------------------------------------------------------------


def test_the_ratio_is_that_of_what_the_images_change(rng):
    noise = rng.normal(0, 1, (64, 5, 5, 2)).astype(np.float32)
    wanted = 100 + 10 * rng.normal(0, 1, noise.shape).astype(np.float32)  # 20 dB for any mean
    report = measure("map", wanted, wanted + noise)
    assert report.snr_db == pytest.approx(20, abs=0.3)
    assert snr_db(wanted, wanted + noise) == pytest.approx(report.snr_db)
    assert measure("map", wanted, wanted).snr_db == 200.0
    assert measure("map", wanted, np.full_like(wanted, np.nan)).snr_db == -200.0
    assert measure("map", wanted, wanted[:, ::-1]).snr_db < 0
    constant = np.broadcast_to(wanted[:1], wanted.shape)
    assert measure("map", constant, constant + noise).snr_db is None
    assert measure("map", wanted + 1e7, wanted + 1e7).snr_db is None  # it varies by less than the resolution


def test_small_channels_and_typical_images_are_seen(rng):
    wanted = rng.normal(0, 1, (200, 2)).astype(np.float32) * [1000, 1]
    found = np.round(wanted / 8) * 8  # one step for both, as in an int8 output
    report = measure("both", wanted, found)
    assert report.snr_db > 40
    assert (report.least_channel, report.least_channel_db < 1) == (1, True)
    rare = np.ones((200, 1), np.float32) * rng.normal(0, 1, (200, 1)).astype(np.float32)
    rare[::40] = 2000
    report = measure("rare", rare, np.round(rare / 8) * 8)
    assert report.snr_db > 40
    assert report.typical_db < 1
    shares = np.abs(wanted[:, :1]) / 5000 * [1, 0.001]
    assert measure("shares", shares, shares).least_channel is None


def test_what_ran_few_images_is_measured_with_the_signal_of_all_and_not_judged(rng):
    wanted = rng.normal(0, 1, (64, 5)).astype("float32")
    wanted[0] = wanted.mean(0)  # an uninformative image
    noise = rng.normal(0, 0.1, (64, 5)).astype("float32")
    oracle = 10 * np.log10(np.square(wanted - wanted.mean(0)).sum() / 64 / np.square(noise[0]).sum())
    report = measure("few", wanted, wanted[:1] + noise[:1])
    assert report.snr_db == pytest.approx(oracle, abs=0.01)
    assert report.least_channel_db > 5
    slow = {**row(1, snr_db=-3.0), "runtime": "tflite-micro"}
    assert judge([row(), slow], "the given float model", Bounds()) == []
    assert passed([row(), slow, row(snr_db=-3.0)], Bounds()) == [[True], [True], [False]]
    with pytest.raises(FidelityError, match=r"SNR -3\.0 dB.*1 images, tflite-micro"):
        judge([slow], "the given float model", Bounds(allow_unjudged=True))


def test_a_logit_is_judged_by_its_sign_and_a_share_by_its_half():
    logits = np.linspace(-2, 2, 100, dtype=np.float32)[:, None]
    moved = measure("logit", logits, logits + 0.5, decides=True, margin=0.1)
    counted = np.abs(logits) > 0.1
    assert moved.agreements == (Agreement("sign", np.mean(~((logits < 0) & (logits > -0.5))[counted]), counted.sum()),)
    shares = 1 / (1 + np.exp(-logits))
    assert measure("share", shares, shares * 0.9, decides=True).agreements[0].share == pytest.approx(0.9, abs=0.06)
    assert measure("number", logits, logits).agreements == ()
    assert measure("positive", logits + 3, logits + 3, decides=True).agreements == ()


def test_peaks_are_found_again_or_not(rng):
    maps = rng.uniform(0, 0.1, (40, 24, 24, 2)).astype(np.float32)
    for k, (a, b) in enumerate(rng.integers(4, 20, (40, 2))):
        maps[k, a, b, k % 2] = 1.0
    moved = np.roll(maps, 1, axis=2)
    assert measure("map", maps, moved).agreements == (Agreement("peaks", 1.0, 40),)
    for lost in (np.roll(maps, 2, axis=1), np.minimum(maps, 0.05), np.zeros_like(maps)):
        assert measure("map", maps, lost).agreements[0].share < 0.2
    assert measure("even", maps[:, :7], maps[:, :7]).agreements == ()  # too small for an agreement


def judge(rows, model, bounds):
    told = judge_outputs(rows, model, bounds)
    check_judged(rows, model, bounds)
    return told


# --- decisions --------------------------------------------------------------------------------------------------------


def row(images=64, **changes):
    output = OutputReport("out", 30.0, 29.0, 25.0, 1, (Agreement("sign", 0.99, 60),), images)
    return {
        "runtime": "litert-xnnpack",
        "images": images,
        "outputs": [dataclasses.asdict(dataclasses.replace(output, **changes))],
    }


@pytest.mark.parametrize(
    ("changes", "bounds", "words"),
    [
        ({"snr_db": 9.9}, {"min_snr_db": 9}, r"SNR 9\.9 dB, required is 10"),
        ({"snr_db": -3.0}, {"min_snr_db": -4}, r"SNR -3\.0 dB"),
        ({"agreements": (Agreement("peaks", 0.8, 100),)}, {"min_agreement": 0.8}, r"the same peaks in 80\.0% of 100"),
        ({"judged": 31}, {"allow_unjudged": True}, r"exceeds rounding on 31 of 64 images"),
        ({"images": 31}, {"allow_unjudged": True}, r"at least 32 images. Received: 31 images \(within the time"),
        ({"snr_db": None, "judged": 0}, {"allow_unjudged": True}, r"hardly depends on the image"),
    ],
)
def test_each_bound_refuses_and_is_loosened_by_name(changes, bounds, words):
    with pytest.raises(FidelityError, match=words):
        judge([row(**changes)], "the given float model", Bounds())
    assert judge([row(**changes)], "the given float model", Bounds(**bounds)) == []
    if changes.get("snr_db"):  # another runtime does not hide a fault
        with pytest.raises(FidelityError, match=words):
            judge([row(), row(**changes)], "the given float model", Bounds())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"snr_db": 19.0}, "19.0 dB against the given float model"),
        ({"least_channel_db": 9.0}, "channel 1 has an SNR of 9.0 dB"),
        ({"typical_db": 9.0}, "9.0 dB without the 5%"),
        ({"agreements": (Agreement("top-1 class", 0.95, 100),)}, "differ in the top-1 class in 5.0% of 100"),
    ],
)
def test_what_is_doubtful_is_reported(changes, words):
    (told,) = judge([row(**changes)], "the given float model", Bounds())
    assert words in told
    assert judge([row(**changes)], "the given float model", Bounds(min_snr_db=5, min_agreement=0.5)) == []


def test_bounds_must_be_numbers(images):
    model = several(images, spoiled=False)
    for arguments in ({"min_snr_db": np.nan}, {"min_agreement": 90}):
        with pytest.raises(ValueError, match=rf"{next(iter(arguments))} must .*Received: {next(iter(arguments))}="):
            export(model, "android-cpu", "int8", calibration=images, **arguments)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_kind_of_output_is_measured_in_a_useless_file(spoiled, images):
    artifact, given = spoiled[1], several(images)
    expected = dict(zip(given.output_names, predict(given, images[64:]), strict=True))
    ran = dict(zip(given.output_names, run_file(artifact.content, [images[64:]], "litert-xnnpack"), strict=True))
    outputs = by_name(rows(artifact)[0])
    assert set(outputs) == {"sound", *KINDS}
    for name, output in outputs.items():
        wanted, error = expected[name].astype(float), ran[name].astype(float) - expected[name]
        oracle = 10 * np.log10(np.square(wanted - wanted.mean(0)).sum() / np.square(error).sum())
        assert output["snr_db"] == pytest.approx(oracle, abs=0.01)
        assert output["snr_db"] > 20 if name == "sound" else output["snr_db"] < 10
        for other in rows(artifact):
            alone = {**other, "outputs": [by_name(other)[name]]}
            if name == "sound":
                assert judge([alone], "the given float model", Bounds(allow_unjudged=True)) == []
                continue
            with pytest.raises(FidelityError, match=rf"too far from the given float model.*output '{name}'"):
                judge([alone], "the given float model", Bounds(allow_unjudged=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"io_dtype": "uint8"},
            r"too far from the float model \(the quantized one.*SNR -?\d+\.\d dB, required is 10",
        ),
        ({"images": 31}, r"verified on at least 32 images. Received: 31 images \(given\)"),
    ],
)
@pytest.mark.slow
def test_a_useless_file_is_refused(options, words, spoiled, images):
    held = images[64:][: options.pop("images", 32)]
    with pytest.raises(FidelityError, match=words):
        export(spoiled[0], "android-cpu", images=held, error_bound_steps=99, **options)


def test_so_it_is_when_export_quantizes(images):
    """16 bits are measured by the converter, which takes minima and maxima."""
    options = {"dtype": "int16x8", "calibration": images[:64], "images": images[64:]}
    with pytest.raises(FidelityError, match=r"is too far from the given float model"):
        export(several(images), "android-cpu", **options)


def test_a_fine_tuned_one_is_reported_and_not_refused(images):
    quantized = quantize(several(images), images[:64], observer="minmax")
    layer = next(layer for layer in quantized.layers if getattr(layer, "use_bias", False))
    layer.bias.assign(layer.bias + 0.01)
    options = {"images": images[64:], "error_bound_steps": 99, "class_names": ()}
    with pytest.raises(FidelityError, match=r"of the quantized model hardly depends on the image"):
        export(quantized, "android-cpu", **options)
    with pytest.warns(UserWarning, match=r"too far from the float model \(the quantized one without.*evaluate it"):
        export(quantized, "android-cpu", **options, allow_unjudged=True)


def test_what_was_never_trained_is_refused_from_a_file_and_frozen_too(spoiled, images, tmp_path):
    spoiled[0].save(tmp_path / "quantized.keras")
    again = keras.saving.load_model(tmp_path / "quantized.keras", compile=False)
    again.trainable = False
    with pytest.raises(FidelityError, match=r"is too far from the float model"):
        export(again, "android-cpu", images=images[64:], error_bound_steps=99)
    again.save(tmp_path / "frozen.keras")
    frozen = keras.saving.load_model(tmp_path / "frozen.keras", compile=False)
    assert is_fresh(frozen)
    layer = next(layer for layer in frozen.layers if getattr(layer, "use_bias", False))
    layer.bias.assign(layer.bias + 0.01)
    assert not is_fresh(frozen)


def test_what_was_never_trained_is_refused_in_mixed_precision(images):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        quantized = quantize(several(images), images[:64], observer="minmax")
    finally:
        keras.config.set_dtype_policy(policy)
    with pytest.raises(FidelityError, match=r"is too far from the float model"):
        export(quantized, "android-cpu", images=images[64:], error_bound_steps=99)
    copy = in_float32(quantized)
    check_in_float32(quantized, copy, [images[64:]])
    layer = [layer for layer in copy.layers if getattr(layer, "use_bias", False)][-1]
    layer.bias.assign(layer.bias + 1e6)
    with pytest.raises(CopyError, match=r"differs from the model before anything is rounded"):
        check_in_float32(quantized, copy, [images[64:]])


def test_a_quantized_model_without_its_rounding_is_the_given_one(images):
    model = wm.WaveMixClassifier(4, SHAPE, width=8, depth=1, levels=2, normalize=((0.5,) * 3, (0.2,) * 3))
    for layer in flatten_layers(model):
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(np.linspace(-0.3, 0.3, layer.moving_mean.shape[0]))
    expected = predict(model, images)
    quantized = quantize(model, images[:64])
    assert quantized.quantization_report.substituted == quantized.quantization_report.substitution_snr_db == ()
    assert difference(["logits"], expected, predict(float_network(quantized), images)).differences[0] < 1e-4
    assert difference(["logits"], expected, predict(quantized, images)).differences[0] > 1e-3
    assert float_network(model) is model


def test_the_file_of_the_other_engine_is_judged_too(images):
    pytest.importorskip("tensorflow_model_optimization")
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    first = layers.Conv2D(5, 3, activation="relu")
    second = layers.Conv2D(6, 3, activation="relu")
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(second(first(inputs)))))
    (kernel, bias), (after, other) = first.get_weights(), second.get_weights()
    kernel[..., -1], after[:, :, -1] = 0, 0
    kernel[1, 1, :, -1] = 2e4
    first.set_weights([kernel, bias])
    second.set_weights([after, other])
    quantized = quantize(model, images[:64], engine="tfmot", observer="minmax")
    with pytest.raises(FidelityError, match=r"is too far from the float model"):
        export(quantized, "android-cpu", images=images[64:], error_bound_steps=99)


@pytest.mark.slow
def test_few_calibration_images_verify_as_well(images):
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, head(layers.Conv2D(6, 3, strides=2, activation="relu")(inputs), "number"))
    artifact = export(model, "android-cpu", "int8", calibration=images[:40])
    assert artifact.verification["images"] == "the calibration images"
    assert rows(artifact)[0]["images"] == 40
    assert min(output["snr_db"] for output in rows(artifact)[0]["outputs"]) > 20


# --- copies -----------------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="judged")
class Forgetful(layers.Layer):
    """A factor that its configuration does not tell."""

    factor = 1.0

    def call(self, x):
        return x * self.factor

    def compute_output_shape(self, shape):
        return shape


def test_a_copy_that_lost_something_is_named(images):
    inputs = keras.Input(SHAPE)
    layer = Forgetful(name="memory")
    layer.factor = 1.01
    x = layers.Conv2D(4, 3, name="before")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layer(x))))
    words = r"output 'dense\w*' differs by 0\.\d+ of its spread.*Layer 'memory' of type Forgetful is the first"
    with pytest.raises(CopyError, match=words):
        quantize(model, images, skip=["memory"])
    with pytest.raises(CopyError, match=words):
        export(model, "android-cpu", images=images)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.slow
def test_a_wrong_rewrite_is_caught(dtype, images, monkeypatch):
    model = wm.WaveMixClassifier(4, SHAPE, width=8, depth=1, activation="quick_gelu", dtype=dtype)
    monkeypatch.setitem(SWISH_SLOPES, "quick_gelu", 1.65)
    for broken in (lambda: quantize(model, images), lambda: export(model, "android-cpu", images=images)):
        with pytest.raises(CopyError, match=r"Each layer's copy is correct, so a rewrite of this library is wrong"):
            broken()


def test_one_image_without_finite_outputs_does_not_switch_the_comparison_off(images):
    inputs = keras.Input(SHAPE)
    model, copy = (
        keras.Model(inputs, keras.ops.log(layers.GlobalAveragePooling2D()(layers.Rescaling(factor)(inputs))) * factor)
        for factor in (1.0, 1.01)
    )
    black = np.concatenate([np.zeros((1, *SHAPE), "float32"), images[:8]])
    with pytest.warns(UserWarning, match="outputs that are not finite on 1 of 9 images"):
        assert max(check_copy(model, model, [black]).differences) == 0
    with (
        pytest.warns(UserWarning, match="not finite on 1 of 9"),
        pytest.raises(CopyError, match=r"differs from the model.* differs by 0\.\d"),
    ):
        check_copy(model, copy, [black])
    with pytest.warns(UserWarning, match="not finite on 1 of 1 images"):
        assert check_copy(model, copy, [black[:1]]).differences == ()


def test_what_a_targets_stand_ins_cost_is_distinguished(images):
    model = wm.WaveMixClassifier(4, SHAPE, width=8, depth=1, activation="gelu")
    report = quantize(model, images, target="mcu").quantization_report
    assert max(report.copy.differences) < 1e-4
    assert len(report.substituted) == 1
    quick = wm.WaveMixClassifier(4, SHAPE, width=8, depth=1, activation="quick_gelu")
    quick.set_weights(model.get_weights())
    exact, other = predict(model, images), predict(quick, images)
    oracle = 10 * np.log10(np.square(exact - exact.mean(0)).sum() / np.square(exact - other).sum())
    assert report.substitution_snr_db == (pytest.approx(oracle, abs=0.1),)


# --- float16 ----------------------------------------------------------------------------------------------------------


def test_an_activation_beyond_float16_is_refused(images):
    inputs = keras.Input(SHAPE)
    inner = layers.Conv2D(4, 1, use_bias=False, name="large", kernel_initializer="ones")
    x = layers.Rescaling(1e-5)(layers.ReLU()(inner(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    top = float(images.sum(-1).max())
    for factor, fits in ((0.99, True), (1.01, False)):
        inner.kernel.assign(np.full((1, 1, 3, 4), factor * 65504 / top))
        if fits:
            assert largest_activations(model, [images])["large"] == pytest.approx(factor * 65504, rel=1e-3)
            export(model, "android-gpu", images=images)
            continue
        with pytest.raises(FidelityError, match=r"computes in float16.*65,504: layer 'large'.*computes 66,1\d\d on"):
            export(model, "android-gpu", images=images)


# --- the command ------------------------------------------------------------------------------------------------------


def test_few_validation_images_are_filled_up_with_calibration_images():
    from wavemix_tf.command.file_checks import verification_images

    class Data:
        calibration = np.ones((40, 2), np.float32)

        @staticmethod
        def sample(split, count):
            return np.zeros((5, 2), np.float32), None

    images, seen = verification_images(Data, 256)
    assert images[:, 0].tolist() == [0.0] * 5 + [1.0] * 27
    assert seen == 27
    images, seen = verification_images(Data, 4)
    assert (len(images), seen) == (5, 0)


def test_the_report_and_the_card_tell_what_was_judged(spoiled):
    from wavemix_tf.command.file_checks import file_checks
    from wavemix_tf.tflite.kit.model_card import _verification

    # As if checked with the default limits; with random weights the margin of the top class is almost always small.
    held = {**spoiled[1].verification, "float_model_bounds": {"allow_unjudged": True}}
    artifact = dataclasses.replace(spoiled[1], verification=held)
    checks = [one for one in file_checks(artifact, artifact.verification["fidelity"]) if "float model" in one["name"]]
    assert [one["passed"] for one in checks] == [one["name"].endswith("sound") for one in checks]
    assert all("32 of 32 images counted" in one["measured"] for one in checks if "number" in one["name"])
    found = by_name(rows(artifact)[0])["sound"]
    assert f"- sound: {found['snr_db']:.1f} dB, same top-1 class for" in _verification(artifact, None)
    assert f"counted {found['judged']} of 32 images (" in _verification(artifact, None)
