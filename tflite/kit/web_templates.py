"""The texts of a deployment kit's page for browsers; see ``templates``."""

from __future__ import annotations

from .templates import Template

__all__ = ["NO_PAGE_SECTION", "RESULTS", "Template", "WEB_README", "WEB_SECTION"]

# What the page shows -> title and note.
RESULTS = {
    "classes": ("Class", "The five most probable classes with their shares."),
    "mask": ("Mask", "The class of each pixel, and the share of each class."),
    "picture": ("Enlarged", "The tile in the middle of the picture, enlarged."),
}

WEB_SECTION = """\
## Browser

`web/` is a page of static files: drop a picture, choose a file or use the camera. It runs the model with LiteRT.js in
WebAssembly, makes the input as in training, and runs the test vectors when it is opened. The picture never leaves the
page. `web/README.md` says how to start and publish it.

```
cd web && npm ci && npm start
```
"""

NO_PAGE_SECTION = """\
## Browser

There is no page: the kit's page takes one picture and shows classes, a mask or an enlarged picture, and this file has
another input or output. Load the file with LiteRT.js (`npm install @litertjs/core@2.5.3`) and compare it with
`test_vectors/`.
"""

WEB_README = Template("""\
# @{title} in a browser

A page of static files that runs `@{file}` with [LiteRT.js](https://www.npmjs.com/package/@@litertjs/core) @{version}.
Pictures are decoded, resized and classified in the page. Nothing is sent to a server: the page's content security
policy permits connections to its own address only.

## Start

With Node.js 18 or newer:

```
npm ci
npm start
```

Open http://127.0.0.1:8000/. `npm ci` installs the pinned packages and copies LiteRT.js to `litert/` (`setup.mjs`; 19 MB
in two variants, of which a browser loads one). `npm start` runs a static server; any other one works as well, such as
`python3 -m http.server 8000`. The page does not work as `file://`, because browsers load modules only from servers.

**On this device** must say **Self-test passed**. The page runs the test vectors when it is opened. It compares every
output with LiteRT's, and the input that it makes of each test picture with training's. If it says **failed**, do not
trust the results. A browser that adds noise to what a canvas returns, against fingerprinting, fails the picture checks.

## Publish

Copy this folder to any static host, without `node_modules/`. Requirements:

- https, for the camera; without it everything else works.
- The media type `application/wasm` for `.wasm` files, and compression (gzip or Brotli) of them.
- No COOP or COEP headers: the page uses the variant without threads.

## In your own page

```js
import { loadAndCompile, loadLiteRt, Tensor } from "@@litertjs/core";
import { inputValues, pictureLevels } from "./picture.js";

await loadLiteRt("litert/");
const model = await loadAndCompile("@{file}", { accelerator: "wasm" });
const { input } = await (await fetch("page.json")).json();
const levels = pictureLevels(rgba, width, height, input); // rgba: bytes of a canvas
const [output] = await model.run([new Tensor(inputValues(levels, input.values, input.dtype), input.shape)]);
const values = await output.data();
```

| file | use |
|---|---|
| `index.html`, `style.css`, `app.js` | the page |
| `picture.js` | a picture to the input, as in training; runs in node too |
| `decode.js` | a file or a video to pixels |
| `network.js`, `results.js`, `selftest.js` | the model, its results, the self-test |
| `page.json` | the input, the outputs, the labels, the tolerances |
| `vectors/` | test vectors: pictures, inputs, expected outputs |
| `package.json`, `package-lock.json`, `setup.mjs` | the npm packages and the copy of LiteRT.js |

## Backends

WebAssembly (XNNPACK) computes what LiteRT computes on a CPU. A file with float32 inputs and outputs can also run on
WebGPU, where the browser has it: choose it on the page, which then runs the self-test again. With uint8 inputs and
outputs, LiteRT.js @{version} runs on WebAssembly only.
""")
