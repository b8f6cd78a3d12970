/** Projection, the distance of a hand from its joints in an image, affines, mirroring, probabilities. */

import {
  DISTANCE_BAND, FARTHEST_M, LEAST_RAY_SPREAD, LEAST_VARIANCE, NEAREST_M, RELIABILITY, SUREST,
} from '../common/constants.ts';
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

/** How joints are seen: their rays x / z and y / z and the fraction that each counts. */
interface Sight {
  readonly jointsM: Float64Array;
  readonly fractions: readonly number[];
  readonly axes: readonly [Axis, Axis];
  readonly variance: number;
}

/** Of the rays along x or y, and of what the translation would be with tz = 0 ("ahead"). */
interface Axis {
  readonly ray: number;
  readonly ahead: number;
  readonly variance: number;
  readonly lean: number; // the sum that tz depends on
}

function sightOf(
  jointsM: Float64Array, jointsPx: Float64Array, camera: Camera, weights: readonly number[],
): Sight {
  const total = weights.reduce((sum, weight) => sum + weight * weight, 0);
  const fractions = weights.map((weight) => (weight * weight) / total);
  const x = axisOf(0, fractions, jointsM, jointsPx, camera.fx, camera.cx);
  const y = axisOf(1, fractions, jointsM, jointsPx, camera.fy, camera.cy);
  return { jointsM, fractions, axes: [x, y], variance: x.variance + y.variance };
}

function axisOf(
  axis: 0 | 1, fractions: number[], jointsM: Float64Array, jointsPx: Float64Array, focal: number, centre: number,
): Axis {
  const rays = fractions.map((_, i) => (jointsPx[2 * i + axis]! - centre) / focal);
  const aheads = rays.map((ray, i) => ray * jointsM[3 * i + 2]! - jointsM[3 * i + axis]!);
  const ray = weighed(fractions, rays);
  const lean = weighed(fractions, rays.map((value, i) => (value - ray) * aheads[i]!));
  return { ray, ahead: weighed(fractions, aheads), variance: varianceOf(fractions, rays), lean };
}

const weighed = (fractions: readonly number[], values: readonly number[]) =>
  values.reduce((sum, value, i) => sum + fractions[i]! * value, 0);

function varianceOf(fractions: readonly number[], values: readonly number[]): number {
  const mean = weighed(fractions, values);
  return weighed(fractions, values.map((value) => (value - mean) ** 2));
}

/** The translation of this tz: given it, the best tx and ty are means. */
function translationAt({ axes: [x, y] }: Sight, tz: number): Vector {
  return [x.ahead + x.ray * tz, y.ahead + y.ray * tz, tz];
}

/**
 * The tz that makes root-relative joints project to their pixels, weighted least squares; NaN where the joints do not
 * determine it (all at one pixel).
 *
 * With normalised image coordinates a = (u - cx) / fx the pinhole equation is linear in the
 * translation: X + tx = a (Z + tz). Given tz, the best tx and ty are means; what is left determines tz.
 */
function leastSquaresDistance({ axes: [x, y], variance }: Sight): number {
  const determined = variance > LEAST_RAY_SPREAD * (1 + x.ray * x.ray + y.ray * y.ray);
  return determined ? -(x.lean + y.lean) / variance : NaN;
}

/** How many times as far apart the joints would be seen from there. */
function largerFrom(sight: Sight, translation: Vector): number {
  const { jointsM, fractions, variance } = sight;
  const depths = column(jointsM, 3, 2).map((depth) => depth + translation[2]);
  const seen = ([0, 1] as const).map((axis) =>
    varianceOf(fractions, column(jointsM, 3, axis).map((value, i) => (value + translation[axis]) / depths[i]!)),
  );
  return Math.sqrt((seen[0]! + seen[1]!) / Math.max(variance, LEAST_VARIANCE));
}

/**
 * Where the root lies in the camera's frame; always finite and in front of the camera. `reliability`: of each joint.
 *
 * Least squares; its distance is held to `DISTANCE_BAND` of that which the hand's size gives, and where it is none,
 * behind the camera or out of reach, the size alone decides.
 */
export function solveTranslation(
  jointsM: Float64Array, jointsPx: Float64Array, camera: Camera, reliability: readonly number[] = RELIABILITY,
): Vector {
  const nearest = NEAREST_M - nearestOf(jointsM);
  const sight = sightOf(jointsM, jointsPx, camera, reliability);
  const [least, most] = DISTANCE_BAND;
  const tz = leastSquaresDistance(sight);
  if (!(nearest <= tz && tz <= FARTHEST_M)) {
    return translationAt(sight, distanceBySize(sight, nearest));
  }
  const root = translationAt(sight, tz);
  const larger = largerFrom(sight, root);
  if (1 / most <= larger && larger <= 1 / least) {
    return root;
  }
  const bySize = distanceBySize(sight, nearest);
  return translationAt(sight, Math.min(Math.max(tz, least * bySize, nearest), most * bySize, FARTHEST_M));
}

/**
 * The root's depth from which the joints are seen as far apart as they are: that of a weak perspective, about their
 * mean depth, corrected by how far apart they would be seen there.
 */
function distanceBySize(sight: Sight, nearest: number): number {
  const { jointsM, fractions, variance } = sight;
  const bounded = (depth: number) => Math.min(Math.max(depth, nearest), FARTHEST_M);
  const middle = weighed(fractions, column(jointsM, 3, 2));
  const spread = Math.sqrt(varianceOf(fractions, column(jointsM, 3, 0)) + varianceOf(fractions, column(jointsM, 3, 1)));
  const weak = bounded(spread / Math.sqrt(Math.max(variance, LEAST_VARIANCE)) - middle);
  return bounded((weak + middle) * largerFrom(sight, translationAt(sight, weak)) - middle);
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
