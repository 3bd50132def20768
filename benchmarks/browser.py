"""A page in headless Chromium, for checks of what a browser computes.

Needs node, Chromium and a ``node_modules`` folder with ``@litertjs/core`` and ``playwright-core``; see
``CONTRIBUTING.md``.
"""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from wavemix_tf.command.serving import HOST, MODULES, litert_folder, open_server

SCRIPT = Path(__file__).with_name("browser.mjs")
PACKAGES = ("@litertjs/core", "@litertjs/wasm-utils", "playwright-core")
# Software rendering, so that WebGPU is there without a GPU.
WEBGPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def chromium():
    """Path of Chromium or Chrome; None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for path in map(shutil.which, names) if path), None)


def missing():
    """What is not installed, in words; None if nothing is missing."""
    folder = os.environ.get(MODULES)
    if not folder:
        return f"needs {MODULES}, a node_modules folder with {', '.join(PACKAGES)}"
    absent = [name for name in PACKAGES if not (Path(folder) / name / "package.json").is_file()]
    if absent:
        return f"needs {', '.join(absent)} in {folder}"
    if shutil.which("node") is None:
        return "needs node"
    return None if chromium() else "needs Chromium"


class Browser:
    """A Chromium with one page; a context manager.

    Args:
        flags: Further flags of Chromium, such as ``WEBGPU``.
    """

    def __init__(self, flags=()):
        reason = missing()
        if reason:
            raise FileNotFoundError(f"A browser {reason}. Received: nothing")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        words = ["node", SCRIPT, os.environ[MODULES], chromium(), self._profile.name, *flags]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline().strip() != "ready":
            raise OSError("Chromium did not start. Received: no answer of browser.mjs")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def do(self, name, **options) -> Any:
        """Result of a command of ``browser.mjs``; a RuntimeError with the page's message if it failed."""
        self._process.stdin.write(json.dumps({"name": name, **options}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"Chromium ended in {name}. Received: exit code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def close(self):
        """End Chromium and remove its profile."""
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()
        self._profile.cleanup()


@contextlib.contextmanager
def serving(folder):
    """Serve a folder and LiteRT.js as `wavemix-tf demo` does; gives the address."""
    server = open_server(Path(folder), litert_folder(None), 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


BLANK = """<!doctype html><body><script type="importmap">{"imports": {"@litertjs/core": "./litert/core.js",
"@litertjs/wasm-utils": "./litert/wasm-utils.js"}}</script></body>"""
RUN = """
self.core ??= await import("@litertjs/core");
self.loaded ??= await core.loadLiteRt("./litert/");
const types = {float32: Float32Array, int32: Int32Array, uint8: Uint8Array, int8: Int8Array};
const model = await core.loadAndCompile(Uint8Array.from(atob(given.content), (c) => c.charCodeAt(0)),
                                        {accelerator: "wasm"});
const inputs = given.inputs.map((one) => new core.Tensor(new types[one.dtype](one.values), one.shape));
const results = await model.run(inputs);
const found = [];
for (const result of results) found.push([result.type.dtype, Array.from(await result.data())]);
for (const tensor of [...inputs, ...results]) tensor.delete();
model.delete();
return found;
"""


class LiteRtJs:
    """LiteRT.js, on WebAssembly, in a blank page."""

    def __init__(self):
        self._stack = contextlib.ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "index.html").write_text(BLANK)
        address = self._stack.enter_context(serving(folder))
        self._browser = self._stack.enter_context(Browser())
        self._browser.do("open", url=address)

    def run(self, content, inputs):
        """Outputs of a file, flat arrays of their dtypes; a RuntimeError if LiteRT.js refuses it."""
        rows = [{"dtype": array.dtype.name, "shape": array.shape, "values": array.ravel().tolist()} for array in inputs]
        given = {"content": base64.b64encode(content).decode(), "inputs": rows}
        return [np.array(values, dtype) for dtype, values in self._browser.do("evaluate", script=RUN, argument=given)]

    def close(self):
        """End the browser and the server."""
        self._stack.close()
