/** From a box in an image to the network's crop and back: the only warp. */

import { invertAffine, type Affine } from './geometry.ts';
import { halved } from './resize.ts';
import type { Box, Camera, RgbaImage } from './types.ts';

/** From image pixels to pixels of a `size` x `size` crop of `box`; with `mirror`, flipped left to right. */
export function cropAffine(box: Box, size: number, mirror = false): Affine {
  if (!(box.sizePx > 0 && Number.isFinite(box.sizePx))) {
    throw new Error(`a box needs a positive, finite side, got ${box.sizePx}`);
  }
  const scale = size / box.sizePx;
  const cosine = Math.cos(box.angleRad) * scale;
  const sine = Math.sin(box.angleRad) * scale;
  const flip = mirror ? -1 : 1;
  const [a, b, c, d] = [flip * cosine, flip * sine, -sine, cosine];
  const middle = (size - 1) / 2;
  const [x, y] = box.centrePx;
  return { a, b, tx: middle - a * x - b * y, c, d, ty: middle - c * x - d * y };
}

/**
 * The `size` x `size` RGB crop of the image under `affine`, bilinear; the outside repeats the border.
 *
 * Where the crop shrinks the image more than twice, the image is halved first, so that fine texture
 * does not alias.
 */
export function warp(image: RgbaImage, affine: Affine, size: number): Uint8Array {
  let shrink = 1 / Math.sqrt(Math.abs(affine.a * affine.d - affine.b * affine.c));
  if (shrink > 2) {
    [image, affine] = partUnder(image, affine, size, shrink);
  }
  while (shrink > 2 && Math.min(image.width, image.height) >= 2) {
    image = halved(image);
    const { a, b, c, d } = affine;
    affine = { a: 2 * a, b: 2 * b, tx: affine.tx + (a + b) / 2, c: 2 * c, d: 2 * d, ty: affine.ty + (c + d) / 2 };
    shrink /= 2;
  }
  return sampled(image, invertAffine(affine), size);
}

/** The part of the image that the crop shows, and the affine from there: less to halve. */
function partUnder(image: RgbaImage, affine: Affine, size: number, shrink: number): [RgbaImage, Affine] {
  const grain = 2 ** Math.ceil(Math.log2(shrink)); // on this grid, halving the part gives what halving the whole does
  const back = invertAffine(affine);
  const corners = [[0, 0], [size, 0], [0, size], [size, size]].map(([x, y]) => [x! - 0.5, y! - 0.5] as const);
  const [left, right] = span(corners.map(([x, y]) => back.a * x + back.b * y + back.tx), image.width, grain);
  const [top, bottom] = span(corners.map(([x, y]) => back.c * x + back.d * y + back.ty), image.height, grain);
  const { a, b, c, d } = affine;
  const moved = { ...affine, tx: affine.tx + a * left + b * top, ty: affine.ty + c * left + d * top };
  return [part(image, left, top, right, bottom), moved];
}

function span(values: number[], length: number, grain: number): [number, number] {
  const clipped = (value: number) => Math.floor(Math.min(Math.max(value, 0), length - 1) / grain) * grain;
  const low = clipped(Math.floor(Math.min(...values)) - 2 * grain);
  const high = clipped(Math.ceil(Math.max(...values)) + 2 * grain) + grain;
  return [low, Math.min(high, length)];
}

function part(image: RgbaImage, left: number, top: number, right: number, bottom: number): RgbaImage {
  const [width, height] = [right - left, bottom - top];
  const data = new Uint8ClampedArray(4 * width * height);
  for (let y = 0; y < height; y++) {
    const from = 4 * ((top + y) * image.width + left);
    data.set(image.data.subarray(from, from + 4 * width), 4 * y * width);
  }
  return { width, height, data };
}

/** RGB at the places to which `back` takes the pixels of the crop. */
function sampled({ width, height, data }: RgbaImage, back: Affine, size: number): Uint8Array {
  const out = new Uint8Array(3 * size * size);
  const within = (value: number, length: number) => (value < 0 ? 0 : value >= length ? length - 1 : value);
  for (let row = 0, to = 0; row < size; row++) {
    for (let column = 0; column < size; column++, to += 3) {
      const x = back.a * column + back.b * row + back.tx;
      const y = back.c * column + back.d * row + back.ty;
      const x0 = Math.floor(x);
      const y0 = Math.floor(y);
      const u = x - x0;
      const v = y - y0;
      const left = 4 * within(x0, width);
      const right = 4 * within(x0 + 1, width);
      const upper = 4 * width * within(y0, height);
      const lower = 4 * width * within(y0 + 1, height);
      for (let k = 0; k < 3; k++) {
        const above = (1 - u) * data[upper + left + k]! + u * data[upper + right + k]!;
        const below = (1 - u) * data[lower + left + k]! + u * data[lower + right + k]!;
        out[to + k] = Math.round((1 - v) * above + v * below);
      }
    }
  }
  return out;
}

/**
 * (3, 3) from the crop's own view to the camera's frame.
 *
 * The crop is taken as the image of a camera that looks straight at the box's centre, by the smallest
 * turn from the camera's own axis, and is rolled with the box.
 */
export function viewRotation(camera: Camera, box: Box): Float64Array {
  const x = (box.centrePx[0] - camera.cx) / camera.fx;
  const y = (box.centrePx[1] - camera.cy) / camera.fy;
  const length = Math.sqrt(x * x + y * y + 1);
  const [p, q, r] = [x / length, y / length, 1 / length];
  const [c, s] = [Math.cos(box.angleRad), Math.sin(box.angleRad)];
  const fraction = 1 / (1 + r);
  const rotation = [1 - p * p * fraction, -p * q * fraction, p, -p * q * fraction, 1 - q * q * fraction, q, -p, -q, r];
  const rolled = new Float64Array(9);
  for (let row = 0; row < 3; row++) {
    const [first, second, third] = [rotation[3 * row]!, rotation[3 * row + 1]!, rotation[3 * row + 2]!];
    rolled.set([first * c + second * s, second * c - first * s, third], 3 * row);
  }
  return rolled;
}
