"""A kit's page in headless Chromium: self-test, equal integers, training's pixels, a failure that is seen.

Needs node, Chromium and ``WAVEMIX_TF_NODE_MODULES``, a node_modules folder with the packages of ``browser.PACKAGES``.
"""

import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tflite_support import FILES, HELD_OUT, export_random, randomise
from web_support import HOSTILE

import wavemix_tf as wm
from wavemix_tf.colours import palette
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.kit.picture import PictureInput, png
from wavemix_tf.tflite.runtimes.running import run_raw
from wavemix_tf.training.images import fit_image, read_image

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import browser

MISSING = browser.missing()
pytestmark = [pytest.mark.skipif(MISSING is not None, reason=MISSING or ""), pytest.mark.slow]
STATE = "body[data-state=passed], body[data-state=failed]"
# Runs the page's own modules on given inputs.
RUN = """
const { Network, get } = await import("./network.js");
const page = await (await get("page.json")).json();
const network = await Network.load(page, new Uint8Array(await (await get(page.file)).arrayBuffer()), given.backend);
const { arrayOf } = await import("./picture.js");
const found = [];
for (const values of given.inputs) {
  found.push(Array.from((await network.run(new (arrayOf(page.input.dtype))(values))).outputs[0]));
}
network.delete();
return found;
"""
# The input that the page makes of a picture.
INPUT = """
const { decode, pixels } = await import("./decode.js");
const { pictureLevels } = await import("./picture.js");
const page = await (await fetch("page.json")).json();
const found = [];
for (const file of given) {
  const { rgba, width, height } = pixels(await decode(await (await fetch(file)).blob()));
  found.push(Array.from(pictureLevels(rgba, width, height, page.input)));
}
return found;
"""


def test_state(window):
    """The words of the tile, once the self-test is over."""
    window.do("wait", selector=STATE, timeout=60_000)
    return window.do("evaluate", script="return document.getElementById('state').innerText")


test_state.__test__ = False


def save_kit(artifact, folder, images, **options):
    """The folder of a kit's page."""
    return artifact.save_kit(folder, name="net", images=images, **options) / "web"


@pytest.fixture(scope="module")
def artifact():
    made = FILES["deconv", "web", None]
    return type(made)(**{**vars(made), "class_names": HOSTILE})


@pytest.fixture(scope="module")
def page(artifact, tmp_path_factory):
    return save_kit(artifact, tmp_path_factory.mktemp("page") / "kit", HELD_OUT["deconv"][:4], labels=[0, 1, 2, 3])


@pytest.fixture(scope="module")
def window():
    with browser.Browser(browser.CAMERA) as opened:
        yield opened


@pytest.fixture
def opened(window, page):
    """The page in a window, with its self-test done."""
    window.do("requests")
    with browser.serving(page) as address:
        window.do("open", url=address)
        assert test_state(window) == "Self-test passed"
        yield window
        assert {url.split("/", 3)[2] for url in window.do("requests") if not url.startswith("blob:")} == {
            address.split("/")[2]
        }
        window.do("open", url="about:blank")


def test_the_self_test_passes_and_integers_are_equal(opened, artifact):
    """Those of the vectors, and those of other images."""
    lines = opened.do("evaluate", script="return [...document.querySelectorAll('#tests li')].map((e) => e.textContent)")
    assert lines[0] == "the file is the verified one (sha256)"
    assert lines[1:6] == [f"vector {i}: 5 of 5 values equal" for i in range(1, 6)]
    assert lines[6:10] == [f"picture {i}: its input is equal to training's" for i in range(1, 5)]
    assert lines[10] == "picture 5: its input is within 1 level of training's"
    inputs = np.random.default_rng(3).integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
    (wanted,) = run_raw(artifact.content, [inputs], "litert-xnnpack")
    given = {"backend": "wasm", "inputs": [one.ravel().tolist() for one in inputs]}
    np.testing.assert_array_equal(opened.do("evaluate", script=RUN, argument=given), wanted)
    assert len(np.unique(wanted, axis=0)) > 6


def test_a_picture_becomes_trainings_pixels(page, window, artifact, tmp_path):
    """PNG files of every kind: equal to the kit's other code, within a level of training's."""
    folder = tmp_path / "page"
    shutil.copytree(page, folder)
    random, names = np.random.default_rng(5), []
    for number, shape in enumerate([(31, 50, 3), (9, 8, 1), (200, 90, 3), (16, 16, 3), (1, 40, 3), (40, 30, 4)]):
        whole = random.integers(0, 256, shape, dtype=np.uint8)
        names.append(f"{number}.png")
        (folder / names[-1]).write_bytes(png(whole))
    # Training turns a picture upright, and ignores a color space.
    linear = PngImagePlugin.PngInfo()
    linear.add(b"gAMA", struct.pack(">I", 100_000))
    with Image.open(folder / "0.png") as image:
        image.save(folder / "turned.png", exif=_orientation(6))
        image.save(folder / "linear.png", pnginfo=linear)
    names += ["turned.png", "linear.png"]
    with browser.serving(folder) as address:
        window.do("open", url=address)
        found = window.do("evaluate", script=INPUT, argument=names)
        window.do("open", url="about:blank")
    taken = PictureInput.of(artifact, read_file(artifact.content))
    for name, levels in zip(names, found, strict=True):
        whole = read_image(folder / name, 3)
        trained = np.asarray(fit_image(whole, (16, 16, 3), True)).astype(int)
        made = np.array(levels).reshape(16, 16, 3)
        assert np.abs(made - trained).max() <= (2 if name == "5.png" else 1), name
        if name != "5.png":  # its pixels are translucent
            np.testing.assert_array_equal(made, taken.levels(whole), err_msg=name)


def _orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("vectors/expected_0.bin", "vector 1: 4 of 5 values equal, largest difference 1; allowed is a difference of 0"),
        ("vectors/input_0.bin", "picture 1: 1 of 768 values of the input differ from training's"),
        ("net.tflite", "the file is not the verified one"),
    ],
)
def test_a_changed_byte_fails_where_everyone_sees_it(file, said, page, window, tmp_path):
    folder = tmp_path / "page"
    shutil.copytree(page, folder)
    content = bytearray((folder / file).read_bytes())
    if file == "net.tflite":
        content += b"\0"  # computes the same, but is not the verified file
    else:
        content[0] ^= 1
    (folder / file).write_bytes(content)
    with browser.serving(folder) as address:
        window.do("open", url=address)
        assert test_state(window) == "Self-test failed"
        shown = window.do("evaluate", script="return document.body.innerText")
        alert = window.do("evaluate", script="return document.getElementById('alert').checkVisibility()")
        window.do("open", url="about:blank")
    assert alert
    assert "do not trust the results" in shown
    assert said in shown  # the list of checks is open


def test_a_model_that_is_missing_is_reported(page, window, tmp_path):
    folder = tmp_path / "page"
    shutil.copytree(page, folder)
    (folder / "net.tflite").unlink()
    with browser.serving(folder) as address:
        window.do("open", url=address)
        assert test_state(window) == "The model was not loaded"
        shown = window.do("evaluate", script="return document.getElementById('alert').innerText")
        window.do("open", url="about:blank")
    assert "The server has no net.tflite. Received: status 404" in shown


def shares(window):
    rows = "[...document.querySelectorAll('#result li')]"
    script = f"return {rows}.map((e) => [e.querySelector('bdi').textContent, e.querySelector('span').textContent])"
    return window.do("evaluate", script=script)


def test_a_file_is_classified_and_names_are_text(opened, page, artifact):
    opened.do("choose", selector="#file", paths=[str(page / "vectors/picture_2.png")])
    opened.do("wait", selector="#result li", timeout=20_000)
    card = json.loads((page / "page.json").read_text())
    output = card["outputs"][0]
    values = np.frombuffer((page / "vectors/expected_0.bin").read_bytes(), np.uint8).reshape(5, 5)[2]
    logits = (values.astype(float) - output["zero_point"]) * output["scale"]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-probabilities, kind="stable")
    assert shares(opened) == [[HOSTILE[i], f"{100 * probabilities[i]:.1f} %"] for i in order]
    assert opened.do("evaluate", script="return document.querySelectorAll('#result img').length") == 0
    assert opened.do("evaluate", script="return document.getElementById('backend').innerText") == "WebAssembly"
    latency = opened.do("evaluate", script="return document.getElementById('latency').innerText")
    assert float(latency.removesuffix(" ms")) > 0
    assert not [text for text in opened.do("messages") if text.startswith("pageerror")]


FILES_OF_A_PICTURE = """
const files = new DataTransfer();
files.items.add(new File([await (await fetch("vectors/picture_0.png")).blob()], "x.png", {type: "image/png"}));
"""


def test_examples_the_camera_and_a_broken_file(opened, tmp_path):
    count = "return document.querySelectorAll('#examples button').length"
    assert opened.do("evaluate", script=count) == 4
    opened.do("click", selector="#examples button:nth-child(2)")
    opened.do("wait", selector="body[data-pictures]", timeout=20_000)
    for number, make in enumerate(
        ("DragEvent('drop', {dataTransfer: files", "ClipboardEvent('paste', {clipboardData: files")
    ):
        opened.do("evaluate", script=f"{FILES_OF_A_PICTURE} document.dispatchEvent(new {make}, bubbles: true}}))")
        opened.do("wait", selector=f"body[data-pictures='{number + 2}']", timeout=20_000)
    opened.do("click", selector="#camera")
    more = "for (let i = 0; i < 200 && Number(document.body.dataset.pictures) < 7; ++i) "
    more += "await new Promise((done) => setTimeout(done, 50)); return Number(document.body.dataset.pictures)"
    assert opened.do("evaluate", script=more) >= 7
    opened.do("click", selector="#camera")
    (tmp_path / "text.png").write_text("no picture")
    opened.do("choose", selector="#file", paths=[str(tmp_path / "text.png")])
    opened.do("wait", selector="#message:not([hidden])", timeout=20_000)
    assert "no picture" in opened.do("evaluate", script="return document.getElementById('message').innerText")
    assert opened.do("evaluate", script="return document.getElementById('result').innerText") == "No picture yet"
    assert not opened.do("evaluate", script="return document.getElementById('drop').classList.contains('filled')")


# The camera is permitted only when `permit` is called; `streams` are those that the browser gave.
ASKED = """
const devices = navigator.mediaDevices, real = devices.getUserMedia.bind(devices);
self.streams = [], self.asked = 0;
devices.getUserMedia = async (wanted) => {
  ++self.asked;
  await new Promise((done) => { self.permit = done; });
  self.streams.push(await real(wanted));
  return self.streams.at(-1);
};
document.getElementById('camera').click();
document.getElementById('camera').click();
return [self.asked, document.getElementById('camera').disabled];
"""
TRACKS = "return self.streams.flatMap((stream) => stream.getTracks()).map((track) => track.readyState)"


@pytest.mark.parametrize("chosen", [False, True])
def test_no_camera_stays_on(chosen, opened):
    """After two clicks before it is permitted, and after a picture that is chosen before."""
    assert opened.do("evaluate", script=ASKED) == [1, True]
    if chosen:
        opened.do("click", selector="#examples button")
        opened.do("wait", selector="body[data-pictures='1']", timeout=20_000)
        opened.do("evaluate", script="self.permit()")
    else:
        opened.do("evaluate", script="self.permit()")
        opened.do("wait", selector="#camera:has-text('Stop the camera')", timeout=20_000)
        assert opened.do("evaluate", script=TRACKS) == ["live"]
        opened.do("click", selector="#camera")
    opened.do("wait", selector="#camera:enabled:has-text('Use the camera')", timeout=20_000)
    assert opened.do("evaluate", script=TRACKS) == ["ended"]


CHANGE = "document.getElementById('choice').dispatchEvent(new Event('change'));"


def test_another_backend_shows_the_picture_again(opened):
    """The last one, or that which came meanwhile."""
    latency = "return document.getElementById('latency').innerText"
    opened.do("click", selector="#examples button:nth-child(3)")
    opened.do("wait", selector="body[data-pictures='1']", timeout=20_000)
    third = shares(opened)
    assert opened.do("evaluate", script=f"{CHANGE} await 0; await 0; await 0; {latency}") == "–"
    opened.do("wait", selector="body[data-pictures='2'][data-state=passed]", timeout=20_000)
    assert shares(opened) == third
    assert opened.do("evaluate", script=latency).endswith(" ms")
    drop = "document.dispatchEvent(new DragEvent('drop', {dataTransfer: files, bubbles: true}))"
    opened.do("evaluate", script=f"{FILES_OF_A_PICTURE} {CHANGE} {drop}")
    opened.do("wait", selector="body[data-pictures='3'][data-state=passed]", timeout=20_000)
    dropped = shares(opened)
    opened.do("click", selector="#examples button:nth-child(1)")  # the same picture
    opened.do("wait", selector="body[data-pictures='4']", timeout=20_000)
    assert shares(opened) == dropped != third


# Whether the first line of the result is in sight.
IN_SIGHT = """
await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
const { top, bottom } = document.querySelector("#result li").getBoundingClientRect();
return top >= 0 && bottom <= innerHeight;
"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_screen(width, dark, opened):
    opened.do("look", width=width, height=844, dark=dark)
    opened.do("click", selector="#examples button")
    opened.do("wait", selector="#result li", timeout=20_000)
    assert opened.do("evaluate", script="return document.documentElement.scrollWidth") == width
    assert opened.do("evaluate", script=IN_SIGHT)
    # Contrast of text and background, by WCAG 2: at least 4.5 for every text.
    assert opened.do("evaluate", script=CONTRAST) == []


CONTRAST = """
const linear = (v) => (v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
const light = (color) => {
  const [r, g, b] = color.match(/[\\d.]+/g).map((v) => linear(v / 255));
  return .2126 * r + .7152 * g + .0722 * b;
};
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)|transparent/.test(color)) return color;
  }
};
const low = [];
for (const element of document.querySelectorAll("main *")) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !element.checkVisibility() || element.disabled) continue;
  const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) low.push([element.textContent.slice(0, 30), ratio]);
}
return low;
"""


# --- other tasks ------------------------------------------------------------------------------------------------------


def canvas(window):
    script = """const c = document.querySelector('#result canvas');
    return [c.width, c.height, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]"""
    width, height, values = window.do("evaluate", script=script)
    return np.array(values).reshape(height, width, 4)[..., :3]


def test_a_mask(window, tmp_path):
    model = randomise(wm.WaveMixSegmenter(3, image_shape=(16, 16, 3), width=8, depth=1))
    names = ("sky", "<b>grass</b>", "road")
    artifact = export_random(model, "web", "float32", class_names=names, crop_to_aspect_ratio=False)
    folder = save_kit(artifact, tmp_path / "kit", HELD_OUT["deconv"][:2])
    with browser.serving(folder) as address:
        window.do("open", url=address)
        assert test_state(window) == "Self-test passed"
        window.do("choose", selector="#file", paths=[str(folder / "vectors/picture_1.png")])
        window.do("wait", selector="#result canvas", timeout=20_000)
        found, rows = canvas(window), shares(window)
        window.do("open", url="about:blank")
    expected = np.frombuffer((folder / "vectors/expected_0.bin").read_bytes(), np.float32).reshape(-1, 16, 16, 3)[1]
    mask = expected.argmax(-1)
    with Image.open(folder / "vectors/picture_1.png") as image:
        levels = np.asarray(image)
    np.testing.assert_array_equal(found, np.floor((levels + palette(3)[mask].astype(int)) / 2 + 0.5))
    counts = np.bincount(mask.ravel(), minlength=3)
    found_shares = {name: float(share.removesuffix(" %")) for name, share in rows}
    assert found_shares == pytest.approx({names[i]: 100 * counts[i] / 256 for i in range(3) if counts[i]}, abs=0.051)


def test_an_enlarged_picture(window, tmp_path):
    model = randomise(wm.WaveMixSuperResolver("sisr", 2, (12, 12, 3), width=8, depth=1))
    artifact = export_random(model, "web", "float32", class_names=())
    images = np.random.default_rng(0).random((2, 12, 12, 3)).astype(np.float32)
    folder = save_kit(artifact, tmp_path / "kit", images)
    random = np.random.default_rng(1).integers(0, 256, (20, 17, 3), dtype=np.uint8)
    (tmp_path / "large.png").write_bytes(png(random))
    (tmp_path / "small.png").write_bytes(png(random[:5]))
    with browser.serving(folder) as address:
        window.do("open", url=address)
        assert test_state(window) == "Self-test passed"
        window.do("choose", selector="#file", paths=[str(tmp_path / "large.png")])
        window.do("wait", selector="#result canvas", timeout=20_000)
        found = canvas(window)
        window.do("choose", selector="#file", paths=[str(tmp_path / "small.png")])
        window.do("wait", selector="#message:not([hidden])", timeout=20_000)
        message = window.do("evaluate", script="return document.getElementById('message').innerText")
        window.do("select", selector="#choice", value="webgpu")  # this window has no GPU
        window.do("wait", selector="#message:has-text('WebAssembly runs it.')", timeout=20_000)
        state = test_state(window)
        backend = "return [document.getElementById('backend').innerText, document.getElementById('choice').value]"
        fallback = window.do("evaluate", script=backend)
        window.do("open", url="about:blank")
    assert (state, fallback) == ("Self-test passed", ["WebAssembly", "wasm"])
    tile = random[4:16, 2:14].astype(np.float32) / 255
    (wanted,) = run_raw(artifact.content, [tile[None]], "litert-xnnpack")
    assert np.abs(found - np.clip(255 * wanted[0], 0, 255)).max() <= 0.51
    assert "12 x 12 pixels or more. Received: 17 x 5" in message


def test_webgpu(tmp_path):
    """Software rendering stands in for a GPU; an int8 network differs by at most two steps there."""
    artifact = FILES["deconv", "web", "float32"]
    folder = save_kit(artifact, tmp_path / "kit", HELD_OUT["deconv"][:4])
    with browser.Browser(browser.WEBGPU) as window, browser.serving(folder) as address:
        window.do("open", url=address)
        assert test_state(window) == "Self-test passed"
        window.do("click", selector="#examples button")
        window.do("wait", selector="body[data-pictures='1']", timeout=20_000)
        window.do("select", selector="#choice", value="webgpu")
        window.do("wait", selector="body[data-pictures='2']", timeout=60_000)  # the picture again
        words = test_state(window)
        backend = window.do("evaluate", script="return document.getElementById('backend').innerText")
        lines = window.do("evaluate", script="return document.getElementById('tests').textContent")
    assert (words, backend) == ("Self-test passed", "WebGPU"), lines
