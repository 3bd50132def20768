// The page: a picture by drop, file, paste, example or camera -> the network -> the result.

import { decode, pixels } from "./decode.js";
import { get, Network } from "./network.js";
import { inputValues, middleTile, pictureLevels } from "./picture.js";
import { drawLevels, show } from "./results.js";
import { selfTest } from "./selftest.js";

const VIEW = 640; // pixels, the longer side of the shown picture
const FIRST_LINE = 120; // pixels from the top of the result that hold its first line
const $ = (id) => document.getElementById(id);
const nothing = $("result").firstElementChild; // what stands there before the first picture

let page; // content of page.json
let content; // the .tflite file
let network; // null until it is loaded
let camera = null; // {stream} while it runs or is asked for; stream is null until it is permitted
let shown = null; // the picture in view; it stays open for another backend
let waiting = null; // the newest picture that is not yet shown
let working = null; // promise that every waiting picture is shown
let changing = Promise.resolve(); // of the newest change of backend

/** Shows a picture and the network's result; while one is computed, or no network is there, only the newest is kept. */
async function classify(source) {
  waiting?.close();
  waiting = source;
  await work();
}

/** Shows the waiting picture, if there is a network. */
function work() {
  if (waiting && network) working ??= showWaiting();
  return working;
}

async function showWaiting() {
  while (waiting && network) {
    const next = waiting;
    waiting = null;
    if (next !== shown) shown?.close();
    shown = next;
    try {
      await classifyNow(next);
    } catch (error) {
      say(error.message);
    }
  }
  working = null;
}

async function classifyNow(source) {
  let picture = pixels(source);
  drawView(source, picture);
  if (page.input.resize === "none") picture = middleTile(picture.rgba, picture.width, picture.height, page.input);
  const levels = pictureLevels(picture.rgba, picture.width, picture.height, page.input);
  const { outputs, milliseconds } = await network.run(inputValues(levels, page.input.values, page.input.dtype));
  const sentence = show($("result"), network, outputs, levels);
  drawLevels($("seen"), levels, page.input);
  $("seen-figure").hidden = false;
  $("latency").textContent = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
  document.body.dataset.pictures = Number(document.body.dataset.pictures ?? 0) + 1;
  if (!camera?.stream) $("spoken").textContent = sentence; // a screen reader would read every frame
  say("");
}

function drawView(source, { width, height }) {
  const scale = Math.min(1, VIEW / Math.max(width, height));
  const view = $("view");
  view.width = Math.max(1, Math.round(width * scale));
  view.height = Math.max(1, Math.round(height * scale));
  view.classList.toggle("small", Math.max(width, height) < 96);
  view.getContext("2d").drawImage(source, 0, 0, view.width, view.height);
  $("drop").classList.add("filled");
}

async function take(blob) {
  stopCamera();
  try {
    await classify(await decode(blob));
    reveal();
  } catch (error) {
    $("drop").classList.remove("filled"); // the classes of the last picture would look like this one's
    $("result").replaceChildren(nothing);
    $("spoken").textContent = "";
    say(`This file is no picture that the browser can read. (${error.message})`);
  }
}

/** Scrolls to the result if its first line is out of sight, as on a narrow screen. */
function reveal() {
  const { top } = $("result").getBoundingClientRect();
  if (top < 0 || top + FIRST_LINE > innerHeight) $("result").closest("section").scrollIntoView({ block: "nearest" });
}

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

async function startCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    say("The camera needs https or localhost.");
    return;
  }
  const own = { stream: null };
  camera = own;
  $("camera").disabled = true;
  try {
    own.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch (error) {
    if (camera === own) {
      camera = null;
      say(`There is no camera, or it is not permitted. (${error.message})`);
    }
    return;
  } finally {
    $("camera").disabled = false;
  }
  if (camera !== own) {
    stop(own.stream); // a picture was chosen before the camera was permitted
    return;
  }
  $("camera").textContent = "Stop the camera";
  try {
    await showFrames(own);
  } catch (error) {
    if (camera !== own) return; // it was stopped meanwhile
    stopCamera();
    say(error.message);
  }
}

async function showFrames(own) {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.srcObject = own.stream;
  await video.play();
  while (camera === own) {
    await new Promise((resolve) => {
      if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
      else requestAnimationFrame(resolve);
    });
    if (camera !== own || !video.videoWidth) continue;
    const frame = await createImageBitmap(video);
    if (camera === own) await classify(frame);
    else frame.close(); // a picture may have been chosen since
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

function stopCamera() {
  if (camera?.stream) stop(camera.stream);
  camera = null;
  $("camera").textContent = "Use the camera";
}

/** Loads the model on a backend and runs the self-test there. */
async function start(backend) {
  setState("running", "Self-test runs");
  const old = network;
  network = null;
  await working; // the old network may be running
  old?.delete();
  $("backend").textContent = "…";
  $("latency").textContent = "–";
  const loaded = await Network.load(page, content, backend);
  const { passed, lines } = await selfTest(loaded, page, content);
  $("backend").textContent = { wasm: "WebAssembly", webgpu: "WebGPU" }[backend];
  $("tests").replaceChildren(
    ...lines.map((line) => {
      const row = document.createElement("li");
      row.className = line.passed ? "pass" : "fail";
      row.textContent = line.text;
      return row;
    }),
  );
  $("details").hidden = false;
  $("details").open = !passed;
  const failed = lines.filter((line) => !line.passed).length;
  if (passed) setState("passed", "Self-test passed", `${lines.length} checks`);
  else setState("failed", "Self-test failed", `${failed} of ${lines.length} checks failed: do not trust the results`);
  network = loaded;
}

function setState(state, text, small = "") {
  document.body.dataset.state = state;
  $("state").textContent = text;
  $("state-words").textContent = small;
  $("alert").textContent = `${text}. ${small}`;
  $("alert").hidden = state !== "failed";
}

/** Loads another backend; then shows the picture that came meanwhile, or the last one again. */
async function changeBackend(backend) {
  let refused = null;
  try {
    await start(backend);
  } catch (error) {
    refused = `${error.message} WebAssembly runs it.`;
    $("choice").value = "wasm";
    await start("wasm");
  }
  waiting ??= shown;
  await work();
  if (refused) say(refused); // after the picture, which removes messages
}

function notLoaded(error) {
  setState("failed", "The model was not loaded", error.message);
}

function listen() {
  $("file").addEventListener("change", ({ target }) => {
    if (target.files.length) take(target.files[0]);
    target.value = "";
  });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  }
  document.addEventListener("drop", (event) => {
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
  });
  $("camera").addEventListener("click", () => {
    if (camera) stopCamera();
    else startCamera();
  });
  $("choice").addEventListener("change", ({ target: { value } }) => {
    changing = changing.then(() => changeBackend(value)).catch(notLoaded); // one after the other
  });
}

function showExamples() {
  page.pictures.forEach(({ file, example, label }, index) => {
    if (!example) return;
    const button = document.createElement("button");
    const image = document.createElement("img");
    image.src = file;
    image.alt = label === null ? `Example ${index + 1}` : `Example: ${label}`;
    button.append(image);
    button.type = "button";
    button.addEventListener("click", async () => take(await (await get(file)).blob()));
    $("examples").append(button);
  });
  $("examples-part").hidden = !$("examples").childElementCount;
}

async function main() {
  page = await (await get("page.json")).json();
  $("choice-part").hidden = !page.webgpu || !navigator.gpu;
  listen();
  showExamples();
  content = new Uint8Array(await (await get(page.file)).arrayBuffer());
  await start("wasm");
  for (const control of document.querySelectorAll("[data-needs-network]")) control.disabled = false;
  await work();
}

main().catch(notLoaded);
