"""Target `web` and a kit's page, without a browser: dtypes, files, escaping, the npm package, the server of `demo`."""

import base64
import dataclasses
import hashlib
import html
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tflite_support import CLASS_NAMES, FILES, HELD_OUT, QUANTIZED, export_random
from web_support import HOSTILE, web_run

from wavemix_tf import cli
from wavemix_tf.command import serving
from wavemix_tf.command.arguments import check_export
from wavemix_tf.tflite import TARGETS, UnsupportedOpError
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.kit import npm, web
from wavemix_tf.tflite.targets.audit import audit
from wavemix_tf.tflite.targets.op_tables import ANDROID_CPU_OPS

NPM = shutil.which("npm")


@pytest.fixture(scope="module")
def artifact():
    return dataclasses.replace(FILES["deconv", "web", None], class_names=(*HOSTILE,))


@pytest.fixture(scope="module")
def kit(artifact, tmp_path_factory):
    """A kit of five given images whose title and names are hostile."""
    folder = tmp_path_factory.mktemp("web") / "kit"
    report = {"name": HOSTILE[0]}
    images = HELD_OUT["deconv"][:4]
    with pytest.MonkeyPatch.context() as patch:
        # The card needs a whole report; the page only its name.
        patch.setattr("wavemix_tf.tflite.kit.writer.model_card", lambda *_: "")
        return artifact.save_kit(folder, name="net", images=images, labels=[0, 1, 2, 3], report=report)


def test_ends_are_uint8_or_float():
    row = TARGETS["web"]
    assert row.io_dtypes == {"int8": "uint8", "float32": "float32", "float16": "float32"}
    assert row.io_dtypes_of("int8") == ("uint8", "float32")
    assert TARGETS["android-cpu"].io_dtypes_of("int8") == ("int8", "uint8", "float32")
    assert row.ops.keys() == ANDROID_CPU_OPS.keys() - {"UNIDIRECTIONAL_SEQUENCE_LSTM"}
    assert check_export("web", None) == [("web", "int8")]
    with pytest.raises(ValueError, match=r"web-int8 has uint8 or float32 inputs.*Received: --io-dtype int8"):
        check_export("web", None, "int8")


@pytest.mark.slow
def test_a_file_for_browsers(artifact):
    info = read_file(artifact.content)
    assert [info.inputs[0].dtype, info.outputs[0].dtype] == ["uint8", "uint8"]
    assert artifact.io_dtype == "uint8"
    assert {"QUANTIZE", "CONV_2D", "DEPTH_TO_SPACE"} <= set(artifact.ops)
    message = r"A int8 file for target 'web' has uint8 or float32 inputs and outputs. Received: io_dtype='int8'"
    with pytest.raises(ValueError, match=message):
        export_random(QUANTIZED["deconv"], "web", io_dtype="int8")


def test_int8_ends_are_refused_by_the_audit_too(artifact):
    row = TARGETS["web"]
    audit(read_file(artifact.content), "web", row, "int8")
    narrow = dataclasses.replace(row, end_dtypes=("float32", "int32"))
    message = r"is uint8; \S+ is uint8\. .*nputs and outputs must be float32 or int32 for this target"
    with pytest.raises(UnsupportedOpError, match=message):
        audit(read_file(artifact.content), "web", narrow, "int8")


def test_files(kit):
    found = {path.relative_to(kit).as_posix() for path in kit.rglob("*") if path.is_file()}
    vectors = {"input_0.bin", "expected_0.bin", "vectors.json", *(f"picture_{i}.png" for i in range(5))}
    code = ("app", "decode", "network", "picture", "results", "selftest")
    page = {*(f"{name}.js" for name in code), "index.html", "style.css", "icon.svg", "page.json", "README.md"}
    page |= {"setup.mjs", "package.json", "package-lock.json", "net.tflite", "net.labels.txt"}
    costs = ("cost_by_layer.svg", "live_bytes.node_data.json", "macs.node_data.json", "memory_plan.svg")
    assert found == {
        *("MODEL_CARD.md", "README.md", "net.json", "net.labels.txt", "net.tflite"),
        *(f"costs/{name}" for name in costs),
        *(f"test_vectors/net/{name}" for name in vectors),
        *(f"web/vectors/{name}" for name in vectors),
        *(f"web/{name}" for name in page),
    }
    for name in vectors:
        assert (kit / "web/vectors" / name).read_bytes() == (kit / "test_vectors/net" / name).read_bytes()
    assert (kit / "web/net.tflite").read_bytes() == (kit / "net.tflite").read_bytes()


def test_what_the_page_knows(kit, artifact):
    page = json.loads((kit / "web/page.json").read_text())
    assert page["task"] == "classes"
    assert page["labels"] == list(HOSTILE)
    assert page["webgpu"] is False
    assert page["input"]["values"] == list(range(256))  # a uint8 value is the pixel
    assert [page["input"][key] for key in ("height", "width", "channels", "resize", "crop")] == [
        *(16, 16, 3, "triangle", True)
    ]
    (output,) = page["outputs"]
    assert output["allowed"]["wasm"] == {"largest": 0.0, "mean": None}
    assert output["scale"] == read_file(artifact.content).outputs[0].scale
    assert [row["example"] for row in page["pictures"]] == [True] * 4 + [False]
    assert [row["label"] for row in page["pictures"]] == [*HOSTILE[:4], None]
    assert [row["largest_levels"] for row in page["pictures"]] == [0, 0, 0, 0, 1]  # the last one is translucent


def test_a_float_file_may_run_on_a_gpu(tmp_path):
    floating = FILES["deconv", "web", "float32"]
    folder = floating.save_kit(tmp_path / "kit", images=HELD_OUT["deconv"][:1])
    page = json.loads((folder / "web/page.json").read_text())
    assert page["webgpu"] is True
    assert page["input"]["values"] == [float(np.float32(i) / np.float32(255)) for i in range(256)]
    scale = next(op for op in read_file(floating.content).ops if op.name == "DEQUANTIZE").inputs[0].scale
    allowed = page["outputs"][0]["allowed"]
    np.testing.assert_allclose(allowed["wasm"]["largest"], 0.01 * scale)
    np.testing.assert_allclose(allowed["webgpu"]["largest"], 2.01 * scale)


class Page(HTMLParser):
    """Tags with attributes, and all text outside scripts."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.inside = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self.inside and self.inside[-1] == "script":
            self.script = data
        else:
            self.text.append(data)


def test_names_are_text(kit):
    source = (kit / "web/index.html").read_text()
    parsed = Page()
    parsed.feed(source)
    assert HOSTILE[0] in parsed.text
    assert html.escape(HOSTILE[0]) in source
    allowed = {"html", "head", "meta", "title", "link", "script", "body", "main", "header", "p", "h1", "h2", "h4"}
    allowed |= {"div", "section", "label", "input", "canvas", "span", "b", "button", "select", "option", "figure"}
    assert {tag for tag, _ in parsed.tags} <= allowed | {
        "figcaption",
        "strong",
        "small",
        "details",
        "summary",
        "ul",
    } | {"noscript"}
    assert not [key for _, attributes in parsed.tags for key in attributes if key.startswith("on")]
    assert not re.search(r"@\{|\bNone\b", source)
    readme = (kit / "web/README.md").read_text()
    assert "<img" not in readme.replace("\\<", "")
    assert "@{" not in readme
    assert "@litertjs/core" in readme


def test_the_page_may_reach_only_its_own_address(kit):
    parsed = Page()
    parsed.feed((kit / "web/index.html").read_text())
    (policy,) = [row["content"] for tag, row in parsed.tags if row.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    digest = base64.b64encode(hashlib.sha256(parsed.script.encode()).digest()).decode()
    assert rules["script-src"] == f"'self' 'wasm-unsafe-eval' 'sha256-{digest}'"
    for path in (kit / "web").rglob("*"):
        if path.suffix in (".js", ".html", ".css", ".json") and path.name != "package-lock.json":
            found = re.findall(r"https?://[^\s\"']+", path.read_text())
            assert found == [], path


def test_the_package(kit):
    package = json.loads((kit / "web/package.json").read_text())
    lock = json.loads((kit / "web/package-lock.json").read_text())
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", package["name"])
    assert set(package["dependencies"].values()) == {npm.LITERT_JS_VERSION}
    own = lock["packages"].pop("")
    assert own["dependencies"] == package["dependencies"]
    assert {name.removeprefix("node_modules/"): row["version"] for name, row in lock["packages"].items()} == (
        package["dependencies"]
    )
    used = json.loads(web.IMPORT_MAP)["imports"]
    assert {path.removeprefix("./litert/") for path in used.values()} <= package["litert"].keys()
    for name in ("Model.X", "_net", "-9"):
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", npm.npm_package(name)["name"])


def test_an_output_that_no_page_shows(artifact, tmp_path):
    info = read_file(artifact.content)
    assert web.page_task(artifact, info) == "classes"
    assert web.page_task(dataclasses.replace(artifact, class_names=()), info) is None
    folder = dataclasses.replace(artifact, class_names=()).save_kit(tmp_path / "kit")
    assert not (folder / "web").exists()
    assert "There is no page" in (folder / "README.md").read_text()
    assert "runs the model with LiteRT.js" not in (folder / "README.md").read_text()


# --- demo -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(artifact, kit, tmp_path_factory):
    return web_run(tmp_path_factory.mktemp("run"), artifact, kit)


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """A folder with files where LiteRT.js has its own: the server sends them without reading them."""
    folder = tmp_path_factory.mktemp("modules") / "node_modules"
    for file in npm.LITERT_FILES.values():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(file.encode())
    (folder / npm.CORE / "package.json").write_text(json.dumps({"version": npm.LITERT_JS_VERSION}))
    return folder


def get(address, host=None):
    """(status, headers, content) of an address; with another header Host if one is given."""
    request = urllib.request.Request(address, headers={} if host is None else {"Host": host})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_demo_serves_the_page_and_stops_on_ctrl_c(run, modules):
    # As the console script, which loads no TensorFlow here. A process started in the background ignores SIGINT.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "from wavemix_tf.cli import script; script()"
    words = [sys.executable, "-c", program, "demo", run, "--port", "0", "--assets", modules.parent]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            address = re.match(r"http://127\.0\.0\.1:\d+/", line).group()
            status, headers, content = get(address)
            assert (status, content) == (200, (serving.page_folder(run, "int8") / "index.html").read_bytes())
            assert headers["Cache-Control"] == "no-store"
            for name, file in npm.LITERT_FILES.items():
                status, headers, content = get(f"{address}litert/{name}")
                assert (status, content) == (200, file.encode())
                kind = "application/wasm" if name.endswith(".wasm") else "text/javascript"
                assert headers["Content-Type"].startswith(kind)
            outside = ("vectors/", "litert/", "litert/other.js", "../../web-int8.json", "..%2f..%2f..%2frecipe.json")
            assert [get(address + path)[0] for path in outside] == [404] * len(outside)
            port = address.rstrip("/").rsplit(":", 1)[1]
            own = (f"localhost:{port}", "LOCALHOST", "127.0.0.1", f"127.0.0.1:{port}")
            assert [get(address, host)[0] for host in own] == [200] * len(own)
            foreign = ("example.com", f"example.com:{port}", "127.0.0.1.example.com", "localhost:", "", "127x0.0.1")
            assert [get(address + "net.tflite", host)[0] for host in foreign] == [403] * len(foreign)
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, rest, errors) == (0, "Stopped.\n", "")


def test_demo_names_what_is_missing(run, modules, tmp_path, monkeypatch, capsys):
    def told(*words):
        code = cli.main(["demo", *map(str, words)])
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        return code, lines[0]

    monkeypatch.delenv(serving.MODULES, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    code, line = told(run)
    assert code == 1
    assert f"`npm install --prefix '{tmp_path}/a cache/wavemix-tf' @litertjs/core@{npm.LITERT_JS_VERSION}`" in line
    (tmp_path / "empty").mkdir()
    assert told(run, "--assets", tmp_path / "empty")[1].endswith(f"Received: {tmp_path}/empty without @litertjs/core")
    assert told(tmp_path)[1].startswith(f"wavemix-tf: {tmp_path} is not a run folder")
    assert told()[0] == told(run, "--out", run)[0] == 2
    assert told(run, "--dtype", "int16x8")[1].endswith("Received: int16x8")
    with serving.open_server(tmp_path, modules, 0) as server:
        code, line = told(run, "--assets", modules, "--port", server.server_port)
    assert code == 1
    assert f"--port must be a free port: use another, or 0 for any. Received: --port {server.server_port}" in line


def test_demo_finds_litert_js_and_reports_another_version(modules, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(serving.MODULES, str(modules))
    assert serving.litert_folder(None) == modules
    assert serving.litert_folder(modules.parent) == modules
    monkeypatch.delenv(serving.MODULES)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shutil.copytree(modules, tmp_path / "wavemix-tf/node_modules")
    found = serving.litert_folder(None)
    assert found == tmp_path / "wavemix-tf/node_modules"
    assert capsys.readouterr().err == ""
    (found / npm.CORE / "package.json").write_text('{"version": "9.9.9"}')
    serving.litert_folder(None)
    assert capsys.readouterr().err == f"note: LiteRT.js 9.9.9 runs the page; {npm.LITERT_JS_VERSION} was tested\n"


def test_a_page_of_another_file_is_not_current(run, tmp_path):
    assert serving.page_is_current(run, "int8")
    assert not serving.page_is_current(run, "float32")
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for name, text in (("web-int8.tflite", b"other"), ("web-int8_kit/test_vectors/net/vectors.json", b"{}")):
        kept = (copy / "exports" / name).read_bytes()
        (copy / "exports" / name).write_bytes(text)
        current = serving.page_is_current(copy, "int8")
        (copy / "exports" / name).write_bytes(kept)
        assert not current or name == "web-int8.tflite"  # a changed file: `export` and `verify` report it
    card = copy / "exports/web-int8.json"
    card.write_text(card.read_text().replace(artifact_digest(copy), "0" * 64))
    assert not serving.page_is_current(copy, "int8")


def artifact_digest(run):
    return hashlib.sha256((run / "exports/web-int8.tflite").read_bytes()).hexdigest()


@pytest.mark.skipif(NPM is None, reason="needs npm")
def test_setup_copies_what_the_page_needs(kit, modules, tmp_path):
    """The script that npm runs after an install."""
    shutil.copytree(kit / "web", tmp_path / "web")
    shutil.copytree(modules, tmp_path / "web/node_modules")
    done = subprocess.run(
        [NPM, "run", "postinstall"], cwd=tmp_path / "web", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    copied = {path.name: path.read_bytes().decode() for path in (tmp_path / "web/litert").iterdir()}
    assert copied == npm.LITERT_FILES


def test_hostile_names_reach_the_labels_file(kit):
    assert (kit / "web/net.labels.txt").read_text().splitlines() == list(HOSTILE)
    assert len(CLASS_NAMES) == len(HOSTILE)
    assert Path(web.PAGE / "index.html").is_file()
