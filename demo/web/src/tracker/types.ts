/** The values that cross modules: an image, a box in it, a camera, a hand. */

import { KNUCKLES, type SIDES, WRIST } from '../common/constants.ts';

export type Side = (typeof SIDES)[number];
export type Point = readonly [number, number];

/** RGBA, 8 bits each, rows from the top: an `ImageData` is one. */
export interface RgbaImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray | Uint8Array;
}

/** A square in an image, turned clockwise by `angleRad`; (0, 0) is the centre of the top-left pixel. */
export interface Box {
  readonly centrePx: Point;
  readonly sizePx: number;
  readonly angleRad: number;
}

/** A pinhole camera without distortion, in pixels. */
export interface Camera {
  readonly fx: number;
  readonly fy: number;
  readonly cx: number;
  readonly cy: number;
  readonly width: number;
  readonly height: number;
}

/** One hand in the camera's frame: x right, y down, z forward, metres, up to a common scale. Arrays are flat. */
export interface Hand {
  readonly verticesM: Float32Array; // (V, 3)
  readonly jointsM: Float64Array; // (21, 3), keypoint order
  readonly jointsPx: Float64Array; // (21, 2)
  readonly side: Side;
  readonly score: number; // 0..1, that this is a hand
  readonly pose: Float64Array; // (16, 3, 3), relative to the parent joint; the first to the camera
  readonly shape: Float64Array; // (10,)
  readonly contact: Float32Array | null; // (4,) 0..1, that the thumb touches each finger, index first; null: not told
  readonly id: number;
  readonly visibleS: number;
  readonly predicted: boolean; // not seen in this frame, but carried on from those before
}

/** A camera whose longer image side spans `fovDeg` degrees. */
export function cameraFromFov(width: number, height: number, fovDeg = 60): Camera {
  if (!(fovDeg > 1 && fovDeg < 179)) {
    throw new Error(`the field of view must lie between 1 and 179 degrees, got ${fovDeg}`);
  }
  const focal = (0.5 * Math.max(width, height)) / Math.tan((fovDeg * Math.PI) / 360);
  return { fx: focal, fy: focal, cx: (width - 1) / 2, cy: (height - 1) / 2, width, height };
}

/** The same box with its side multiplied by `factor`. */
export function scaledBox(box: Box, factor: number): Box {
  return { ...box, sizePx: box.sizePx * factor };
}

/** The tight box around (21, 2) points, its top where the fingers are. */
export function boxAround(jointsPx: Float64Array): Box {
  const angleRad = uprightAngleRad(jointsPx);
  const c = Math.cos(angleRad);
  const s = Math.sin(angleRad);
  const low = [Infinity, Infinity];
  const high = [-Infinity, -Infinity];
  for (let i = 0; i < jointsPx.length; i += 2) {
    const [x, y] = [jointsPx[i]!, jointsPx[i + 1]!];
    [c * x + s * y, c * y - s * x].forEach((value, axis) => {
      low[axis] = Math.min(low[axis]!, value);
      high[axis] = Math.max(high[axis]!, value);
    });
  }
  const [x, y] = [(low[0]! + high[0]!) / 2, (low[1]! + high[1]!) / 2];
  const sizePx = Math.max(high[0]! - low[0]!, high[1]! - low[1]!);
  return { centrePx: [c * x - s * y, s * x + c * y], sizePx, angleRad };
}

/** The rotation, clockwise, from image-up to the direction from the wrist to the knuckles. */
function uprightAngleRad(jointsPx: Float64Array): number {
  const mean = (axis: number) => KNUCKLES.reduce((sum, k) => sum + jointsPx[2 * k + axis]!, 0) / KNUCKLES.length;
  return Math.atan2(mean(0) - jointsPx[2 * WRIST]!, -(mean(1) - jointsPx[2 * WRIST + 1]!));
}
