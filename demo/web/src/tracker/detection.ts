/** Hands found in an image: before the detector's network, and after it. */

import { LARGEST_LOG_SIZE, PADDING, SAME_HAND, STRIDE } from '../common/constants.ts';
import { logistic } from './geometry.ts';
import { resize } from './resize.ts';
import type { Box, RgbaImage, Point, Side } from './types.ts';

export interface Detection {
  readonly box: Box; // turned, around the 21 joints, without margin
  readonly side: Side;
  readonly score: number; // 0..1
  readonly sideScore: number; // 0.5..1, how sure the side is
}

/** An image fitted into the network's input, and how: input = scale * image + shift, in pixels. */
export interface Letterbox {
  readonly image: Uint8Array; // (H, W, 3)
  readonly scale: number;
  readonly shiftPx: Point;
}

/** The network's maps by name: `heat`, `log_size`, `right` (h, w) and `offset`, `direction` (2, h, w). */
export type Maps = Readonly<Record<string, Float32Array>>;

/** The image as large as fits into `height` x `width`, centred, grey around it. */
export function letterbox(image: RgbaImage, height: number, width: number): Letterbox {
  const scale = Math.min(width / image.width, height / image.height);
  const fitted = (length: number) => Math.max(1, roundedToEven(length * scale));
  const resized = resize(image, fitted(image.width), fitted(image.height));
  const left = (width - resized.width) >> 1;
  const top = (height - resized.height) >> 1;
  const boxed = new Uint8Array(3 * height * width).fill(PADDING);
  for (let y = 0; y < resized.height; y++) {
    for (let x = 0; x < resized.width; x++) {
      const from = 4 * (y * resized.width + x);
      const to = 3 * ((top + y) * width + left + x);
      boxed[to] = resized.data[from]!;
      boxed[to + 1] = resized.data[from + 1]!;
      boxed[to + 2] = resized.data[from + 2]!;
    }
  }
  const half = 0.5 * scale - 0.5; // pixel centres, not corners, lie at whole numbers
  return { image: boxed, scale, shiftPx: [left + half, top + half] };
}

function roundedToEven(value: number): number {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

/** The hands that maps of `columns` cells a row tell of, best first, each once; `threshold`: the least score. */
export function readMaps(maps: Maps, columns: number, boxed: Letterbox, threshold: number): Detection[] {
  const found = peaks(maps['heat']!, columns, threshold).map((cell) => readCell(maps, cell, columns, boxed));
  return withoutRepeats(found.sort((one, other) => other.score - one.score));
}

/** The cells that reach the threshold and that no neighbour exceeds. */
function peaks(heat: Float32Array, columns: number, threshold: number): number[] {
  if (!(threshold > 0 && threshold < 1)) {
    throw new Error(`a detection threshold must lie between 0 and 1, got ${threshold}`);
  }
  const least = Math.log(threshold / (1 - threshold));
  const cells: number[] = [];
  heat.forEach((value, cell) => {
    if (value >= least && value >= highestAround(heat, columns, cell)) {
      cells.push(cell);
    }
  });
  return cells;
}

function highestAround(heat: Float32Array, columns: number, cell: number): number {
  const rows = heat.length / columns;
  const [row, column] = [Math.floor(cell / columns), cell % columns];
  let highest = -Infinity;
  for (let y = Math.max(row - 1, 0); y <= Math.min(row + 1, rows - 1); y++) {
    for (let x = Math.max(column - 1, 0); x <= Math.min(column + 1, columns - 1); x++) {
      highest = Math.max(highest, heat[y * columns + x]!);
    }
  }
  return highest;
}

function readCell(maps: Maps, cell: number, columns: number, boxed: Letterbox): Detection {
  const cells = maps['heat']!.length;
  const pair = (name: string) => [maps[name]![cell]!, maps[name]![cells + cell]!] as const;
  const position = (index: number, offset: number) => (index + offset + 0.5) * STRIDE - 0.5;
  const toImage = (input: number, axis: 0 | 1) => (input - boxed.shiftPx[axis]) / boxed.scale;
  const [dx, dy] = pair('offset');
  const [cosine, sine] = pair('direction');
  const box = {
    centrePx: [toImage(position(cell % columns, dx), 0), toImage(position(Math.floor(cell / columns), dy), 1)] as const,
    sizePx: (Math.exp(Math.min(maps['log_size']![cell]!, LARGEST_LOG_SIZE)) * STRIDE) / boxed.scale,
    angleRad: Math.atan2(sine, cosine),
  };
  const right = maps['right']![cell]!;
  const score = logistic(maps['heat']![cell]!);
  return { box, side: right > 0 ? 'right' : 'left', score, sideScore: logistic(Math.abs(right)) };
}

/** Those that are not of the same hand as a better one; `found` is sorted, best first. */
function withoutRepeats(found: readonly Detection[]): Detection[] {
  const kept: Detection[] = [];
  for (const hand of found) {
    if (!kept.some((other) => isSameHand(hand.box, other.box))) {
      kept.push(hand);
    }
  }
  return kept;
}

function isSameHand(a: Box, b: Box): boolean {
  const apart = Math.hypot(a.centrePx[0] - b.centrePx[0], a.centrePx[1] - b.centrePx[1]);
  return apart < (SAME_HAND * (a.sizePx + b.sizePx)) / 2;
}
