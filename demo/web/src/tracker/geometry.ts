/** Projection, the distance of a hand from its joints in an image, affines, mirroring, probabilities. */

import { FARTHEST_M, LEAST_RAY_SPREAD, NEAREST_M, ROOT, SUREST, RELIABILITY } from '../common/constants.ts';
import { nearestOf, type Points, type Vector } from './linear.ts';
import type { Camera } from './types.ts';

/** The probability of a logit; without overflow, however large it is. */
export const logistic = (logit: number): number => 0.5 + 0.5 * Math.tanh(0.5 * logit);

/** The logarithm of the odds. */
export function logit(probability: number): number {
  const bounded = Math.min(Math.max(probability, SUREST), 1 - SUREST);
  return Math.log(bounded / (1 - bounded));
}

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
 * With normalised image coordinates a = (u - cx) / fx the pinhole equation is linear in the
 * translation: X + tx = a (Z + tz). Given tz, the best tx and ty are means; what is left determines tz.
 */
export function byLeastSquares(
  jointsM: Float64Array, jointsPx: Float64Array, camera: Camera, weights: readonly number[],
): Vector | null {
  const total = weights.reduce((sum, weight) => sum + weight * weight, 0);
  const fractions = weights.map((weight) => (weight * weight) / total);
  const x = solveAxis(0, fractions, jointsM, jointsPx, camera.fx, camera.cx);
  const y = solveAxis(1, fractions, jointsM, jointsPx, camera.fy, camera.cy);
  const spread = x.spread + y.spread;
  if (!(spread > LEAST_RAY_SPREAD * (1 + x.ray * x.ray + y.ray * y.ray))) {
    return null; // true for what is no number, too
  }
  const tz = -(x.lean + y.lean) / spread;
  return [x.ahead + x.ray * tz, y.ahead + y.ray * tz, tz];
}

/** The means of rays and of what the translation would be with tz = 0, and the sums that tz depends on. */
function solveAxis(
  axis: 0 | 1, fractions: number[], jointsM: Float64Array, jointsPx: Float64Array, focal: number, centre: number,
): { ray: number; ahead: number; spread: number; lean: number } {
  const rays = fractions.map((_, i) => (jointsPx[2 * i + axis]! - centre) / focal);
  const aheads = rays.map((ray, i) => ray * jointsM[3 * i + 2]! - jointsM[3 * i + axis]!);
  const weighed = (values: number[]) => values.reduce((sum, value, i) => sum + fractions[i]! * value, 0);
  const ray = weighed(rays);
  const spread = weighed(rays.map((value) => (value - ray) ** 2));
  const lean = weighed(rays.map((value, i) => (value - ray) * aheads[i]!));
  return { ray, ahead: weighed(aheads), spread, lean };
}

/** Where the root lies in the camera's frame; always finite and in front of the camera. `reliability`: of each joint. */
export function solveTranslation(
  jointsM: Float64Array, jointsPx: Float64Array, camera: Camera, reliability: readonly number[] = RELIABILITY,
): Vector {
  const nearest = NEAREST_M - nearestOf(jointsM);
  const root = byLeastSquares(jointsM, jointsPx, camera, reliability);
  return root && nearest <= root[2] && root[2] <= FARTHEST_M ? root : bySize(jointsM, jointsPx, camera, nearest);
}

/** The root on the ray through its own pixel, as far away as the joints' spread in the image says. */
function bySize(jointsM: Float64Array, jointsPx: Float64Array, camera: Camera, nearest: number): Vector {
  const largest = (points: Float64Array, width: number) =>
    Math.max(deviation(column(points, width, 0)), deviation(column(points, width, 1)));
  const depth = (Math.max(camera.fx, camera.fy) * largest(jointsM, 3)) / Math.max(largest(jointsPx, 2), 1e-6);
  const bounded = Math.min(Math.max(depth, nearest), FARTHEST_M);
  return unproject(jointsPx[2 * ROOT]!, jointsPx[2 * ROOT + 1]!, bounded, camera);
}

function deviation(values: number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

/** How far (N, 3) points reach along the axis that tells them best apart. */
export function extentOf(points: Points): number {
  const axes = [0, 1, 2].map((axis) => column(points, 3, axis));
  return Math.max(...axes.map((values) => Math.max(...values) - Math.min(...values)));
}

function column(points: Points, width: number, axis: number): number[] {
  return Array.from({ length: points.length / width }, (_, i) => points[width * i + axis]!);
}

/** x' = a x + b y + tx, y' = c x + d y + ty. */
export interface Affine {
  readonly a: number;
  readonly b: number;
  readonly tx: number;
  readonly c: number;
  readonly d: number;
  readonly ty: number;
}

/** The affine that undoes `m`. */
export function invertAffine(m: Affine): Affine {
  const determinant = m.a * m.d - m.b * m.c;
  const [a, b, c, d] = [m.d / determinant, -m.b / determinant, -m.c / determinant, m.a / determinant];
  return { a, b, tx: -(a * m.tx + b * m.ty), c, d, ty: -(c * m.tx + d * m.ty) };
}

/** (N, 3) points reflected left to right, in place. */
export function mirrorPoints<T extends Points>(points: T): T {
  for (let i = 0; i < points.length; i += 3) {
    points[i] = -points[i]!;
  }
  return points;
}

/** (N, 3, 3) rotations of the reflected hand, M R M. */
export function mirrorRotations(rotations: Float64Array): Float64Array {
  const flips = [1, -1, -1, -1, 1, 1, -1, 1, 1];
  return rotations.map((value, i) => value * flips[i % 9]!);
}

/** (F, 3) faces with their orientation reversed, so that a reflected mesh still faces outward. */
export function mirrorFaces(faces: Uint32Array): Uint32Array {
  return faces.map((_, i) => faces[3 * Math.floor(i / 3) + 2 - (i % 3)]!);
}
