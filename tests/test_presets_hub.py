"""Checkpoints of the authors and presets of Hugging Face, from a local server with files of random weights."""

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import wavemix_tf as wm
from wavemix_tf.checkpoints.inference import infer_arguments
from wavemix_tf.presets import authors, authors_table, hub
from wavemix_tf.presets.authors_table import AUTHORS, REPOSITORY
from wavemix_tf.state_files import DamagedFileError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = dict(width=8, depth=1, num_classes=10, image_shape=(16, 16, 3))


class Server(http.server.ThreadingHTTPServer):
    """Hugging Face's answers for files: HEAD with size and digest, GET with ranges.

    Attributes:
        files: "owner/name/path" -> content.
        requests: (method, path, Range header) of each request.
        broken: Number of next downloads whose connection closes half way.
        stated: "owner/name/path" -> size that HEAD states, if not the content's.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.requests, self.broken, self.stated = {}, [], 0, {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body):
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path.partition("?")[0])
        name = f"{match[1]}/{match[3]}" if match else ""
        if name not in self.server.files or match[2] not in ("main", COMMIT, "v1"):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self.server.files[name]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        size = len(content) - start if body else self.server.stated.get(name, len(content))
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if body and self.server.broken:
            self.server.broken -= 1
            self.wfile.write(content[start : start + (len(content) - start) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
        elif body:
            self.wfile.write(content[start:])


@pytest.fixture
def server(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants", reason="pip install -e '.[hub]'")
    found = Server()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", found.url)
    monkeypatch.setenv("WAVEMIX_TF_CHECKPOINTS", str(tmp_path / "by_hand"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch writes and reads checkpoints")


def randomized(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights(
        [part if part.shape[:2] == (2, 2) else rng.uniform(0.05, 0.2, part.shape) for part in model.get_weights()]
    )
    return model


def checkpoint(torch, model, path):
    """The bytes of an official checkpoint with a model's weights."""
    wm.export_torch_weights(model, path)
    return path.read_bytes()


@pytest.fixture
def small(monkeypatch):
    """The authors' rows with networks of width 8 and one block, so that a file is small."""
    for name, row in AUTHORS.items():
        if row.metric == "accuracy":
            few = {key: value for key, value in SMALL.items() if key != "num_classes" or row.dataset == "cifar10"}
            arguments = {**row.arguments, **few}
            monkeypatch.setitem(AUTHORS, name, _replaced(row, arguments))


def _replaced(row, arguments):
    return authors_table.AuthorsCheckpoint(**{**vars(row), "arguments": arguments})


NAME = "wavemix_lite_144_7_cifar10"
FILE = f"{REPOSITORY}/Saved_Models_Weights/cifar10/cifar10_94.58.pth"


@pytest.fixture
def served(server, small, torch, tmp_path):
    """(server, the network whose weights it has)."""
    model = randomized(wm.build_model("wavemix_lite_144_7", normalize="cifar10", **SMALL))
    server.files[FILE] = checkpoint(torch, model, tmp_path / "made.pth")
    return server, model


def images(shape=(16, 16, 3)):
    return np.random.default_rng(3).random((2, *shape), np.float32)


# --- the table ---


def test_the_table_has_the_sixteen_files_once_with_their_figures():
    files = [row.file for row in AUTHORS.values()]
    assert len(files) == len(set(files)) == 16
    for row in AUTHORS.values():
        figure = re.search(r"(\d\d\.\d\d)\.pth|_(\d\d\.\d\d)", row.file)
        assert row.value == pytest.approx(float(figure[1] or figure[2]) / 100), row.file
        assert row.normalize is None or row.normalize in wm.CHECKPOINT_NORMALIZATION
        assert bool(row.note) >= row.assumed


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # of the papers' tables and the official README
        ("wavemix_lite_144_7_cifar10", 3_042_550),
        ("wavemix_lite_256_8_cifar100", 10_954_084),
        ("wavemix_192_16_l1_p4_galaxy10", 12_303_466),
        ("wavemix_192_16_l3_p4_tinyimagenet_128", 27_703_208),
        ("wavemix_256_12_l2_p8_places365", 28_449_261),
        ("wavemix_seg_192_16_l3_cityscapes", 28_190_388),
    ],
)
def test_a_row_builds_the_published_network(name, parameters):
    row = AUTHORS[name]
    model = authors._build(row, row.variant, {}, {})
    assert sum(int(np.prod(one.shape)) for one in model.trainable_weights) == parameters
    expected = wm.CHECKPOINT_NORMALIZATION.get(row.normalize)
    assert model.normalize == expected


# --- the download ---


@pytest.mark.slow
def test_a_checkpoint_by_name(served):
    server, expected = served
    model = wm.from_preset(NAME)
    np.testing.assert_array_equal(model.predict(images(), verbose=0), expected.predict(images(), verbose=0))
    assert model.normalize == wm.CHECKPOINT_NORMALIZATION["cifar10"]
    assert model.class_names[3] == "cat"
    assert "MIT" in model.card.license
    assert "huggingface.co/cloudwalker/wavemix" in model.card.source
    assert model.card.results[0]["by"] == "published by the authors; not measured here"
    assert model.preset_folder is None
    count = len(server.requests)
    assert [request[0] for request in server.requests].count("GET") == 1
    again = wm.from_preset(NAME, dropout=0.0)  # from the cache, without a request
    assert again.dropout == 0.0
    assert len(server.requests) == count
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(AUTHORS) - {"wavemix_imagenet_71_49"}))
def test_every_name_loads_its_own_file(name, server, torch, tmp_path, monkeypatch):
    few = dict(width=8, depth=1, image_shape=(32, 32, 3))
    monkeypatch.setitem(AUTHORS, name, _replaced(AUTHORS[name], {**AUTHORS[name].arguments, **few}))
    row = AUTHORS[name]
    expected = randomized(wm.build_model(row.variant, **row.arguments, normalize=row.normalize))
    server.files[f"{REPOSITORY}/Saved_Models_Weights/{row.file}"] = checkpoint(torch, expected, tmp_path / "made.pth")
    model = wm.from_preset(name)
    x = images((32, 32, 3))
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected.predict(x, verbose=0))
    assert len(model.class_names) == model.outputs[0].shape[-1]
    assert any("assumed" in note for note in model.card.notes) == row.assumed
    assert model.normalize == wm.CHECKPOINT_NORMALIZATION.get(row.normalize)
    assert {request[1].partition("main/")[2] for request in server.requests} == {f"Saved_Models_Weights/{row.file}"}


@pytest.mark.slow
def test_build_model_takes_the_same_weights(served):
    _, expected = served
    model = wm.build_model("wavemix_lite_144_7", num_classes=10, weights="cifar10", dropout=0.1)
    assert model.dropout == 0.1
    np.testing.assert_array_equal(model.predict(images(), verbose=0), expected.predict(images(), verbose=0))
    with pytest.raises(ValueError, match=r"num_classes must be that of the weights, 10.*Received: num_classes=5"):
        wm.build_model("wavemix_lite_144_7", num_classes=5, weights="cifar10")


@pytest.mark.slow
def test_it_is_saved_as_a_preset_of_its_own(served, tmp_path):
    model = wm.from_preset(NAME)
    model.save_to_preset(tmp_path / "kept", dtype="float32")
    found = wm.from_preset(tmp_path / "kept")
    np.testing.assert_array_equal(model.predict(images(), verbose=0), found.predict(images(), verbose=0))
    assert (found.class_names, found.card) == (model.class_names, model.card)


@pytest.mark.slow
def test_a_broken_connection_is_resumed(served, monkeypatch):
    server, expected = served
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # a chunk that breaks is lost
    server.broken = 2
    model = wm.from_preset(NAME)
    ranges = [request[2] for request in server.requests if request[0] == "GET"]
    half = len(server.files[FILE]) // 2
    assert ranges[0] is None
    assert len(ranges) == 3
    starts = [int(text.removeprefix("bytes=").rstrip("-")) for text in ranges[1:]]
    assert half - 1000 <= starts[0] <= half < starts[1]
    np.testing.assert_array_equal(model.get_weights()[0], expected.get_weights()[0])


@pytest.mark.slow
def test_a_file_of_another_size_is_not_downloaded(served, tmp_path):
    server, _ = served
    for size in (100, 10**9):
        server.stated[FILE] = size
        with pytest.raises(
            DamagedFileError, match=rf"must have .* bytes\. Received: {size:,} bytes.*Nothing was"
        ) as caught:
            wm.from_preset(NAME)
        assert "\n" not in str(caught.value)
    assert not [request for request in server.requests if request[0] == "GET"]


@pytest.mark.slow
def test_a_damaged_file_of_the_cache_is_named(served):
    server, _ = served
    wm.from_preset(NAME)
    path = hub.download_checkpoint(AUTHORS[NAME].path, wm.build_model("wavemix_lite_144_7", **SMALL).count_params())
    content = bytearray(path.read_bytes())
    content[-500] ^= 1
    path.resolve().write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"cifar10_94\.58\.pth must be intact.*SHA-256.*Delete"):
        wm.from_preset(NAME)
    path.resolve().write_bytes(content[:100])
    with pytest.raises(DamagedFileError, match=r"Received: 100 bytes.*Delete .* and call again"):
        wm.from_preset(NAME)
    path.resolve().unlink()
    wm.from_preset(NAME)
    assert [request[0] for request in server.requests].count("GET") == 2


@pytest.mark.slow
def test_a_checkpoint_of_another_network_or_with_code_is_refused(served, torch, tmp_path):
    server, _ = served
    other = randomized(wm.build_model("wavemix_lite_144_7", **{**SMALL, "depth": 2}))
    server.files[FILE] = checkpoint(torch, other, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="exactly the tensors of the model"):
        wm.from_preset(NAME)


@pytest.mark.slow
def test_code_in_a_checkpoint_does_not_run(server, small, torch, tmp_path):
    class Harm:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    torch.save({"conv.0.weight": Harm(), "padding": torch.zeros(20000)}, tmp_path / "x.pth")
    server.files[FILE] = (tmp_path / "x.pth").read_bytes()
    with pytest.raises(ValueError, match="whose code would run"):
        wm.from_preset(NAME)
    assert not (tmp_path / "harm").exists()


@pytest.mark.slow
def test_the_network_that_no_table_has_is_inferred(server, torch, tmp_path):
    name = "wavemix_imagenet_71_49"
    expected = randomized(
        wm.WaveMixClassifier(
            12, (32, 32, 3), width=16, depth=2, levels=2, expansion=3, ff_dim=24, stem="patchify", patch_size=4,
            normalize=wm.CHECKPOINT_NORMALIZATION["imagenet"],
        )
    )  # fmt: skip
    content = checkpoint(torch, expected, tmp_path / "made.pth")
    server.files[f"{REPOSITORY}/{AUTHORS[name].path}"] = content
    with pytest.raises(DamagedFileError, match="bytes"):  # far too small for the network that it is taken for
        wm.from_preset(name)
    pytest.MonkeyPatch().setattr(authors, "INFERRED_PARAMETERS", expected.count_params())
    try:
        model = wm.from_preset(name, image_shape=(32, 32, 3))
    finally:
        authors.INFERRED_PARAMETERS = 27_857_608
    x = images((32, 32, 3))
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected.predict(x, verbose=0))
    assert (model.width, model.depth, model.levels, model.expansion, model.ff_dim) == (16, 2, 2, 3, 24)
    assert model.class_names[11] == "11"


def test_inference_of_published_networks():
    for name in ("wavemix_192_16_l1_p4", "wavemix_256_12_l2_p8", "wavemix_192_16_l3_p4"):
        row = wm.VARIANTS[name] | dict(depth=2, image_shape=(64, 64, 3))
        model = wm.WaveMixClassifier(**row)
        found = infer_arguments(wm.export_torch_weights(model))
        assert wm.WaveMixClassifier(**found, image_shape=(64, 64, 3)).count_params() == model.count_params()
        assert {key: found[key] for key in row if key != "image_shape"} == {
            k: v for k, v in row.items() if k != "image_shape"
        }
    strided = wm.export_torch_weights(wm.WaveMixClassifier(width=8, depth=1))
    with pytest.raises(ValueError, match=r"patchify stem\. Received: no conv\.2\.weight among"):
        infer_arguments(strided)


# --- without a network ---


@pytest.mark.slow
def test_without_a_network_one_line_says_what_to_put_where(served, tmp_path, monkeypatch):
    server, expected = served
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    place = tmp_path / "by_hand" / "Saved_Models_Weights" / "cifar10" / "cifar10_94.58.pth"
    with pytest.raises(FileNotFoundError) as caught:
        wm.from_preset(NAME)
    text = str(caught.value)
    url = "http://127.0.0.1:9/cloudwalker/wavemix/resolve/main/Saved_Models_Weights/cifar10/cifar10_94.58.pth"
    assert text.startswith(f"Download {url} and put it at {place}. Received: ")
    assert "\n" not in text
    place.parent.mkdir(parents=True)
    place.write_bytes(server.files[FILE][:-1000][:200])
    with pytest.raises(DamagedFileError, match=rf"200 bytes in {re.escape(str(place))}\. Delete it\. Download {url}"):
        wm.from_preset(NAME)
    place.write_bytes(server.files[FILE])
    model = wm.from_preset(NAME)
    np.testing.assert_array_equal(model.get_weights()[0], expected.get_weights()[0])
    assert server.requests == []


@pytest.mark.slow
def test_a_file_that_is_not_there(server, small):
    with pytest.raises(
        FileNotFoundError, match=r"^Download .* and put it at .*Received: \w*EntryNotFoundError"
    ) as caught:
        wm.from_preset(NAME)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_without_huggingface_hub_the_line_says_so(tmp_path):
    program = (
        "import sys; sys.modules['huggingface_hub'] = None\nimport wavemix_tf as wm\n"
        f"try:\n    wm.from_preset({NAME!r})\nexcept ImportError as error:\n    print(error)"
    )
    environment = {**os.environ, "WAVEMIX_TF_CHECKPOINTS": str(tmp_path), "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("HF_ENDPOINT", None)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    path = "Saved_Models_Weights/cifar10/cifar10_94.58.pth"
    assert done.stdout.strip() == (
        f"Download https://huggingface.co/cloudwalker/wavemix/resolve/main/{path} and put it at {tmp_path / path}, or "
        "install huggingface_hub: pip install 'wavemix-tf[hub]'. Received: huggingface_hub is not installed"
    )


# --- presets on Hugging Face ---


@pytest.fixture
def published(server, tmp_path):
    model = randomized(wm.WaveMixClassifier(num_classes=2, image_shape=(8, 8, 3), width=8, depth=1))
    wm.save_to_preset(model, tmp_path / "two", class_names=("no", "yes"), files={"tflite/x.tflite": b"abc"})
    for prefix in ("", "nets/two/"):
        for path in (tmp_path / "two").rglob("*"):
            if path.is_file():
                server.files[f"me/nets/{prefix}{path.relative_to(tmp_path / 'two').as_posix()}"] = path.read_bytes()
    return server, wm.from_preset(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["", "/nets/two", "@v1/nets/two", f"@{COMMIT}"])
def test_a_preset_by_url(published, place):
    _, expected = published
    model = wm.from_preset(f"hf://me/nets{place}")
    for mine, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert model.class_names == ("no", "yes")
    assert (model.preset_folder / "tflite" / "x.tflite").read_bytes() == b"abc"


@pytest.mark.slow
def test_a_preset_is_read_from_the_cache_without_a_network(published, monkeypatch):
    server, expected = published
    wm.from_preset("hf://me/nets")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    model = wm.from_preset("hf://me/nets")
    np.testing.assert_array_equal(model.get_weights()[0], expected.get_weights()[0])
    with pytest.raises(
        FileNotFoundError, match=r"^Download the folder http.*/me/other/tree/main and give its path\. Rec"
    ):
        wm.from_preset("hf://me/other")
    assert all(request[2] is None for request in server.requests)


@pytest.mark.slow
def test_a_preset_whose_files_are_not_those_it_states(published):
    server, _ = published
    whole = dict(server.files)
    server.files["me/nets/model.weights.h5"] += b"more"
    with pytest.raises(
        DamagedFileError, match=r"model\.weights\.h5 of me/nets must have [\d,]+ bytes\. Received: [\d,]+ b"
    ):
        wm.from_preset("hf://me/nets")
    content = bytearray(whole["me/nets/model.weights.h5"])
    content[-1] ^= 1
    server.files["me/nets/model.weights.h5"] = bytes(content)
    with pytest.raises(
        DamagedFileError, match=r"model\.weights\.h5 must be intact.*SHA-256 is not that of metadata\.json"
    ):
        wm.from_preset("hf://me/nets")
    metadata = json.loads(whole["me/nets/metadata.json"])
    metadata["files"]["../../evil"] = {"bytes": 1, "sha256": "0" * 64}
    server.files["me/nets/nets/two/metadata.json"] = json.dumps(metadata).encode()
    with pytest.raises(DamagedFileError, match="a plain name"):
        wm.from_preset("hf://me/nets/nets/two")
    assert not [request for request in server.requests if "evil" in request[1]]


def test_the_folder_for_files_by_hand(monkeypatch):
    monkeypatch.delenv("WAVEMIX_TF_CHECKPOINTS", raising=False)
    assert hub.checkpoints_folder() == Path.home() / ".cache" / "wavemix_tf" / "checkpoints"
