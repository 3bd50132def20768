"""The deployment kit: complete, filled in, and with the expected values that the runtimes compute."""

import dataclasses
import json
import re
import shutil
import subprocess

import android_stubs
import numpy as np
import pytest
from PIL import Image, ImageOps
from tflite_support import CLASS_NAMES, FILES, HELD_OUT, NETWORKS, network
from tflite_support import export_random as export

from wavemix_tf.files import replacing_folder
from wavemix_tf.tflite import Artifact
from wavemix_tf.tflite.file import flatbuffer
from wavemix_tf.tflite.graph.inputs import generated_images
from wavemix_tf.tflite.kit import model_card
from wavemix_tf.tflite.kit import vectors as kit_vectors
from wavemix_tf.tflite.kit import writer as kit
from wavemix_tf.tflite.runtimes.litert import make_interpreter
from wavemix_tf.tflite.runtimes.microcontroller import resolver_name, run_micro
from wavemix_tf.training.images import fit_image, read_image

COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs g++")


@pytest.fixture(scope="module")
def images():
    return HELD_OUT["deconv"][:32]


@pytest.fixture(scope="module")
def artifacts():
    return {
        "mcu-int8": FILES["deconv", "mcu", None],
        "android-cpu-int8": FILES["deconv", "android-cpu", None],
        "android-cpu-uint8": FILES["deconv", "android-cpu", "uint8"],
        "android-gpu-float16": FILES["deconv", "android-gpu", None],
    }


@pytest.fixture(scope="module")
def grey():
    model = network(**NETWORKS["pixel_shuffle"])
    return export(model, "mcu", calibration=generated_images((16, 16, 1), 32, seed=1))


@pytest.fixture(scope="module")
def kits(artifacts, images, tmp_path_factory):
    root = tmp_path_factory.mktemp("kits")
    labels = np.arange(len(images)) % 5
    return {name: a.save_kit(root / name, name=name, images=images, labels=labels) for name, a in artifacts.items()}


def vectors_of(folder):
    """The folder of a kit's vectors, which has the kit's name."""
    (found,) = (folder / "test_vectors").iterdir()
    return found


def card(folder):
    return json.loads((vectors_of(folder) / kit.VECTORS_JSON).read_text())


def arrays(folder, key):
    """The vectors of a kit, read as a firmware engineer would, from vectors.json and the .bin files."""
    rows = card(folder)[key]
    return [
        np.frombuffer((vectors_of(folder) / row["file"]).read_bytes(), np.dtype(row["dtype"]).newbyteorder("<"))
        .reshape(row["shape"])
        .astype(row["dtype"])
        for row in rows
    ]


def numbers(text, name):
    """The numbers of a C array."""
    body = re.search(rf"\b{name}\[\d*\](?:\[\d+\])? = \{{(.*?)\}};", text, re.DOTALL).group(1)
    return re.findall(r"0x[0-9a-f]+|-?\d[\d.e+-]*", body)


@pytest.mark.slow
def test_files(kits):
    def files(name):
        return sorted(p.relative_to(kits[name]).as_posix() for p in kits[name].rglob("*") if p.is_file())

    common = ["MODEL_CARD.md", "README.md"]
    costs = [f"costs/{file}" for file in ("cost_by_layer.svg", "live_bytes.node_data.json", "macs.node_data.json")]
    costs.append("costs/memory_plan.svg")

    def vectors(name):
        pictures = [f"picture_{i}.png" for i in range(5)]
        return [f"test_vectors/{name}/{file}" for file in ("expected_0.bin", "input_0.bin", *pictures, "vectors.json")]

    assert files("mcu-int8") == [
        *common,
        *sorted([*costs, "costs/instructions.node_data.json"]),
        *("mcu-int8.json", "mcu-int8.labels.txt", "mcu-int8.tflite"),
        *("micro/main.cc", "micro/mcu_int8.cc", "micro/mcu_int8.h"),
        *("micro/mcu_int8_picture.h", "micro/mcu_int8_vectors.h"),
        *vectors("mcu-int8"),
    ]
    assert files("android-cpu-int8") == [
        *common,
        *("android-cpu-int8.json", "android-cpu-int8.labels.txt", "android-cpu-int8.tflite"),
        *("android/AndroidCpuInt8.kt", "android/AndroidCpuInt8Picture.kt", "android/AndroidCpuInt8Test.kt"),
        *costs,
        *("native/android_cpu_int8_picture.h", "native/android_cpu_int8_vectors.h"),
        *vectors("android-cpu-int8"),
    ]


def test_the_file_in_it_is_the_artifact(kits, artifacts):
    for name, folder in kits.items():
        assert Artifact.load(folder / f"{name}.tflite") == artifacts[name]
        assert (folder / f"{name}.labels.txt").read_text().splitlines() == CLASS_NAMES
        assert kit.kit_digest(folder) == artifacts[name].sha256


def test_the_c_array_is_the_file(kits, artifacts):
    source = (kits["mcu-int8"] / "micro/mcu_int8.cc").read_text()
    assert bytes(int(n, 16) for n in numbers(source, "mcu_int8")) == artifacts["mcu-int8"].content


def test_the_resolver_has_the_ops_of_the_file(kits):
    folder = kits["mcu-int8"]
    header = (folder / "micro/mcu_int8.h").read_text()
    info = flatbuffer.read_file((folder / "mcu-int8.tflite").read_bytes())
    ops = sorted({resolver_name(op.name) for op in info.ops})
    assert re.findall(r"resolver\.Add(\w+)\(\)", header) == ops
    assert f"mcu_int8_op_count = {len(ops)}" in header
    assert f"Exactly the ops of this file: {', '.join(ops)}." in (folder / "micro/main.cc").read_text()


def test_vectors_are_what_tensorflow_lite_micro_computes(kits, artifacts, images):
    folder = kits["mcu-int8"]
    (inputs,), (expected,) = arrays(folder, "inputs"), arrays(folder, "outputs")
    content = (folder / "mcu-int8.tflite").read_bytes()
    (found,), _ = run_micro(content, [inputs], 2 * artifacts["mcu-int8"].arena_bytes)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(inputs[:4], np.round(images[:4] * 255) - 128)
    said = card(folder)
    assert said["compare"] == "integers, bit by bit"
    assert said["labels"] == [*CLASS_NAMES[:4], None]
    assert said["first_class"] == [CLASS_NAMES[i] for i in expected.argmax(-1)]
    assert len({row.tobytes() for row in expected}) == 5  # the vectors detect a model that ignores its input


@pytest.mark.parametrize("name", ["android-cpu-int8", "android-cpu-uint8", "android-gpu-float16"])
def test_vectors_are_what_litert_computes(name, kits):
    folder = kits[name]
    (inputs,), (expected,) = arrays(folder, "inputs"), arrays(folder, "outputs")
    interpreter = make_interpreter((folder / f"{name}.tflite").read_bytes())
    for row, wanted in zip(inputs, expected, strict=True):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        np.testing.assert_array_equal(found, wanted)
    assert (card(folder)["mean_difference_bound"] is None) == (name != "android-gpu-float16")


@pytest.mark.parametrize("name", ["mcu-int8", "android-cpu-uint8", "android-gpu-float16"])
def test_the_header_holds_the_same_vectors(name, kits):
    folder = kits[name]
    (header,) = folder.rglob("*_vectors.h")
    c_name = header.name.removesuffix("_vectors.h")
    text = header.read_text()
    for key, kind in (("inputs", "input"), ("outputs", "expected")):
        (wanted,) = arrays(folder, key)
        found = np.array([float(n) for n in numbers(text, f"{c_name}_{kind}_0")]).astype(wanted.dtype)
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


def test_every_placeholder_is_filled(kits, grey, tmp_path):
    folders = [*kits.values(), grey.save_kit(tmp_path / "grey")]
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.suffix in (".kt", ".cc", ".h", ".md"):
            text = path.read_text()
            assert not re.search(r"@(?!(RunWith|Test|param)\b)", text), path
            assert not re.search(r"\{\w+\}|\{\{|\}\}(?!;)|None|\bnan\b", text.replace("}};", "")), path
            if path.suffix != ".md":
                for opening, closing in ("{}", "()", "[]"):
                    assert text.count(opening) == text.count(closing), path


def test_code_is_for_the_input_and_the_accelerator(kits):
    def code(name, file):
        return (kits[name] / "android" / file).read_text()

    assert "(levels[i] - 128).toByte()" in code("android-cpu-int8", "AndroidCpuInt8Picture.kt")
    assert "(levels[i]).toByte()" in code("android-cpu-uint8", "AndroidCpuUint8Picture.kt")
    assert "levels[i] / 255f" in code("android-gpu-float16", "AndroidGpuFloat16Picture.kt")
    floats = code("android-gpu-float16", "AndroidGpuFloat16.kt")
    assert "writeFloat(input)" in floats
    assert "Accelerator.GPU" in floats
    assert "Accelerator.CPU" in code("android-cpu-int8", "AndroidCpuInt8.kt")
    gradle = (kits["android-gpu-float16"] / "README.md").read_text()
    assert "com.google.ai.edge.litert:litert-gpu:" in gradle
    assert "com.google.ai.edge.litert:litert-gpu:" not in (kits["android-cpu-int8"] / "README.md").read_text()


def test_every_vector_starts_from_a_picture(kits, images):
    for name, folder in kits.items():
        said = card(folder)
        (inputs,) = arrays(folder, "inputs")
        for number, file in enumerate(said["pictures"]):
            whole = read_image(vectors_of(folder) / file)
            levels = np.asarray(fit_image(whole, (16, 16, 3), True)).astype(float)
            found = inputs[number] * 255.0 if inputs.dtype == np.float32 else inputs[number].astype(float)
            found += 128 if inputs.dtype == np.int8 else 0
            assert np.abs(found - levels).max() <= 1.01, (name, file)
            if number < 4:
                np.testing.assert_array_equal(whole, np.round(255 * images[number]))
        assert whole.shape == (35, 26, 3)
        with Image.open(vectors_of(folder) / file) as last:
            assert last.mode == "RGBA"


def test_pictures_of_any_size(artifacts, tmp_path):
    """As a camera gives them; one with transparency, one too large to be kept."""
    random = np.random.default_rng(0)
    shapes = ((31, 50, 3), (9, 8, 1), (20, 20, 4), (300, 700, 3))
    given = [random.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    folder = artifacts["android-cpu-uint8"].save_kit(tmp_path / "kit", pictures=given, labels=[4, 3, 2, 1])
    (inputs,) = arrays(folder, "inputs")
    sizes = []
    for number, file in enumerate(card(folder)["pictures"]):
        whole = read_image(vectors_of(folder) / file)
        sizes.append(whole.shape[:2])
        levels = np.asarray(fit_image(whole, (16, 16, 3), True)).astype(int)
        assert np.abs(inputs[number] - levels).max() <= 1
    assert sizes == [(31, 50), (9, 8), (20, 20), (274, 640), (35, 26)]
    assert card(folder)["labels"] == ["eel", "dog", "cat|tom", "bee", None]
    for wrong in ([given[0][..., 0]], [given[0] / 255], [np.zeros((0, 4, 3), np.uint8)]):
        with pytest.raises(ValueError, match=r"pictures must be uint8 arrays \(height, width, 1, 3 or 4\). Received: "):
            artifacts["android-cpu-uint8"].save_kit(tmp_path / "wrong", pictures=wrong)


def test_what_is_unknown_of_training_is_said(kits, artifacts, tmp_path):
    known = (kits["android-cpu-int8"] / "README.md").read_text()
    assert "the center cropped to the input's proportions, then resized with a triangle filter" in known
    assert "assumed" not in known
    unknown = dataclasses.replace(artifacts["android-cpu-int8"], preprocessing=None).save_kit(tmp_path / "kit")
    for path in (unknown / "README.md", *unknown.glob("android/*.kt"), *unknown.glob("native/*_picture.h")):
        if not path.name.endswith("Test.kt"):
            assert "the rule of training is unknown" in path.read_text().replace("\n", " "), path
    assert "how pictures are resized to its size: unknown" in (unknown / "MODEL_CARD.md").read_text()
    measured = dataclasses.replace(artifacts["android-cpu-int8"], input_ranges=(None,)).save_kit(tmp_path / "measured")
    assert not [path for path in measured.rglob("*") if "icture" in path.name]
    assert "How a pixel maps to the model's values is unknown" in (measured / "README.md").read_text()
    nameless = dataclasses.replace(artifacts["android-cpu-int8"], class_names=()).save_kit(tmp_path / "nameless")
    assert not list(nameless.rglob("*.labels.txt"))
    assert "labels" not in next(nameless.glob("android/AndroidCpuInt8.kt")).read_text()


@pytest.mark.skipif(shutil.which("kotlinc") is None, reason="needs kotlinc")
def test_the_android_code_on_a_jvm(kits, tmp_path):
    """Two kits in one app: bitmaps of the GPU, every EXIF orientation, and from the PNG files to the outputs."""
    kinds = {"android-cpu-int8": "AndroidCpuInt8", "android-gpu-float16": "AndroidGpuFloat16"}
    assets, sources = tmp_path / "assets", []
    for name, class_name in kinds.items():
        shutil.copytree(kits[name] / "test_vectors", assets / "test_vectors", dirs_exist_ok=True)
        for file in (f"{name}.tflite", f"{name}.labels.txt"):
            shutil.copy(kits[name] / file, assets)
        sources += [kits[name] / f"android/{class_name}{part}.kt" for part in ("", "Picture", "Test")]
    for package, text in android_stubs.SOURCES.items():
        (tmp_path / f"{package}.kt").write_text(f"package {package}\n{text}")
        sources.append(tmp_path / f"{package}.kt")
    picture = next(vectors_of(kits["android-cpu-int8"]).glob("picture_0.png"))
    checks = "\n".join(
        f"""
        {kind}(context).use {{ model ->
            println(model.checkVectors(context.assets))
            println(model.checkPictures(context.assets))
            val image = {kind}.decode(encoded)
            val (label, _) = model.classify(image).first()
            println(label)
            check(model.pixels(image.copy(Bitmap.Config.HARDWARE, false)!!).contentEquals(model.pixels(image)))
        }}
        {kind}Test().theModelComputesWhatItComputedWhereItWasMade()
        {kind}Test().aPictureBecomesTheInputThatTrainingMakesOfIt()"""
        for kind in kinds.values()
    )
    (tmp_path / "main.kt").write_text(f"""
    package com.example.wavemix
    import android.graphics.Bitmap
    import android.media.ExifInterface
    import java.io.File
    inline fun <T : AutoCloseable, R> T.use(block: (T) -> R): R = try {{ block(this) }} finally {{ close() }}
    fun main(words: Array<String>) {{
        val context = android.content.Context(android.content.res.AssetManager(File(words[0])))
        androidx.test.platform.app.InstrumentationRegistry.context = context
        val encoded = File(words[1]).readBytes()
        {checks}
        android.os.Build.VERSION.SDK_INT = 27
        val wide = File(words[2]).readBytes()
        for (orientation in 1..8) {{
            ExifInterface.orientation = orientation
            val turned = AndroidCpuInt8.decode(wide)
            val colours = IntArray(turned.width * turned.height)
            turned.getPixels(colours, 0, turned.width, 0, 0, turned.width, turned.height)
            println("${{turned.width}} " + colours.joinToString(" ") {{ (it and 0xFF).toString() }})
        }}
    }}
    """)
    wide = Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    wide.save(tmp_path / "wide.png")
    jar = tmp_path / "kits.jar"
    subprocess.run(["kotlinc", *sources, tmp_path / "main.kt", "-include-runtime", "-nowarn", "-d", jar], check=True)
    words = [assets, picture, tmp_path / "wide.png"]
    run = subprocess.run(["java", "-cp", jar, "com.example.wavemix.MainKt", *words], check=True, stdout=subprocess.PIPE)
    lines = run.stdout.decode().splitlines()
    first = [card(kits[name])["first_class"][0] for name in kinds]
    assert lines[:6] == ["0.0", "0.0", first[0], "0.0", "0.0", first[1]]
    for orientation, line in enumerate(lines[6:], 1):
        wide.getexif()[0x0112] = orientation
        upright = np.asarray(ImageOps.exif_transpose(wide))
        assert list(map(int, line.split())) == [upright.shape[1], *upright[..., 2].reshape(-1)], orientation


@needs_compiler
def test_the_firmware_makes_the_input_of_a_picture(kits, tmp_path):
    """The statements of main.cc, with another picture too: they must notice."""
    folder = kits["mcu-int8"] / "micro"
    main = (folder / "main.cc").read_text()
    statements = main[main.index("  {\n    static int8_t input") : main.index('  MicroPrintf("arena')]
    for spoil, expected in (("", 0), ("mcu_int8_picture[20][41] ^= 255;", 1)):
        program = f"""
            #include <cstring>
            #include <cstdio>
            {"#define const" if spoil else ""}
            #include "mcu_int8_vectors.h"
            {"#undef const" if spoil else ""}
            #include "mcu_int8_picture.h"
            int Fail(const char* reason) {{ std::puts(reason); return 1; }}
            int main() {{ {spoil}
            {statements} return mcu_int8_vector_count + mcu_int8_expected_0[0][0] > 200 ? 2 : 0; }}
        """
        (tmp_path / "picture.cc").write_text(program)
        flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{folder}"]
        subprocess.run([COMPILER, *flags, "-o", tmp_path / "picture", tmp_path / "picture.cc"], check=True)
        run = subprocess.run([tmp_path / "picture"], capture_output=True)
        assert run.returncode == expected, run.stdout


@needs_compiler
@pytest.mark.parametrize("name", ["mcu-int8", "android-gpu-float16"])
def test_a_compiler_reads_the_arrays_as_they_are(name, kits, tmp_path):
    """A host program that writes the C arrays out again."""
    folder = kits[name]
    (header,) = folder.rglob("*_vectors.h")
    c_name = header.name.removesuffix("_vectors.h")
    program = f"""
        #include <cstdio>
        #include "{header.name}"
        int main() {{
          std::fwrite({c_name}_input_0, sizeof({c_name}_input_0), 1, stdout);
          std::fwrite({c_name}_expected_0, sizeof({c_name}_expected_0), 1, stdout);
          return {c_name}_vector_count == 5 ? 0 : 1;
        }}
    """
    (tmp_path / "dump.cc").write_text(program)
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{header.parent}"]
    subprocess.run([COMPILER, "-std=c++17", *flags, "-o", tmp_path / "dump", tmp_path / "dump.cc"], check=True)
    written = subprocess.run([tmp_path / "dump"], check=True, capture_output=True).stdout
    vectors = vectors_of(folder)
    assert written == (vectors / "input_0.bin").read_bytes() + (vectors / "expected_0.bin").read_bytes()


@pytest.mark.slow
def test_an_existing_folder_stays_as_it_is(artifacts, tmp_path, monkeypatch):
    artifact = artifacts["mcu-int8"]
    folder = artifact.save_kit(tmp_path / "kit")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match=r"overwrite=True to replace .*kit"):
        artifact.save_kit(folder)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(FileExistsError, match=r"overwrite replaces a folder that save_kit wrote"):
        artifact.save_kit(other, overwrite=True)
    (folder / "left behind").touch()
    artifact.save_kit(folder, overwrite=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match=r"disk full"):
        artifact.save_kit(folder, overwrite=True)
    with pytest.raises(OSError, match=r"disk full"):
        artifact.save_kit(tmp_path / "new")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kit", "other"]


def test_a_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    import os

    place = tmp_path / "place"
    place.mkdir()
    (place / "old").touch()
    moves = []

    def second_fails(source, target, move=os.replace):
        moves.append(target)
        if len(moves) == 2:
            raise OSError("busy")
        move(source, target)

    monkeypatch.setattr("os.replace", second_fails)
    with pytest.raises(OSError, match=r"busy"), replacing_folder(place) as temporary:
        (temporary / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["place", "old"]


def test_model_card_invents_nothing(artifacts, kits, images, tmp_path):
    alone = (kits["mcu-int8"] / "MODEL_CARD.md").read_text()
    assert "Accuracy: unknown" in alone
    assert "Of these weights: unknown" in alone
    assert artifacts["mcu-int8"].sha256 in alone
    assert "| CONV_2D | 10 |" in alone
    report = {
        "created": "2026-01-02 03:04 UTC",
        "recipe": {"name": "bugs", "dataset": "insects", "epochs": 3, "qat_epochs": 1, "crop_to_aspect_ratio": True},
        "dataset": {"class_names": CLASS_NAMES, "image_shape": [16, 16, 3], "sizes": {"train": 1234}, "tested": 50},
        "model": {"name": "WaveMix 8/2", "parameters": 4321},
        "results": [
            {"name": "float model", "runtime": "Keras", "accuracy": 0.9},
            {"name": "mcu", "runtime": "TFLite Micro", "accuracy": 0.88, "latency_ms": {"p50": 1.0, "p90": 2.0}},
        ],
        "exports": [{"name": "mcu", "card": {"sha256": artifacts["mcu-int8"].sha256}}],
    }
    folder = artifacts["mcu-int8"].save_kit(tmp_path / "kit", images=images, report=report)
    text = (folder / "MODEL_CARD.md").read_text()
    for part in ("insects", "1,234", "4,321", "88.00 %", "90.00 %", "50 test images", "cropping the center"):
        assert part in text
    assert "Accuracy: unknown" not in text
    report["dataset"]["tested"] = 1
    assert "\n1 test image, used in" in model_card._metrics(report, report["results"][1])
    other = artifacts["android-cpu-int8"].save_kit(tmp_path / "other", images=images, report=report)
    assert "Accuracy: unknown" in (other / "MODEL_CARD.md").read_text()  # the report describes another file


def test_large_inputs_make_fewer_vectors(artifacts, images):
    artifact = artifacts["android-gpu-float16"]
    info = flatbuffer.read_file(artifact.content)
    computed = kit_vectors.compute_vectors(artifact, info, images, None, 1000)
    assert computed.count == kit_vectors.VECTOR_BYTES // (16 * 16 * 3 * 4) + 1
    assert kit_vectors.compute_vectors(artifact, info, None, None, 2).source == "generated"


def test_wrong_options(artifacts, images, tmp_path):
    artifact = artifacts["android-cpu-int8"]
    for options, message in [
        (dict(name="../x"), r"name must consist of letters.*'\.\./x'"),
        (dict(vectors=0), r"vectors must be at least 1. Received: vectors=0"),
        (dict(images=images[:, 1:]), r"images must be an array \(N, 16, 16, 3\)"),
        (dict(images=images, labels=[1]), r"labels must name a class for each image. Received: 1 labels, 4 images"),
    ]:
        with pytest.raises(ValueError, match=message):
            artifact.save_kit(tmp_path / "kit", **options)
    assert list(tmp_path.iterdir()) == []
