"""Open exported files with MediaPipe's ``ImageClassifier``, which reads their metadata, and compare it with LiteRT.

MediaPipe needs other versions of some packages, so it runs in an environment of its own, by the Python that is named:

    python -m venv mediapipe && mediapipe/bin/pip install mediapipe
    python benchmarks/mediapipe_tasks.py mediapipe/bin/python

For each kind of file: whether MediaPipe takes it; for pictures of the network's size, the largest difference of its
scores from LiteRT's, and whether names and order are the same; for larger pictures, in how many the first class is that
of the network on the picture as training resizes it. The networks have random weights.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import layers as L

from wavemix_tf.resizing import fit_picture
from wavemix_tf.tflite import export
from wavemix_tf.tflite.file.flatbuffer import from_output, read_file, to_input
from wavemix_tf.tflite.runtimes.litert import make_interpreter

CLASS_NAMES = ["ant", 'b "ee"', "Käfer 虫", "dog", "eel"]
SIDE, PICTURES = 24, 40
KINDS = [
    ("android-cpu", "float32", "float32", 3),
    ("android-cpu", "int8", "int8", 3),
    ("android-cpu", "int8", "uint8", 3),
    ("android-cpu", "int8", "float32", 3),
    ("android-gpu", "float16", "float32", 3),
    ("android-cpu", "int8", "uint8", 1),
]

WORKER = """
import json, sys
import mediapipe, numpy as np
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import vision
options = vision.ImageClassifierOptions(base_options=tasks.BaseOptions(model_asset_path=sys.argv[1]), max_results=-1)
try:
    classifier = vision.ImageClassifier.create_from_options(options)
except Exception as error:
    print(json.dumps({"refused": str(error)}))
    sys.exit()
found = []
for picture in np.load(sys.argv[2]):
    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
    (one,) = classifier.classify(image).classifications
    found.append([[category.category_name, category.score] for category in one.categories])
print(json.dumps({"version": mediapipe.__version__, "found": found}))
"""


def network(channels: int) -> keras.Model:
    """Random weights whose scores depend on the picture."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, channels))
    x = L.Conv2D(16, 3, strides=2, activation="relu6", padding="same")(inputs)
    x = L.Conv2D(16, 3, strides=2, activation="relu6", padding="same")(x)
    return keras.Model(
        inputs, L.Dense(len(CLASS_NAMES), kernel_initializer=keras.initializers.RandomNormal(0, 2))(L.Flatten()(x))
    )


def pictures(count: int, height: int, width: int) -> np.ndarray:
    """Coarse colored patches, uint8 (N, height, width, 3)."""
    coarse = np.random.default_rng(1).integers(0, 256, (count, 5, 4, 3))
    rows, columns = np.arange(height) * 5 // height, np.arange(width) * 4 // width
    return coarse[:, rows][:, :, columns].astype(np.uint8)


def scores_of_litert(content: bytes, images: np.ndarray) -> np.ndarray:
    """Real scores (N, classes) of pictures of the network's size."""
    info, interpreter = read_file(content), make_interpreter(content)
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    found = []
    for image in images:
        interpreter.set_tensor(source, to_input(info.inputs[0], image[None].astype(np.float32) / 255))
        interpreter.invoke()
        found.append(from_output(info.outputs[0], interpreter.get_tensor(sink))[0])
    return np.array(found)


def classify(python: str, file: Path, images: np.ndarray) -> dict:
    """What MediaPipe returns, in a process of its own: it may crash."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", images)
        run = subprocess.run([python, "-c", WORKER, file, f"{folder}/images.npy"], capture_output=True, text=True)
    if run.returncode:
        return {"refused": f"the process ended with {run.returncode}"}
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="a Python that has mediapipe")
    python = parser.parse_args().python
    print("| file | input and output | channels | MediaPipe | scores | larger pictures |\n|---|---|---|---|---|---|")
    for target, dtype, io_dtype, channels in KINDS:
        calibration = pictures(64, SIDE, SIDE).astype(np.float32)[..., :channels] / 255
        artifact = export(
            network(channels),
            target,
            dtype,
            io_dtype,
            calibration=calibration,
            class_names=CLASS_NAMES,
            allow_unjudged=True,
            min_agreement=0,
            min_snr_db=-99,
        )
        with tempfile.TemporaryDirectory() as folder:
            file = artifact.save(Path(folder) / "model.tflite")
            own, large = pictures(PICTURES, SIDE, SIDE), pictures(PICTURES, 90, 70)
            same, other = classify(python, file, own), classify(python, file, large)
        row = f"| {target} {dtype} | {io_dtype} | {channels} |"
        if "refused" in same:
            reason = re.sub(r" tensor \S+;;\S+", " tensor", same["refused"].splitlines()[0])
            print(row, f"refuses it: {reason}", "| | |")
            continue
        expected = scores_of_litert(artifact.content, own)
        found = np.array([[dict(map(tuple, one))[name] for name in CLASS_NAMES] for one in same["found"]])
        order = [[name for name, _ in one] for one in same["found"]]
        wanted = [[CLASS_NAMES[i] for i in np.argsort(-scores, kind="stable")] for scores in expected]
        fitted = np.array([fit_picture(picture, SIDE, SIDE, False) for picture in large])
        first = [CLASS_NAMES[i] for i in scores_of_litert(artifact.content, fitted).argmax(1)]
        agreed = sum(one[0][0] == name for one, name in zip(other["found"], first, strict=True))
        if len(set(first)) < 3:
            raise RuntimeError(f"The pictures must have several classes. Received: {set(first)}")
        tops = sum(one[0] == other[0] for one, other in zip(order, wanted, strict=True))
        print(
            f"{row} {same['version']} takes it | largest difference {np.abs(found - expected).max():.2g}, "
            f"first class the same in {tops} of {PICTURES} | {agreed} of {PICTURES} |"
        )


if __name__ == "__main__":
    main()
