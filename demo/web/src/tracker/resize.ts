/** Images made smaller or larger, as OpenCV's `resize` does it with INTER_AREA and INTER_LINEAR. */

import type { RgbaImage } from './types.ts';

/** What part of which source pixels makes each target pixel, along one axis. */
interface Taps {
  readonly first: Int32Array; // the first tap of each target pixel, and one past the last at the end
  readonly pixel: Int32Array;
  readonly weight: Float32Array;
}

/** The image at `width` x `height`: means over areas where it shrinks, bilinear where it grows. */
export function resize(image: RgbaImage, width: number, height: number): RgbaImage {
  const shrinks = width <= image.width && height <= image.height;
  const taps = shrinks ? areaTaps : linearTaps;
  return separable(image, taps(image.width, width), taps(image.height, height));
}

/** Half the size, rounded down: the step that keeps fine texture from aliasing. */
export function halved(image: RgbaImage): RgbaImage {
  const { width, height, data } = image;
  if (width % 2 || height % 2) {
    return resize(image, width >> 1, height >> 1);
  }
  const out = new Uint8ClampedArray(width * height);
  for (let y = 0, to = 0; y < height; y += 2) {
    for (let x = 0; x < width; x += 2, to += 4) {
      const a = 4 * (y * width + x);
      const b = a + 4 * width;
      for (let k = 0; k < 3; k++) {
        out[to + k] = (data[a + k]! + data[a + 4 + k]! + data[b + k]! + data[b + 4 + k]! + 2) >> 2;
      }
    }
  }
  return { width: width >> 1, height: height >> 1, data: out };
}

function areaTaps(from: number, to: number): Taps {
  const scale = from / to;
  return collectTaps(to, (target) => {
    const [start, end] = [target * scale, Math.min((target + 1) * scale, from)];
    const last = Math.min(Math.ceil(end - 1e-3), from);
    const taps: [number, number][] = [];
    for (let pixel = Math.floor(start + 1e-3); pixel < last; pixel++) {
      taps.push([pixel, (Math.min(end, pixel + 1) - Math.max(start, pixel)) / (end - start)]);
    }
    return taps;
  });
}

function linearTaps(from: number, to: number): Taps {
  const scale = from / to;
  return collectTaps(to, (target) => {
    const position = Math.min(Math.max((target + 0.5) * scale - 0.5, 0), from - 1);
    const pixel = Math.min(Math.floor(position), Math.max(from - 2, 0));
    return [
      [pixel, 1 - (position - pixel)],
      [Math.min(pixel + 1, from - 1), position - pixel],
    ];
  });
}

function collectTaps(targets: number, tapsOf: (target: number) => [number, number][]): Taps {
  const all = Array.from({ length: targets }, (_, target) => tapsOf(target));
  const first = new Int32Array(targets + 1);
  all.forEach((taps, target) => (first[target + 1] = first[target]! + taps.length));
  const flat = all.flat();
  return { first, pixel: Int32Array.from(flat, (t) => t[0]), weight: Float32Array.from(flat, (t) => t[1]) };
}

function separable(image: RgbaImage, across: Taps, down: Taps): RgbaImage {
  const width = across.first.length - 1;
  const height = down.first.length - 1;
  const data = new Uint8ClampedArray(4 * width * height);
  const sums = new Float32Array(4 * image.width);
  for (let y = 0; y < height; y++) {
    sumRows(image, down, y, sums);
    sumColumns(sums, across, data.subarray(4 * y * width, 4 * (y + 1) * width));
  }
  return { width, height, data };
}

/** The weighted sum of the source rows that make target row `y`. */
function sumRows(image: RgbaImage, down: Taps, y: number, sums: Float32Array): void {
  sums.fill(0);
  for (let tap = down.first[y]!; tap < down.first[y + 1]!; tap++) {
    const weight = down.weight[tap]!;
    const row = image.data.subarray(down.pixel[tap]! * sums.length);
    for (let i = 0; i < sums.length; i++) {
      sums[i]! += weight * row[i]!;
    }
  }
}

function sumColumns(sums: Float32Array, across: Taps, row: Uint8ClampedArray): void {
  for (let x = 0; x < row.length / 4; x++) {
    let r = 0;
    let g = 0;
    let b = 0;
    for (let tap = across.first[x]!; tap < across.first[x + 1]!; tap++) {
      const weight = across.weight[tap]!;
      const from = 4 * across.pixel[tap]!;
      r += weight * sums[from]!;
      g += weight * sums[from + 1]!;
      b += weight * sums[from + 2]!;
    }
    row[4 * x] = r; // a clamped array rounds, half to even
    row[4 * x + 1] = g;
    row[4 * x + 2] = b;
  }
}
