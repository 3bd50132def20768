"""The preprocessing of images is stored in the network's file (.tflite, .keras), and `predict` applies it."""

import io
import json
import zipfile

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers as L
from PIL import Image

from wavemix_tf import cli
from wavemix_tf.preprocessing import Preprocessing, read_from_keras_file, write_to_keras_file
from wavemix_tf.tflite import TARGETS, Artifact, export
from wavemix_tf.tflite.file.flatbuffer import pack
from wavemix_tf.tflite.file.metadata import add_metadata, read_labels, read_metadata
from wavemix_tf.tflite.runtimes.litert import make_interpreter
from wavemix_tf.training.data.datasets import load_data
from wavemix_tf.training.data.sources import ArraySource, whole_pictures
from wavemix_tf.training.fitting.saving import save_model
from wavemix_tf.training.images import fit_image
from wavemix_tf.training.recipe import Recipe


@pytest.fixture(scope="module")
def model():
    """Two classes: redder than blue, bluer than red."""
    inputs = keras.Input((8, 8, 3))
    made = keras.Model(inputs, L.Dense(2, name="scores")(L.GlobalAveragePooling2D()(inputs)))
    made.set_weights([np.array([[9.0, -9.0], [0.0, 0.0], [-9.0, 9.0]]), np.zeros(2)])
    return made


@pytest.fixture(scope="module")
def artifacts(model):
    options = dict(target="android-cpu", dtype="float32", class_names=["red", "blue"])
    return {crop: export(model, crop_to_aspect_ratio=crop, **options) for crop in (True, False, None)}


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """Red in the middle, blue at the sides, and three times as wide as high."""
    path = tmp_path_factory.mktemp("picture") / "flag.png"
    colours = np.zeros((20, 60, 3), np.uint8)
    colours[:, :, 2] = 255
    colours[:, 20:40] = (255, 0, 0)
    Image.fromarray(colours).save(path)
    return path


def first_class(capsys, *words):
    code = cli.main(["predict", "--json", *map(str, words)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)["classes"][0]["name"], captured.err


@pytest.mark.parametrize(("crop", "expected"), [(True, "red"), (False, "blue"), (None, "blue")])
def test_predict_on_a_moved_tflite_file(crop, expected, artifacts, picture, tmp_path, capsys):
    (tmp_path / "moved.tflite").write_bytes(artifacts[crop].content)
    (tmp_path / "moved.labels.txt").write_text("red\nblue\n")
    found, told = first_class(capsys, picture, "--model", tmp_path / "moved.tflite")
    assert found == expected
    assert ("states how training resized images to 8 x 8 pixels" in told) == (crop is None)


@pytest.mark.parametrize(("crop", "expected"), [(True, "red"), (False, "blue")])
def test_predict_on_a_moved_keras_file(crop, expected, model, picture, tmp_path, capsys):
    recipe = Recipe(name="flags", dataset="flags", image_shape=(8, 8, 3), crop_to_aspect_ratio=crop)
    save_model(model, tmp_path / "moved.keras", recipe)
    (tmp_path / "moved.labels.txt").write_text("red\nblue\n")
    assert first_class(capsys, picture, "--model", tmp_path / "moved.keras") == (expected, "")
    loaded = keras.saving.load_model(tmp_path / "moved.keras")  # the added entry does not prevent loading
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_recipe_beside_the_file_counts_where_the_file_tells_nothing(model, picture, tmp_path, capsys):
    model.save(tmp_path / "plain.keras")
    (tmp_path / "plain.labels.txt").write_text("red\nblue\n")
    words = (picture, "--model", tmp_path / "plain.keras")
    assert first_class(capsys, *words)[0] == "blue"
    recipe = Recipe(name="flags", dataset="flags", image_shape=(8, 8, 3), crop_to_aspect_ratio=True)
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    assert first_class(capsys, *words) == ("red", "")
    write_to_keras_file(tmp_path / "plain.keras", Preprocessing())  # the file has precedence
    assert first_class(capsys, *words) == ("blue", "")


def test_a_range_that_no_file_tells(artifacts, picture, tmp_path, capsys):
    (tmp_path / "moved.tflite").write_bytes(
        add_metadata(artifacts[True].content, [None], Preprocessing("triangle", True))
    )
    _, told = first_class(capsys, picture, "--model", tmp_path / "moved.tflite")
    assert "does not state the range of pixel values" in told


def test_the_card_tells_it(artifacts, tmp_path):
    told = artifacts[True].to_dict()["preprocessing"]
    assert told == {
        "resize": "triangle",
        "crop_to_aspect_ratio": True,
        "transparency": "white",
        "orientation": "upright",
        "colour_profile": "ignored",
    }
    path = artifacts[True].save(tmp_path / "a.tflite")
    assert Artifact.load(path) == artifacts[True]
    assert Artifact.load(path).preprocessing == Preprocessing("triangle", True)
    assert artifacts[None].to_dict()["preprocessing"] is None
    assert len({artifact.size_bytes for artifact in artifacts.values()}) == 1  # the metadata needs no flash


@pytest.mark.slow
def test_an_enlarging_network_takes_tiles():
    inputs = keras.Input((8, 8, 3))
    made = keras.Model(inputs, L.UpSampling2D(2)(L.Conv2D(3, 3, padding="same", activation="sigmoid")(inputs)))
    artifact = export(made, "android-cpu", "float32")
    assert artifact.preprocessing == read_metadata(artifact.content)[0] == Preprocessing("none")


class Reader:
    """A table of a flatbuffer, read by the numbers of its fields as metadata_schema.fbs counts them."""

    def __init__(self, data, position):
        self.table = flatbuffers.table.Table(data, position)

    @classmethod
    def root(cls, data):
        return cls(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0))

    def _at(self, field):
        return self.table.Offset(4 + 2 * field)

    def child(self, field):
        return Reader(self.table.Bytes, self.table.Indirect(self.table.Pos + self._at(field)))

    def children(self, field):
        start, count = self.table.Vector(self._at(field)), self.table.VectorLen(self._at(field))
        return [Reader(self.table.Bytes, self.table.Indirect(start + 4 * i)) for i in range(count)]

    def byte(self, field):
        return self.table.Get(flatbuffers.number_types.Uint8Flags, self.table.Pos + self._at(field))

    def floats(self, field):
        return self.table.GetVectorAsNumpy(flatbuffers.number_types.Float32Flags, self._at(field)).tolist()

    def text(self, field):
        return self.table.String(self._at(field) + self.table.Pos).decode()


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_the_standard_entry(limits, artifacts):
    """ModelMetadata -> SubGraphMetadata -> TensorMetadata -> NormalizationOptions of the metadata schema."""
    content = add_metadata(artifacts[True].content, [limits], Preprocessing())
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    names = [entry.name.decode() for entry in model.metadata]
    assert sorted(names) == sorted({"min_runtime_version", "CONVERSION_METADATA", "TFLITE_METADATA", "wavemix_tf"})
    data = bytes(model.buffers[model.metadata[names.index("TFLITE_METADATA")].buffer].data)
    assert data[4:8] == b"M001"
    metadata = Reader.root(data)
    assert metadata.text(7) == "1.0.0"  # min_parser_version
    (graph,) = metadata.children(3)
    (source,), sinks = graph.children(2), graph.children(3)
    assert len(sinks) == 1
    assert source.child(3).byte(0) == 2  # content: ImageProperties
    assert source.child(3).child(1).byte(0) == 1  # RGB
    (unit,) = source.children(4)
    assert unit.byte(0) == 1  # NormalizationOptions
    (mean,), (std,) = unit.child(1).floats(0), unit.child(1).floats(1)
    for pixel, real in ((0, limits[0]), (255, limits[1])):
        assert (pixel - mean) / std == pytest.approx(real, abs=1e-6)
    assert source.child(5).floats(0) == [limits[1]]  # stats: max, min
    assert source.child(5).floats(1) == [limits[0]]
    assert read_metadata(content) == (Preprocessing(), [limits])
    assert add_metadata(content, [limits], Preprocessing()) == content  # replaced, not added


def test_a_file_for_a_phone_holds_its_class_names(model, artifacts):
    """As MediaPipe and ML Kit read them: an output with a name and content, and labels.txt in a ZIP archive behind."""
    names = ['"a"; $HOME', "Gänse 鴨 | `x`"]
    content = export(model, "android-cpu", "float32", class_names=names).content
    assert read_labels(content) == names
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert [(one.filename, one.compress_type) for one in archive.infolist()] == [("labels.txt", zipfile.ZIP_STORED)]
    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    entry = next(entry for entry in parsed.metadata if entry.name == b"TFLITE_METADATA")
    (graph,) = Reader.root(bytes(parsed.buffers[entry.buffer].data)).children(3)
    (sink,) = graph.children(3)
    assert sink.text(0) == "output_0"
    assert sink.child(3).byte(0) == 1  # content: FeatureProperties
    assert sink.child(3).child(1)  # MediaPipe's reader follows it unchecked
    (labels,) = sink.children(6)
    assert labels.text(0) == "labels.txt"
    assert labels.byte(2) == 2  # TENSOR_AXIS_LABELS
    assert add_metadata(content, [(0.0, 1.0)], None, names) == content  # replaced, not added
    run = make_interpreter(content)
    run.invoke()
    assert read_labels(add_metadata(content, [None], None, ())) == read_labels(add_metadata(content, [None])) == []
    holding = {name for name, row in TARGETS.items() if row.holds_class_names}
    assert {"android-cpu", "android-gpu", "android-npu"} <= holding
    assert not holding & {"mcu", "c", "ethos-u55"}  # names would take flash
    assert read_labels(b"") == []


def test_somebody_elses_file(artifacts, tmp_path):
    content = artifacts[True].content
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    entry = next(entry for entry in model.metadata if entry.name == b"wavemix_tf")
    for text in (
        b"",
        b"no json",
        b"[1]",
        b'{"preprocessing": {"resize": "area", "crop_to_aspect_ratio": true}}',
        b"\xff",
    ):
        model.buffers[entry.buffer].data = list(text)
        assert read_metadata(pack(model)) == (None, None), text
    model.metadata = None
    assert read_metadata(pack(model)) == (None, None)
    (tmp_path / "a.keras").write_bytes(b"PK\5\6" + bytes(18))  # an empty archive
    assert read_from_keras_file(tmp_path / "a.keras") is None


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.slow
def test_the_files_behind_a_sample(in_memory, tmp_path):
    """A kit's pictures are the test images before they were brought to the network's size."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(40):
            size = (*random.integers(9, 30, 2), 3)
            Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / name / f"{index}.png")
    options = dict(crop_to_aspect_ratio=True, in_memory=in_memory, calibration_images=8, batch_size=4)
    recipe = Recipe(name="x", dataset="folder", data_dir=str(tmp_path), image_shape=(8, 8, 3), **options)
    data = load_data(recipe)
    pictures = whole_pictures(data.test_source, recipe, 4)
    images, _ = data.sample("test", 4)
    assert len({picture.shape for picture in pictures}) > 1
    for picture, image in zip(pictures, images, strict=True):
        np.testing.assert_array_equal(np.asarray(fit_image(picture, (8, 8, 3), True)), np.round(255 * image))
    assert whole_pictures(ArraySource(images, np.zeros(4, int)), recipe, 4) is None
