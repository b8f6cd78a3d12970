/** Pinhole projection and the closed-form distance of a hand from its picture. As handmesh/camera.py. */

import { LEAST_RAY_SPREAD } from '../common/constants.ts';
import type { Vector } from './linear.ts';
import type { Camera } from './types.ts';

/** (N, 3) points in the camera's frame to (N, 2) pixels. */
export function project(pointsM: Float64Array, camera: Camera): Float64Array {
  const pixels = new Float64Array((pointsM.length / 3) * 2);
  for (let i = 0, to = 0; i < pointsM.length; i += 3, to += 2) {
    pixels[to] = (pointsM[i]! / pointsM[i + 2]!) * camera.fx + camera.cx;
    pixels[to + 1] = (pointsM[i + 1]! / pointsM[i + 2]!) * camera.fy + camera.cy;
  }
  return pixels;
}

/** A pixel at a depth along z as a point in the camera's frame. */
export function unproject(xPx: number, yPx: number, depthM: number, camera: Camera): Vector {
  return [((xPx - camera.cx) / camera.fx) * depthM, ((yPx - camera.cy) / camera.fy) * depthM, depthM];
}

/**
 * The translation that makes root-relative joints project to their pixels, weighted least squares; null
 * where the joints do not determine it (all at one pixel).
 *
 * With normalised picture coordinates a = (u - cx) / fx the pinhole equation is linear in the
 * translation: X + tx = a (Z + tz). Given tz, the best tx and ty are means; what is left determines tz.
 */
export function rootTranslation(
  jointsM: Float64Array, jointsPx: Float64Array, camera: Camera, weights: readonly number[],
): Vector | null {
  const total = weights.reduce((sum, weight) => sum + weight * weight, 0);
  const share = weights.map((weight) => (weight * weight) / total);
  const x = solveAxis(0, share, jointsM, jointsPx, camera.fx, camera.cx);
  const y = solveAxis(1, share, jointsM, jointsPx, camera.fy, camera.cy);
  const spread = x.spread + y.spread;
  if (!(spread > LEAST_RAY_SPREAD * (1 + x.ray * x.ray + y.ray * y.ray))) {
    return null; // true for what is no number, too
  }
  const tz = -(x.lean + y.lean) / spread;
  return [x.ahead + x.ray * tz, y.ahead + y.ray * tz, tz];
}

/** The means of rays and of what the translation would be with tz = 0, and the sums that tz depends on. */
function solveAxis(
  axis: 0 | 1, share: number[], jointsM: Float64Array, jointsPx: Float64Array, focal: number, centre: number,
): { ray: number; ahead: number; spread: number; lean: number } {
  const rays = share.map((_, i) => (jointsPx[2 * i + axis]! - centre) / focal);
  const aheads = rays.map((ray, i) => ray * jointsM[3 * i + 2]! - jointsM[3 * i + axis]!);
  const weighed = (values: number[]) => values.reduce((sum, value, i) => sum + share[i]! * value, 0);
  const ray = weighed(rays);
  const spread = weighed(rays.map((value) => (value - ray) ** 2));
  const lean = weighed(rays.map((value, i) => (value - ray) * aheads[i]!));
  return { ray, ahead: weighed(aheads), spread, lean };
}
