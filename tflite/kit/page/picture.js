// Makes the network's input from a picture, as in training, in whole numbers: the same levels in every browser.
// It repeats the resize of the kit's C and Kotlin code. No browser functions: node can run it, too.

const FRACTION = 65536; // of a level, between the two passes

/**
 * The levels of 0 to 255 that the network sees: `rules.height` rows of `rules.width` pixels of `rules.channels` values.
 *
 * @param {Uint8ClampedArray|Uint8Array} rgba rows of pixels: red, green, blue and alpha (colors not premultiplied)
 * @param {number} width of the picture, in pixels
 * @param {number} height of the picture, in pixels
 * @param {{height: number, width: number, channels: number, resize: string, crop: boolean}} rules
 * @returns {Uint8Array}
 */
export function pictureLevels(rgba, width, height, rules) {
  if (!(width >= 1 && height >= 1) || rgba.length !== 4 * width * height) {
    throw new RangeError(`A picture has four bytes for each pixel. Received: ${rgba.length} for ${width} x ${height}`);
  }
  if (rules.resize === "none" && (width !== rules.width || height !== rules.height)) {
    throw new RangeError(
      `The network takes tiles of ${rules.width} x ${rules.height} pixels. Received: ${width} x ${height}`,
    );
  }
  const part = rules.crop ? centered(width, height, rules) : { left: 0, top: 0, width, height };
  const rows = fitRows(channelLevels(rgba, width, part, rules.channels), part, rules);
  return fitColumns(rows, part.height, rules);
}

/** The largest centered part with the network's proportions. */
function centered(width, height, rules) {
  const keptHeight = Math.min(height, Math.max(1, nearest(width * rules.height, rules.width)));
  const keptWidth = Math.min(width, Math.max(1, nearest(height * rules.width, rules.height)));
  return {
    left: Math.floor((width - keptWidth) / 2),
    top: Math.floor((height - keptHeight) / 2),
    width: keptWidth,
    height: keptHeight,
  };
}

/** The part of a picture in the network's channels; transparent parts become white. */
function channelLevels(rgba, width, part, channels) {
  const levels = new Uint8Array(part.height * part.width * channels);
  let at = 0;
  for (let y = 0; y < part.height; ++y) {
    let from = 4 * ((part.top + y) * width + part.left);
    for (let x = 0; x < part.width; ++x, from += 4) {
      const alpha = rgba[from + 3];
      const red = onWhite(rgba[from], alpha);
      const green = onWhite(rgba[from + 1], alpha);
      const blue = onWhite(rgba[from + 2], alpha);
      if (channels === 1) {
        // ITU-R BT.601 luma, before anything is resized.
        levels[at++] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
      } else {
        levels[at++] = red;
        levels[at++] = green;
        levels[at++] = blue;
      }
    }
  }
  return levels;
}

function onWhite(level, alpha) {
  const sum = (level * alpha + 255 * (255 - alpha) + 128) * 128;
  return ((sum >> 8) + sum) >> 15;
}

/** Each row at the network's width, in units of 1 / FRACTION levels. */
function fitRows(levels, part, rules) {
  const { channels } = rules;
  const rows = new Float64Array(part.height * rules.width * channels);
  const filters = taps(part.width, rules.width);
  for (let y = 0; y < part.height; ++y) {
    const row = y * part.width * channels;
    for (let x = 0; x < rules.width; ++x) {
      const { first, weights, total } = filters[x];
      for (let c = 0; c < channels; ++c) {
        let sum = 0;
        for (let i = 0; i < weights.length; ++i) sum += weights[i] * levels[row + (first + i) * channels + c];
        rows[(y * rules.width + x) * channels + c] = Math.floor((sum * FRACTION + Math.floor(total / 2)) / total);
      }
    }
  }
  return rows;
}

/** The rows at the network's height, rounded to levels, half to even. */
function fitColumns(rows, height, rules) {
  const line = rules.width * rules.channels;
  const fitted = new Uint8Array(rules.height * line);
  const filters = taps(height, rules.height);
  for (let y = 0; y < rules.height; ++y) {
    const { first, weights, total } = filters[y];
    for (let i = 0; i < line; ++i) {
      let sum = 0;
      for (let k = 0; k < weights.length; ++k) sum += weights[k] * rows[(first + k) * line + i];
      fitted[y * line + i] = nearest(sum, total * FRACTION);
    }
  }
  return fitted;
}

/** For each of `wanted` pixels resized from `size`: the first pixel, the weights of a triangle filter, their sum. */
function taps(size, wanted) {
  const reach = 2 * Math.max(size, wanted); // this and all values below in units of 1 / (2 * wanted) pixels
  const found = [];
  for (let index = 0; index < wanted; ++index) {
    const middle = (2 * index + 1) * size;
    let from = Math.max(0, Math.floor((middle - reach) / (2 * wanted)));
    const weights = [];
    let first = from;
    let total = 0;
    for (; from < size && (2 * from + 1) * wanted - middle < reach; ++from) {
      const weight = reach - Math.abs((2 * from + 1) * wanted - middle);
      if (weight <= 0) {
        first = from + 1;
        continue;
      }
      weights.push(weight);
      total += weight;
    }
    // All sums below are whole numbers that a double represents exactly, up to this limit.
    if ((255 * FRACTION + 1) * total > Number.MAX_SAFE_INTEGER) {
      throw new RangeError(`The picture is too large to be resized to ${wanted} pixels. Received: ${size} pixels`);
    }
    found.push({ first, weights: Float64Array.from(weights), total });
  }
  return found;
}

/** Quotient of two non-negative whole numbers, rounded to the nearest whole number; ties go to the even one. */
function nearest(dividend, divisor) {
  const quotient = Math.floor(dividend / divisor);
  const rest = dividend - quotient * divisor;
  return 2 * rest > divisor || (2 * rest === divisor && quotient % 2 === 1) ? quotient + 1 : quotient;
}

/**
 * The tile in the middle of a picture, for a network that takes tiles.
 *
 * @returns {{rgba: Uint8ClampedArray, width: number, height: number}}
 */
export function middleTile(rgba, width, height, rules) {
  if (width < rules.width || height < rules.height) {
    throw new RangeError(
      `The network takes pictures of ${rules.width} x ${rules.height} pixels or more. Received: ${width} x ${height}`,
    );
  }
  const left = Math.floor((width - rules.width) / 2);
  const top = Math.floor((height - rules.height) / 2);
  const tile = new Uint8ClampedArray(4 * rules.width * rules.height);
  for (let y = 0; y < rules.height; ++y) {
    const from = 4 * ((top + y) * width + left);
    tile.set(rgba.subarray(from, from + 4 * rules.width), 4 * y * rules.width);
  }
  return { rgba: tile, width: rules.width, height: rules.height };
}

/** The network's input: for each level its value in `table`, as an array of the input's dtype. */
export function inputValues(levels, table, dtype) {
  const values = new (arrayOf(dtype))(levels.length);
  for (let i = 0; i < levels.length; ++i) values[i] = table[levels[i]];
  return values;
}

/** The typed array of a dtype. */
export function arrayOf(dtype) {
  const found = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array }[dtype];
  if (!found) throw new TypeError(`LiteRT.js takes float32, int32 and uint8. Received: ${dtype}`);
  return found;
}
