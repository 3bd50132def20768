"""A kit's code that resizes an image for a network: its bytes against training's, in C, Kotlin and JavaScript."""

import io
import json
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from wavemix_tf.preprocessing import Preprocessing
from wavemix_tf.resizing import centre, fit_picture, taps
from wavemix_tf.tflite.file.flatbuffer import TensorInfo
from wavemix_tf.tflite.kit import picture as kit_picture
from wavemix_tf.tflite.kit import web
from wavemix_tf.training import images as training

C_COMPILER, CPP_COMPILER, KOTLIN = shutil.which("gcc"), shutil.which("g++"), shutil.which("kotlinc")
NODE = shutil.which("node")
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover"]

# (network's height, width, channels), dtype, scale, zero point, preprocessing
INPUTS = {
    "rgb": ((32, 32, 3), "int8", 1 / 255, -128, Preprocessing()),
    "cropped": ((24, 33, 3), "uint8", 1 / 255, 0, Preprocessing("triangle", True)),
    "grey": ((28, 20, 1), "float32", 0.0, 0, Preprocessing("triangle", True)),
    "looked_up": ((17, 40, 3), "int8", 0.011, -3, Preprocessing()),
    "unsigned": ((9, 7, 1), "uint8", 0.0061, 5, Preprocessing()),
    "centred": ((8, 8, 3), "float32", 0.0, 0, Preprocessing()),
    "tile": ((12, 10, 3), "int8", 1 / 255, -128, Preprocessing("none")),
}
LIMITS = {"centred": (-1.0, 1.0)}
# Reduced, enlarged, both at once, integer factors, a line of one pixel, the same size: (height, width).
SIZES = [(1, 1), (1, 50), (90, 1), (32, 32), (64, 96), (12, 10), (61, 43), (13, 200), (7, 5), (150, 131), (240, 320)]


class Known:
    """What an artifact tells of its input."""

    def __init__(self, name):
        self.input_ranges = (LIMITS.get(name, (0.0, 1.0)),)
        self.preprocessing = INPUTS[name][4]


def taken(name):
    shape, dtype, scale, zero_point, _ = INPUTS[name]
    tensor = TensorInfo("input", (1, *shape), dtype, scale, zero_point, 1, False)
    return kit_picture.PictureInput.of(Known(name), type("Info", (), {"inputs": (tensor,)}))


def picture(seed, height, width, channels):
    """Coarse patches, noise or black and white dots."""
    random = np.random.default_rng(seed)
    coarse = Image.open(io.BytesIO(kit_picture.png(random.integers(0, 256, (5, 4, channels), dtype=np.uint8))))
    if seed % 3 == 0:
        return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).reshape(height, width, channels)
    if seed % 3 == 1:
        return random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return random.choice(np.array([0, 255], np.uint8), (height, width, channels))


def trained(path, name):
    """The levels that training makes of a file for a network."""
    shape, *_, preprocessing = INPUTS[name]
    whole = training.read_image(path, shape[2])
    return np.asarray(training.fit_image(whole, shape, preprocessing.crop_to_aspect_ratio))


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """(name of an input, picture, levels of training, values that the network takes) of every size and kind."""
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for number, name in enumerate(INPUTS):
        one = taken(name)
        for index, (height, width) in enumerate([INPUTS["tile"][0][:2]] * 3 if name == "tile" else SIZES):
            channels = (3, 4, 1)[(index + number) % 3]
            whole = picture(number + index, height, width, channels)
            path = folder / f"{name}{index}.png"
            path.write_bytes(kit_picture.png(whole))
            found.append((name, whole, trained(path, name), one.values[one.levels(whole)]))
    return found


@pytest.mark.slow
def test_whole_numbers_give_the_levels_of_training(cases):
    different = 0
    for name, whole, levels, values in cases:
        one = taken(name)
        difference = np.abs(one.levels(whole).astype(int) - levels)
        assert difference.max() <= 1, (name, whole.shape)
        different += difference.sum()
        np.testing.assert_array_equal(values, one.values[one.levels(whole)])
    assert different < 4e-3 * sum(levels.size for _, _, levels, _ in cases)
    assert len({levels.tobytes() for _, _, levels, _ in cases}) > len(cases) - 9  # one pixel has one color


@pytest.mark.slow
def test_the_part_that_is_kept_is_that_of_training():
    number, image = tf.TensorSpec((), tf.int64), tf.TensorSpec((None, None, 1), tf.uint8)
    cut = tf.function(training._center, input_signature=[image, number, number])
    random = np.random.default_rng(0)
    sizes = [(26, 21, 228, 3), (1, 3, 74, 33), (5, 5, 2, 4), (25, 10, 10, 3)]
    for height, width, *wanted in [*sizes, *random.integers(1, 90, (200, 4)).tolist()]:
        whole = np.arange(height * width).reshape(height, width, 1).astype(np.uint8)
        top, left, kept_height, kept_width = centre(height, width, *wanted)
        expected = whole[top : top + kept_height, left : left + kept_width]
        np.testing.assert_array_equal(training._center(whole, *wanted), expected)
        np.testing.assert_array_equal(cut(whole, *wanted), expected)
    assert centre(100, 300, 10, 10) == (0, 100, 100, 100)
    assert centre(3, 9, 2, 1) == (0, 3, 3, 2)  # 1.5 columns: the even number
    assert np.asarray(training.fit_image(np.zeros((26, 21, 3), np.uint8), (228, 3, 3), True)).shape == (228, 3, 3)


@pytest.mark.slow
def test_sums_do_not_overflow():
    """The largest picture and the smallest network: white stays white."""
    for size, wanted in ((65_535, 1), (1, 65_535), (65_535, 7)):
        first, weights = taps(size, wanted)[0]
        assert first == 0
        assert int(weights.sum()) * 255 << 16 < 1 << 62
    white = np.full((1, 65_535, 1), 255, np.uint8)
    assert fit_picture(white, 1, 1).item() == 255
    assert fit_picture(white.reshape(-1, 1, 1), 1, 1).item() == 255


@pytest.mark.skipif(C_COMPILER is None or CPP_COMPILER is None, reason="needs gcc and g++")
@pytest.mark.slow
def test_the_c_code(cases, tmp_path):
    names = list(INPUTS)
    calls = []
    for name in names:
        (tmp_path / f"{name}_picture.h").write_text(kit_picture.picture_h(taken(name), name))
        size = int(np.prod(INPUTS[name][0]))
        calls.append(f"""
        if (head[0] == {names.index(name)}) {{
          static {kit_picture.C_TYPES[INPUTS[name][1]]} input[{size}];
          int64_t sums[{name}_picture_sums];
          int rc = {name}_from_picture(picture, head[1], head[2], head[3], (int64_t)head[2] * head[3] + 5, input, sums);
          if (rc != 0) return 2;
          if ({name}_from_picture(picture, head[1], head[2], 5, 0, input, sums) != -1) return 3;
          fwrite(input, sizeof input, 1, stdout);
        }}""")
    includes = "\n".join(f'#include "{name}_picture.h"' for name in names)
    program = f"""
    #include <stdio.h>
    {includes}
    static unsigned char picture[1 << 20];
    int main(void) {{
      int32_t head[4], size;
      while (fread(head, sizeof head, 1, stdin) == 1) {{
        if (fread(&size, 4, 1, stdin) != 1 || fread(picture, 1, (size_t)size, stdin) != (size_t)size) return 1;
        {"".join(calls)}
      }}
      return 0;
    }}
    """
    (tmp_path / "main.c").write_text(program)
    fed = b""
    for name, whole, *_ in cases:
        rows = np.pad(whole.reshape(len(whole), -1), [(0, 0), (0, 5)])  # rows may be longer than their pixels
        head = [names.index(name), *whole.shape, rows.size]
        fed += np.array(head, "<i4").tobytes() + rows.tobytes()
    for compiler in ([C_COMPILER, "-std=c99"], [CPP_COMPILER, "-std=c++11", "-x", "c++"]):
        subprocess.run([*compiler, *STRICT, "-o", tmp_path / "fit", tmp_path / "main.c"], check=True)
        written = subprocess.run([tmp_path / "fit"], input=fed, check=True, capture_output=True).stdout
        assert written == b"".join(values.tobytes() for *_, values in cases)


@pytest.mark.skipif(KOTLIN is None, reason="needs kotlinc")
def test_the_kotlin_code(cases, tmp_path):
    names = list(INPUTS)
    branches = []
    for name in names:
        (tmp_path / f"{name}.kt").write_text(kit_picture.picture_kt(taken(name), f"{name}.tflite", name.capitalize()))
        row = "{ y, into -> pixels.copyInto(into, 0, y * width, (y + 1) * width) }"
        call = f"{name.capitalize()}Picture.input(height, width) {row}"
        put = "putFloat" if INPUTS[name][1] == "float32" else "put"
        branches.append(f"{names.index(name)} -> {call}.forEach {{ output.{put}(it) }}")
    body = "\n                ".join(branches)
    (tmp_path / "main.kt").write_text(f"""
    package com.example.wavemix
    import java.io.File
    import java.nio.ByteBuffer
    import java.nio.ByteOrder
    fun main(words: Array<String>) {{
        val fed = ByteBuffer.wrap(File(words[0]).readBytes()).order(ByteOrder.LITTLE_ENDIAN)
        val output = ByteBuffer.allocate(1 shl 22).order(ByteOrder.LITTLE_ENDIAN)
        while (fed.hasRemaining()) {{
            val kind = fed.getInt()
            val height = fed.getInt()
            val width = fed.getInt()
            val pixels = IntArray(height * width) {{ fed.getInt() }}
            when (kind) {{
                {body}
            }}
        }}
        File(words[1]).writeBytes(output.array().copyOf(output.position()))
        try {{
            TilePicture.levels(1, 1) {{ _, _ -> }}
        }} catch (refused: IllegalArgumentException) {{
            return
        }}
        throw IllegalStateException("another size than the network's must be refused")
    }}
    """)
    fed = b""
    for name, whole, *_ in cases:
        colours = np.broadcast_to(whole, (*whole.shape[:2], 3)) if whole.shape[2] == 1 else whole[..., :3]
        alpha = whole[..., 3:] if whole.shape[2] == 4 else np.full_like(whole[..., :1], 255)
        argb = np.concatenate([colours[..., ::-1], alpha], -1)  # an int of alpha, red, green, blue, little-endian
        fed += np.array([names.index(name), *whole.shape[:2]], "<i4").tobytes() + argb.tobytes()
    (tmp_path / "fed").write_bytes(fed)
    sources = [tmp_path / f"{name}.kt" for name in (*names, "main")]
    jar = tmp_path / "fit.jar"
    subprocess.run([KOTLIN, *sources, "-include-runtime", "-d", jar], check=True, capture_output=True)
    subprocess.run(["java", "-cp", jar, "com.example.wavemix.MainKt", tmp_path / "fed", tmp_path / "out"], check=True)
    assert (tmp_path / "out").read_bytes() == b"".join(values.tobytes() for *_, values in cases)


NODE_PROGRAM = """
import { readFileSync, writeFileSync } from "node:fs";
import { inputValues, middleTile, pictureLevels } from "./picture.mjs";

const { inputs, cases } = JSON.parse(readFileSync("cases.json"));
const pixels = readFileSync("pixels");
const made = [];
let at = 0;
for (const { name, width, height } of cases) {
  const rgba = pixels.subarray(at, (at += 4 * width * height));
  const levels = pictureLevels(rgba, width, height, inputs[name]);
  const values = Float64Array.from(inputValues(levels, inputs[name].values, "float32"));
  made.push(Buffer.from(levels), Buffer.from(values.buffer));
}
writeFileSync("made", Buffer.concat(made));
const refused = [
  () => pictureLevels(pixels.subarray(0, 4), 1, 1, inputs.tile),
  () => pictureLevels(pixels.subarray(0, 4), 2, 1, inputs.rgb),
  () => pictureLevels(new Uint8Array(4 * 65535), 65535, 1, { ...inputs.rgb, width: 1 }),
  () => middleTile(pixels.subarray(0, 4), 1, 1, inputs.tile),
  () => inputValues([0], [0], "int8"),
];
for (const call of refused) {
  try {
    call();
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) continue;
  }
  throw new Error(`not refused: ${call}`);
}
const tile = middleTile(Uint8Array.from({ length: 4 * 5 * 4 }, (_, i) => i), 5, 4, { width: 2, height: 2 });
if (String(tile.rgba) !== "24,25,26,27,28,29,30,31,44,45,46,47,48,49,50,51") throw new Error(`tile: ${tile.rgba}`);
"""


@pytest.mark.skipif(NODE is None, reason="needs node")
@pytest.mark.slow
def test_the_javascript_code(cases, tmp_path):
    (tmp_path / "picture.mjs").write_bytes((web.PAGE / "picture.js").read_bytes())
    (tmp_path / "main.mjs").write_text(NODE_PROGRAM)
    inputs = {name: web.input_card(taken(name)) for name in INPUTS}
    rows, fed, wanted = [], b"", b""
    for name, whole, _, values in cases:
        colours = np.broadcast_to(whole, (*whole.shape[:2], 3)) if whole.shape[2] == 1 else whole[..., :3]
        alpha = whole[..., 3:] if whole.shape[2] == 4 else np.full_like(whole[..., :1], 255)
        fed += np.concatenate([colours, alpha], -1).tobytes()
        rows.append({"name": name, "width": whole.shape[1], "height": whole.shape[0]})
        wanted += taken(name).levels(whole).tobytes() + values.astype(np.float64).tobytes()
    (tmp_path / "cases.json").write_text(json.dumps({"inputs": inputs, "cases": rows}))
    (tmp_path / "pixels").write_bytes(fed)
    done = subprocess.run([NODE, "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made").read_bytes() == wanted
