"""Warnings about a file in a report, with the same rules and runtimes as the checks of the file."""

from types import SimpleNamespace

import keras
import pytest
from keras import layers

from wavemix_tf.command.file_checks import file_checks
from wavemix_tf.command.measuring import verify_file
from wavemix_tf.tflite import export
from wavemix_tf.tflite.graph.inputs import generated_images, predict

DEFAULT = {"min_snr_db": None, "min_agreement": None, "allow_unjudged": False, "refuses": True}
NAMED = "limits: 10 dB, 90%, 50% of the images"


@pytest.mark.parametrize(
    ("snr_db", "agreement", "judged", "held", "passes", "bound"),
    [
        (30.0, 0.99, 40, {}, True, NAMED),
        (9.0, 0.99, 40, {}, False, NAMED),
        (30.0, 0.6, 40, {}, False, NAMED),
        (30.0, 0.6, 40, {"min_agreement": 0.5}, True, "limits: 10 dB, 50%, 50% of the images"),
        (9.0, 0.99, 40, {"min_snr_db": 0.0}, True, "limits: 0 dB, 90%, 50% of the images"),
        (24.0, 0.99, 40, {"min_snr_db": 25.0}, False, "limits: 25 dB, 90%, 50% of the images"),
        (None, 1.0, 40, {}, True, NAMED),  # the index of the first class, say
        (None, 0.6, 40, {}, False, NAMED),
        (None, None, 0, {}, False, NAMED),  # nearly independent of the image
        (None, None, 0, {"allow_unjudged": True}, True, "limits: 10 dB, 90%"),
        (30.0, 0.99, 19, {}, False, NAMED),
        (5.0, 0.6, 40, {"refuses": False}, True, "10 dB, 90%, 50% of the images are not required: the model was"),
    ],
)
def test_the_report_judges_as_export_did(snr_db, agreement, judged, held, passes, bound):
    agreements = [] if agreement is None else [{"what": "index", "share": agreement, "counted": 40}]
    output = {"name": "y", "snr_db": snr_db, "typical_db": snr_db, "least_channel_db": None, "least_channel": None}
    rows = [
        {"runtime": "litert-xnnpack", "images": 40, "outputs": [{**output, "agreements": agreements, "judged": judged}]}
    ]
    slow = {"runtime": "tflite-micro", "images": 1, "outputs": [{**rows[0]["outputs"][0], "snr_db": -9.0}]}
    rows.insert(0, slow)  # shown, not checked
    nothing = {"degenerate": False, "runtimes": []}
    verification = {"fidelity": nothing, "against_float_model": {"runtimes": rows}}
    verification["float_model_bounds"] = {**DEFAULT, **held}
    artifact = SimpleNamespace(dtype="int8", ops=(), verification=verification, to_dict=lambda: {"ops": {}})
    shown, check = file_checks(artifact, nothing)[-2:]
    assert shown["passed"]
    assert shown["bound"].startswith("not judged: it ran fewer than 32")
    assert (check["passed"], check["bound"][: len(bound)]) == (passes, bound)
    assert ("hardly depends" in check["measured"]) == (snr_db is None and agreement is None)


def test_a_file_is_verified_in_the_runtimes_that_have_its_ops():
    """LiteRT's reference kernels have no ELU."""
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="elu")(inputs)))
    images = generated_images((8, 8, 3), 32, seed=0)
    artifact = export(model, "android-cpu", "float32", images=images)
    assert "ELU" in artifact.ops
    row, found = verify_file("file", artifact, model, {"float32": predict(model, images)}, images, None)
    assert list(row["cells"]) == ["litert-xnnpack"]
    assert row["cells"]["litert-xnnpack"]["fault"] is None
    assert [check["passed"] for check in file_checks(artifact, found.to_dict())] == [True] * 3


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (0, ["LiteRT XNNPACK, 32 validation images", "LiteRT reference, 4 validation images"]),
        (26, ["LiteRT XNNPACK, 6 validation and 26 calibration images", "LiteRT reference, 4 validation images"]),
    ],
)
def test_calibration_images_are_not_called_validation_images(seen, words):
    row = {"mean_error_steps": 0.1, "max_error_steps": 1.0, "worst_output_steps": 0.1, "agreement": None, "counted": 0}
    rows = [{**row, "runtime": "litert-xnnpack", "images": 32}, {**row, "runtime": "litert-reference", "images": 4}]
    verification = {
        "fidelity": {"degenerate": False, "runtimes": rows},
        "error_bound_steps": {"litert-xnnpack": 2.0, "litert-reference": 4.0},
        **({"calibration_images": seen} if seen else {}),
    }
    artifact = SimpleNamespace(dtype="float32", ops=(), verification=verification, to_dict=lambda: {"ops": {}})
    found = [check["name"] for check in file_checks(artifact, {"degenerate": False, "runtimes": []})]
    assert found[1:] == words
