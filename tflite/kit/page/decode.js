// Pixels of files, videos and canvases. Color profiles are ignored, as in training; EXIF turns a photograph upright.

/** An upright picture from the bytes of a file; close() it. */
export function decode(blob) {
  return createImageBitmap(blob, {
    colorSpaceConversion: "none",
    imageOrientation: "from-image",
    premultiplyAlpha: "default",
  });
}

/**
 * The pixels of an ImageBitmap or of a video's frame, over white. A canvas keeps colors multiplied by alpha, so a
 * translucent pixel may differ by one level from that of the file; others are equal.
 *
 * @returns {{rgba: Uint8ClampedArray, width: number, height: number}}
 */
export function pixels(source) {
  const width = source.videoWidth ?? source.width;
  const height = source.videoHeight ?? source.height;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new RangeError(`The picture is too large for this browser. Received: ${width} x ${height}`);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0);
  return { rgba: context.getImageData(0, 0, width, height).data, width, height };
}
