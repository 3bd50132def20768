// The model in LiteRT.js.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { arrayOf } from "./picture.js";

let runtime; // LiteRT.js is loaded once in a page

/** Fetches a file of this folder, or says which one is missing. */
export async function get(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`The server has no ${path}. Received: status ${response.status}`);
  return response;
}

export class Network {
  /**
   * @param {object} page content of page.json
   * @param {Uint8Array} content the .tflite file
   * @param {"wasm"|"webgpu"} backend
   */
  static async load(page, content, backend) {
    runtime ??= loadLiteRt("litert/", { threads: false });
    await runtime;
    const options = backend === "webgpu" ? { accelerator: "webgpu", gpuOptions: { precision: "fp32" } } : {};
    const model = await loadAndCompile(content, { accelerator: "wasm", ...options });
    // Without this, a GPU that refused the model would look as if it had run it.
    if (backend === "webgpu" && !model.isFullyAccelerated) {
      model.delete();
      throw new Error("WebGPU does not run every operation of this model.");
    }
    return new Network(page, model, backend);
  }

  constructor(page, model, backend) {
    this.page = page;
    this.model = model;
    this.backend = backend;
  }

  /**
   * Runs the model once.
   *
   * @param {Float32Array|Uint8Array} values the input, of its dtype
   * @returns {Promise<{outputs: Array<Float32Array|Int32Array|Uint8Array>, milliseconds: number}>} the outputs, and the
   *     time from the input to the outputs in the page's memory
   */
  async run(values) {
    const begun = performance.now();
    let input = new Tensor(values, this.page.input.shape);
    const made = [input];
    try {
      if (this.backend === "webgpu") {
        input = await input.moveTo("webgpu");
        made[0] = input;
      }
      const results = await this.model.run([input]);
      made.push(...results);
      const outputs = [];
      for (const result of results) outputs.push((await result.data()).slice());
      return { outputs, milliseconds: performance.now() - begun };
    } finally {
      for (const tensor of made) if (!tensor.deleted) tensor.delete();
    }
  }

  /** Real values of output `index`. */
  real(values, index = 0) {
    const { scale, zero_point: zeroPoint } = this.page.outputs[index];
    return scale ? Float32Array.from(values, (value) => (value - zeroPoint) * scale) : Float32Array.from(values);
  }

  delete() {
    this.model.delete();
  }
}

/** An array of a .bin file, which is little-endian, as is every browser. */
export async function readArray(path, dtype) {
  return new (arrayOf(dtype))(await (await get(path)).arrayBuffer());
}

/** Whether `content` has this sha256, in hexadecimal; null where the browser cannot tell (a page without https). */
export async function hasDigest(content, sha256) {
  if (!globalThis.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}
