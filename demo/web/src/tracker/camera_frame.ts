/** From what the network says of a crop to a hand in the camera's frame. */

import { LARGEST_OUTPUTS, LEAST_AHEAD, LEAST_UNCERTAINTY, ROOT, SMALLEST_M } from '../common/constants.ts';
import type { Alignment } from './alignment.ts';
import { cropAffine, viewRotation } from './crop.ts';
import {
  extentOf, logistic, mirrorPoints, mirrorRotations, solveTranslation, project, unproject, type Affine,
} from './geometry.ts';
import { moved, nearestOf, product, rotated, type Vector } from './linear.ts';
import type { Box, Camera, Hand, Side } from './types.ts';

/** The exported mesh network's outputs by name, for one crop, flat. */
export type Outputs = Readonly<Record<string, Float32Array>>;

/** How a crop was taken: the square of the image, whose hand it shows, and its side in crop pixels. */
export interface Crop {
  readonly box: Box;
  readonly side: Side;
  readonly size: number;
}

/** From image pixels to crop pixels; a left hand is shown mirrored, which makes it a right one. */
export function affineOf(crop: Crop): Affine {
  return cropAffine(crop.box, crop.size, crop.side === 'left');
}

/**
 * The hand that the network saw in `crop`, in the camera's frame; null where its numbers are no hand. With an
 * alignment, it is bent towards the joints found in the crop.
 */
export function toCameraFrame(outputs: Outputs, crop: Crop, camera: Camera, alignment?: Alignment | null): Hand | null {
  if (!isPlausible(outputs)) {
    return null;
  }
  const toCamera = viewRotation(camera, crop.box);
  const found = imageJoints(outputs, crop);
  const uncertainty = foundUncertainty(outputs);
  const contact = contactIn(outputs);
  const towards = alignment && bent(outputs, crop, found, uncertainty, toCamera, camera, alignment, contact);
  const posed = towards || asPosed(outputs);
  const { vertices, joints, rotations } = inCameraAxes(posed, crop, toCamera);
  const root = solveTranslation(joints, found, camera, weightsOf(uncertainty));
  const jointsM = moved(joints, root);
  return {
    verticesM: moved(vertices, root),
    jointsM,
    jointsPx: project(jointsM, camera),
    side: crop.side,
    score: logistic(outputs['presence']![0]!),
    pose: rotations,
    shape: Float64Array.from(outputs['shape']!),
    contact,
    id: 0,
    visibleS: 0,
    predicted: false,
  };
}

/** Whether all numbers are finite, of a hand's size, and the rotations rotate. */
export function isPlausible(outputs: Outputs): boolean {
  const vertices = outputs['vertices_m']!; // they follow from the rest: a look at each would only take long
  const bounded = Object.entries(LARGEST_OUTPUTS).every(([name, limit]) =>
    (outputs[name] ?? []).every((value) => Math.abs(value) <= limit),
  );
  return (
    bounded &&
    Math.abs(vertices.reduce((sum, value) => sum + value, 0)) <= vertices.length &&
    extentOf(outputs['joints_m']!) >= SMALLEST_M &&
    areRotations(outputs['rotations']!)
  );
}

/** Whether the first two rows of each are orthonormal and the third is their cross product. */
function areRotations(matrices: Float32Array): boolean {
  for (let i = 0; i < matrices.length; i += 9) {
    const [a, b, c, d, e, f, ...third] = matrices.subarray(i, i + 9) as unknown as number[];
    const cross = [b! * f! - c! * e!, c! * d! - a! * f!, a! * e! - b! * d!];
    const lengths = [[a, b, c], [d, e, f], third].map(([x, y, z]) => x! * x! + y! * y! + z! * z! - 1);
    const departures = [...lengths, a! * d! + b! * e! + c! * f!, ...cross.map((value, k) => value - third[k]!)];
    if (!departures.every((departure) => Math.abs(departure) < 1e-2)) {
      return false;
    }
  }
  return true;
}

/** (21, 2) the joints that the network saw in the crop, in pixels of the image. */
export function imageJoints(outputs: Outputs, { box, side }: Crop): Float64Array {
  const c = (box.sizePx / 2) * Math.cos(box.angleRad);
  const s = (box.sizePx / 2) * Math.sin(box.angleRad);
  const flip = side === 'left' ? -1 : 1;
  const joints = outputs['joints_crop']!;
  const pixels = new Float64Array(joints.length);
  for (let i = 0; i < joints.length; i += 2) {
    const [x, y] = [flip * joints[i]!, joints[i + 1]!];
    pixels[i] = c * x - s * y + box.centrePx[0];
    pixels[i + 1] = s * x + c * y + box.centrePx[1];
  }
  return pixels;
}

/** (4,) probabilities that the thumb touches each finger; null where the network does not tell. */
function contactIn({ contact }: Outputs): Float32Array | null {
  return contact ? contact.map(logistic) : null;
}

/** The errors to expect of the joints found in the crop, in half crop sides, none of them too small. */
export function foundUncertainty(outputs: Outputs): Float64Array {
  return Float64Array.from({ length: 21 }, (_, j) => Math.max(outputs['spread']![2 * j]!, LEAST_UNCERTAINTY));
}

const weightsOf = (uncertainty: Float64Array) => [...uncertainty].map((value) => 1 / Math.sqrt(value));

/** Vertices and joints about the root joint and rotations, of a right hand in the crop's own view. */
interface Posed {
  readonly vertices: Float32Array;
  readonly joints: Float64Array;
  readonly rotations: Float64Array;
}

function asPosed(outputs: Outputs): Posed {
  return {
    vertices: Float32Array.from(outputs['vertices_m']!),
    joints: Float64Array.from(outputs['joints_m']!),
    rotations: Float64Array.from(outputs['rotations']!),
  };
}

/** The crop's own view as a camera, whose pixels are x / z and y / z. */
const VIEW: Camera = { fx: 1, fy: 1, cx: 0, cy: 0, width: 1, height: 1 };

/** The hand bent towards the joints found; null where the crop's view has them beside it or behind. */
function bent(
  outputs: Outputs, crop: Crop, foundPx: Float64Array, uncertainty: Float64Array, toCamera: Float64Array, camera: Camera,
  alignment: Alignment, contact: Float32Array | null,
): Posed | null {
  const rays = new Float64Array(63);
  for (let j = 0; j < 21; j++) {
    rays.set(unproject(foundPx[2 * j]!, foundPx[2 * j + 1]!, 1, camera), 3 * j);
  }
  rotated(rays, toCamera.map((_, i) => toCamera[3 * (i % 3) + Math.floor(i / 3)]!));
  if (nearestOf(rays) < LEAST_AHEAD * rays.reduce((most, value) => Math.max(most, Math.abs(value)), 0)) {
    return null;
  }
  const flip = crop.side === 'left' ? -1 : 1;
  const found = new Float64Array(42);
  for (let j = 0; j < 21; j++) {
    found.set([(flip * rays[3 * j]!) / rays[3 * j + 2]!, rays[3 * j + 1]! / rays[3 * j + 2]!], 2 * j);
  }
  const given = asPosed(outputs);
  const root = solveTranslation(given.joints, found, VIEW, weightsOf(uncertainty));
  const rest = alignment.model.rest(Float64Array.from(outputs['shape']!));
  const seen = uncertainty.map((value) => (value * crop.box.sizePx) / (camera.fx + camera.fy));
  const rotations = alignment.bent(given.rotations, rest, found, seen, root, contact);
  const { vertices, joints } = alignment.model.posed(rotations, rest);
  const back = [0, 1, 2].map((axis) => -joints[3 * ROOT + axis]!) as Vector;
  return { vertices: moved(vertices, back), joints: moved(joints, back), rotations };
}

/** The same, un-mirrored and in the camera's axes. */
function inCameraAxes(posed: Posed, crop: Crop, toCamera: Float64Array): Posed {
  let { vertices, joints, rotations } = posed;
  if (crop.side === 'left') {
    [vertices, joints, rotations] = [mirrorPoints(vertices), mirrorPoints(joints), mirrorRotations(rotations)];
  }
  rotations.set(product(toCamera, rotations.subarray(0, 9)));
  return { vertices: rotated(vertices, toCamera), joints: rotated(joints, toCamera), rotations };
}
