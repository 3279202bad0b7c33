// Images in the browser: read from the sheet of slices that the program sends, cut across an axis, and drawn.

/** A frame [slice, row, column] of 8-bit values; `parts` is 1 for grey, 3 for colour. */
export class Volume {
  constructor(size, parts, values) {
    this.size = size;
    this.parts = parts;
    this.values = values;
  }
}

/** Fetch a sheet of slices, `across` beside each other, and return it as a volume of this size. */
export async function fetchVolume(address, size, across, parts) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.json()).error);
  const plain = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
  const sheet = await createImageBitmap(await answer.blob(), plain);
  const [slices, rows, columns] = size;
  const canvas = new OffscreenCanvas(columns, rows);
  const brush = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  const values = new Uint8Array(slices * rows * columns * parts);
  for (let slice = 0, to = 0; slice < slices; slice++) {
    const left = (slice % across) * columns;
    const top = Math.floor(slice / across) * rows;
    brush.drawImage(sheet, left, top, columns, rows, 0, 0, columns, rows);
    const pixels = brush.getImageData(0, 0, columns, rows).data;
    for (let from = 0; from < pixels.length; from += 4) {
      for (let part = 0; part < parts; part++) values[to++] = pixels[from + part];
    }
  }
  sheet.close();
  return new Volume(size, parts, values);
}

/** Return a table of what is shown for each of the 256 values, by a window's level and width. */
export function windowTable(level, width) {
  const low = level - width / 2;
  return Uint8ClampedArray.from({ length: 256 }, (_, value) => ((value - low) / width) * 255);
}

/**
 * Return the picture of one plane, through the window: the cut across axis `across` at `at`.
 * With another volume: the difference of the two, without its sign.
 */
export function cut(volume, across, at, table, other = null) {
  const [slices, rows, columns] = volume.size;
  const stride = [rows * columns, columns, 1];
  const [down, along] = [0, 1, 2].filter((axis) => axis !== across);
  const [height, width] = [volume.size[down], volume.size[along]];
  const picture = new ImageData(width, height);
  const { parts, values } = volume;
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++, to += 4) {
      const from = (at * stride[across] + row * stride[down] + column * stride[along]) * parts;
      for (let part = 0; part < 3; part++) {
        const place = from + (parts === 3 ? part : 0);
        const shown = table[values[place]];
        picture.data[to + part] = other ? Math.abs(shown - table[other.values[place]]) : shown;
      }
      picture.data[to + 3] = 255;
    }
  }
  return picture;
}

/** Draw a picture as large as it fits, zoomed about the point of the view; `aspect` is a pixel's height over its width. */
export function draw(canvas, picture, aspect, view) {
  const density = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * density), Math.round(canvas.clientHeight * density)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const brush = canvas.getContext("2d");
  brush.fillStyle = "#000";
  brush.fillRect(0, 0, width, height);
  const source = new OffscreenCanvas(picture.width, picture.height);
  source.getContext("2d").putImageData(picture, 0, 0);
  const { left, top, across, down } = placed(width, height, picture, aspect, view);
  brush.imageSmoothingQuality = "high";
  brush.drawImage(source, left, top, across, down);
}

/** Return where in a box a picture lies: its corner and its size. */
export function placed(width, height, picture, aspect, view) {
  const fit = Math.min(width / picture.width, height / (picture.height * aspect)) * view.zoom;
  const [across, down] = [picture.width * fit, picture.height * aspect * fit];
  return { left: width / 2 - view.x * across, top: height / 2 - view.y * down, across, down };
}
