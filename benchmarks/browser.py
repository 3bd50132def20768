"""A page in headless Chromium, for checks of what a browser computes.

Needs node, Chromium and a ``node_modules`` folder with ``@litertjs/core`` and ``playwright-core``; see
``CONTRIBUTING.md``.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("browser.mjs")
MODULES = "WAVEMIX_TF_NODE_MODULES"  # environment variable
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
