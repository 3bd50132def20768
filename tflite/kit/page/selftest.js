// The self-test: the model on its test vectors, and the pictures that they start from.

import { decode, pixels } from "./decode.js";
import { get, hasDigest, readArray } from "./network.js";
import { inputValues, pictureLevels } from "./picture.js";

/**
 * Runs every vector.
 *
 * @returns {Promise<{passed: boolean, lines: Array<{passed: boolean, text: string}>}>}
 */
export async function selfTest(network, page, content) {
  const vectors = await (await get("vectors/vectors.json")).json();
  const lines = [await sameFile(content, vectors.sha256)];
  const inputs = await readArray("vectors/input_0.bin", page.input.dtype);
  const size = page.input.shape.reduce((product, side) => product * side, 1);
  const expected = [];
  for (let k = 0; k < page.outputs.length; ++k) {
    expected.push(await readArray(`vectors/expected_${k}.bin`, page.outputs[k].dtype));
  }
  if (vectors.vectors < 1 || inputs.length !== vectors.vectors * size) {
    lines.push({ passed: false, text: `vectors/input_0.bin has another length than ${vectors.vectors} vectors` });
    return { passed: false, lines };
  }
  for (let i = 0; i < vectors.vectors; ++i) {
    const { outputs } = await network.run(inputs.slice(i * size, (i + 1) * size));
    for (let k = 0; k < page.outputs.length; ++k) {
      const length = expected[k].length / vectors.vectors;
      const wanted = expected[k].subarray(i * length, (i + 1) * length);
      const where = page.outputs.length > 1 ? `vector ${i + 1}, output ${k + 1}` : `vector ${i + 1}`;
      lines.push(compare(where, outputs[k], wanted, page.outputs[k], network.backend));
    }
  }
  for (let i = 0; i < page.pictures.length; ++i) {
    lines.push(await comparePicture(page, i, inputs.subarray(i * size, (i + 1) * size)));
  }
  return { passed: lines.every((line) => line.passed), lines };
}

async function sameFile(content, sha256) {
  const same = await hasDigest(content, sha256);
  if (same === null) return { passed: true, text: "digest of the file: not checked, which takes https or localhost" };
  return { passed: same, text: same ? "the file is the verified one (sha256)" : "the file is not the verified one" };
}

/** Compares an output with the expected one; NaN passes no test. */
function compare(where, found, wanted, output, backend) {
  if (found.length !== wanted.length || !wanted.length) {
    return { passed: false, text: `${where}: ${found.length} values, ${wanted.length} expected` };
  }
  let equal = 0;
  let largest = 0;
  let sum = 0;
  for (let i = 0; i < wanted.length; ++i) {
    const difference = Math.abs(found[i] - wanted[i]);
    equal += difference === 0 ? 1 : 0;
    largest = difference <= largest ? largest : difference; // a NaN stays
    sum += difference;
  }
  const mean = sum / wanted.length;
  const allowed = output.allowed[backend];
  const passed = allowed.largest === null ? mean <= allowed.mean : largest <= allowed.largest;
  const limit = allowed.largest === null ? `mean of ${short(allowed.mean)}` : `difference of ${short(allowed.largest)}`;
  const measured = allowed.largest === null ? mean : largest;
  const all = equal === wanted.length;
  const rest = all ? "" : `, ${allowed.largest === null ? "mean" : "largest"} difference ${short(measured)}`;
  return {
    passed,
    text: `${where}: ${equal} of ${wanted.length} values equal${rest}${passed ? "" : `; allowed is a ${limit}`}`,
  };
}

async function comparePicture(page, index, wanted) {
  const { file, largest_levels: levels } = page.pictures[index];
  const bitmap = await decode(await (await get(file)).blob());
  const { rgba, width, height } = pixels(bitmap);
  bitmap.close();
  const made = inputValues(pictureLevels(rgba, width, height, page.input), page.input.values, page.input.dtype);
  const allowed = 1.001 * levels * page.input.level;
  let different = made.length === wanted.length ? 0 : 1;
  for (let i = 0; i < wanted.length; ++i) different += Math.abs(made[i] - wanted[i]) <= allowed ? 0 : 1;
  const within = levels ? `within ${levels} level of` : "equal to";
  return {
    passed: different === 0,
    text: different
      ? `picture ${index + 1}: ${different} of ${wanted.length} values of the input differ from training's`
      : `picture ${index + 1}: its input is ${within} training's`,
  };
}

function short(value) {
  return Number.isInteger(value) ? String(value) : value.toPrecision(2);
}
