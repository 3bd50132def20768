// Draws the network's output: shares of classes, a mask, or an enlarged picture. Names of classes are text, never markup.

const SHOWN = 5; // classes

/** Puts the result of `outputs` into `place`; returns it as one sentence for screen readers. */
export function show(place, network, outputs, levels) {
  const draw = { classes: showClasses, mask: showMask, picture: showPicture }[network.page.task];
  return draw(place, network, outputs[0], levels);
}

function showClasses(place, network, values) {
  const { labels, probabilities } = network.page;
  const real = network.real(values);
  const shares = probabilities ? real : softmax(real);
  const best = Array.from(shares.keys()).sort((a, b) => shares[b] - shares[a]);
  const rows = best.slice(0, SHOWN).map((index) => bar(labels[index], shares[index]));
  place.replaceChildren(list("bars", rows));
  return `${labels[best[0]]}, ${percent(shares[best[0]])}`;
}

/** The class of each pixel over the picture, and the share of each class. */
function showMask(place, network, values, levels) {
  const { labels, colors, input } = network.page;
  const real = network.real(values);
  const classes = labels.length;
  const counts = new Array(classes).fill(0);
  const image = new ImageData(input.width, input.height);
  for (let i = 0; i < input.width * input.height; ++i) {
    let best = 0;
    for (let c = 1; c < classes; ++c) if (real[i * classes + c] > real[i * classes + best]) best = c;
    ++counts[best];
    for (let c = 0; c < 3; ++c) {
      const level = levels[i * input.channels + (input.channels === 3 ? c : 0)];
      image.data[4 * i + c] = Math.round((level + colors[best][c]) / 2);
    }
    image.data[4 * i + 3] = 255;
  }
  const pixels = input.width * input.height;
  const order = Array.from(counts.keys()).sort((a, b) => counts[b] - counts[a]);
  const rows = order.filter((c) => counts[c]).slice(0, 2 * SHOWN);
  const bars = rows.map((c) => bar(labels[c], counts[c] / pixels, colors[c]));
  place.replaceChildren(canvasOf(image, "The picture with the mask over it"), list("bars", bars));
  return `${labels[order[0]]}, ${percent(counts[order[0]] / pixels)} of the pixels`;
}

function showPicture(place, network, values) {
  const { input, outputs } = network.page;
  const [, height, width, channels] = outputs[0].shape;
  const [low, high] = input.range;
  const real = network.real(values);
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; ++i) {
    for (let c = 0; c < 3; ++c) {
      const value = real[i * channels + (channels === 3 ? c : 0)];
      image.data[4 * i + c] = Math.round((255 * (value - low)) / (high - low)); // clamped by the array
    }
    image.data[4 * i + 3] = 255;
  }
  place.replaceChildren(canvasOf(image, `The enlarged picture, ${width} x ${height} pixels`));
  return `enlarged to ${width} x ${height} pixels`;
}

/** A canvas of levels as the network sees them. */
export function drawLevels(canvas, levels, input) {
  const image = new ImageData(input.width, input.height);
  for (let i = 0; i < input.width * input.height; ++i) {
    for (let c = 0; c < 3; ++c) image.data[4 * i + c] = levels[i * input.channels + (input.channels === 3 ? c : 0)];
    image.data[4 * i + 3] = 255;
  }
  canvas.width = input.width;
  canvas.height = input.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function canvasOf(image, label) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.className = "output";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function list(name, rows) {
  const made = document.createElement("ol");
  made.className = name;
  made.append(...rows);
  return made;
}

function bar(label, share, color) {
  const row = document.createElement("li");
  const name = document.createElement("bdi");
  name.textContent = label;
  const value = document.createElement("span");
  value.textContent = percent(share);
  const track = document.createElement("i");
  track.style.setProperty("--share", `${100 * Math.max(0, Math.min(1, share))}%`);
  if (color) track.style.setProperty("--color", `rgb(${color.join(" ")})`);
  row.append(name, value, track);
  return row;
}

function softmax(values) {
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Array.from(values, (value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}
