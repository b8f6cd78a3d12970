/** A hand as WebXR Hand Input has it: 25 joints with their orientations and radii. The twin of handmesh/xr/poses.py. */

import {
  BACK_OF_HAND, DEFAULT_RADII_M, KEYPOINTS, LARGEST_RADIUS_M, LITTLE_TWIST_DEG, MANO_JOINTS, METACARPALS,
  NEAREST_FRACTION, ROOT, SMALLEST_RADIUS_M, THUMBNAIL, TIP_INSIDE, WEBXR_JOINTS, WRIST,
} from '../common/constants.ts';
import { jointChain } from './lbs.ts';
import { type Points, rotated, type Vector } from './linear.ts';
import type { Hand } from './types.ts';

/** 25 joints in the order of `names`, in the frame of an XR view: x right, y up, z to the viewer. Arrays are flat. */
export interface XRHandPoses {
  readonly names: readonly string[];
  readonly positionsM: Float32Array; // (25, 3)
  readonly orientationsXyzw: Float32Array; // (25, 4) unit quaternions, w not negative
  readonly radiiM: Float32Array; // (25,)
}

interface Joint {
  readonly finger: 'index' | 'middle' | 'ring' | 'little' | 'thumb' | '';
  readonly number: number; // of its keypoint in the finger, from 1; 0: an emulated metacarpal
  readonly rotatedBy: number; // the joint of `Hand.pose` that carries it
  readonly back: Vector; // where the back of its bone faces at rest
}

const PARTS = ['metacarpal', 'proximal', 'intermediate', 'distal', 'tip'];

function jointOf(name: string): Joint {
  const words = name.split('-');
  const finger = (words[0] === 'wrist' ? '' : words[0] === 'pinky' ? 'little' : words[0]) as Joint['finger'];
  const part = PARTS.indexOf(words.at(-1)!);
  const number = finger === 'thumb' ? (part < 2 ? part + 1 : part) : part;
  const mover = finger && number ? `${finger}${Math.min(number, 3)}` : 'wrist';
  const twist = finger === 'little' && number === 0 ? (LITTLE_TWIST_DEG * Math.PI) / 180 : 0;
  const unrolled: Vector = [...(finger === 'thumb' ? THUMBNAIL : BACK_OF_HAND)];
  const back: Vector = twist ? [0, Math.cos(twist), -Math.sin(twist)] : unrolled;
  return { finger, number, rotatedBy: MANO_JOINTS.findIndex((joint) => joint === mover), back };
}

const JOINTS: readonly Joint[] = WEBXR_JOINTS.map(jointOf);

/**
 * The 25 joints of a hand. At each, -Z runs along the bone to the fingertip and +Y leaves the back of the hand.
 * `radiiM`: what this gave for the same hand before; they are measured on the mesh otherwise, which takes longest.
 */
export function toWebXR(hand: Hand, radiiM?: Float32Array): XRHandPoses {
  const { globalRotations } = jointChain(hand.pose, new Float64Array(3 * MANO_JOINTS.length));
  const backs = JOINTS.map(({ back, rotatedBy }) => rotated(Float64Array.from(back), globalRotations[rotatedBy]!));
  const points = pointsOf(hand.jointsM, backs[0]! as unknown as Vector);
  const bones = JOINTS.map((joint) => boneOf(joint, points));
  const positions = JOINTS.map((joint) => positionOf(joint, points));
  const radii = radiiM ?? measuredRadii(positions, bones, hand.verticesM);
  const size = JOINTS.length;
  const poses = { positionsM: new Float32Array(3 * size), orientationsXyzw: new Float32Array(4 * size) };
  JOINTS.forEach((joint, k) => {
    const z = unit(toView(scaled(bones[k]!, -1)));
    const back = toView([...backs[k]!] as Vector);
    const y = unit(minus(back, scaled(z, dot(back, z))));
    const inwards = joint.number === 4 ? radii[k]! : 0; // the last keypoints lie on the skin
    poses.positionsM.set(plus(toView(positions[k]!), scaled(z, inwards)), 3 * k);
    poses.orientationsXyzw.set(quaternion(cross(y, z), y, z), 4 * k);
  });
  return { names: WEBXR_JOINTS, ...poses, radiiM: radii };
}

interface Landmarks {
  readonly of: (finger: string, number: number) => Vector;
  readonly wrist: Vector;
  readonly deep: Vector; // out of the palm, as long as from the wrist to the middle knuckle
}

function pointsOf(jointsM: Float64Array, back: Vector): Landmarks {
  const at = (k: number) => [...jointsM.subarray(3 * k, 3 * k + 3)] as Vector;
  const wrist = at(WRIST);
  const bone = minus(at(ROOT), wrist);
  const deep = scaled(unit(cross(bone, cross(back, bone))), -Math.sqrt(dot(bone, bone)));
  const of = (finger: string, number: number) => at(KEYPOINTS.findIndex((name) => name === `${finger}${number}`));
  return { of, wrist, deep };
}

/** The joint in the camera's frame; a tip lies on the skin. */
function positionOf({ finger, number }: Joint, { of, wrist, deep }: Landmarks): Vector {
  if (!finger || finger === 'thumb' || number) {
    return finger ? of(finger, number) : wrist;
  }
  const [along, across, depth] = METACARPALS[finger];
  const base = plus(wrist, scaled(minus(of(finger, 1), wrist), along));
  return plus(plus(base, scaled(minus(of('index', 1), of('little', 1)), across)), scaled(deep, depth));
}

/** From the joint to the next one of its finger; a tip has its last phalanx's. */
function boneOf(joint: Joint, points: Landmarks): Vector {
  if (!joint.finger) {
    return minus(points.of('middle', 1), points.wrist);
  }
  const number = Math.min(joint.number, 3);
  return minus(positionOf({ ...joint, number: number + 1 }, points), positionOf({ ...joint, number }, points));
}

/** The mean distance of the nearest 64th of (V, 3) vertices from each joint, within bounds. */
function measuredRadii(positions: Vector[], bones: Vector[], verticesM: Points): Float32Array {
  const vertices = verticesM.length / 3;
  if (!vertices) {
    return Float32Array.from(DEFAULT_RADII_M.slice(1));
  }
  const count = Math.max(1, Math.round(vertices * NEAREST_FRACTION));
  return Float32Array.from(positions, (position, k) => {
    const centre = JOINTS[k]!.number === 4 ? minus(position, scaled(bones[k]!, TIP_INSIDE)) : position;
    const distances = Float64Array.from({ length: vertices }, (_, i) =>
      Math.hypot(verticesM[3 * i]! - centre[0], verticesM[3 * i + 1]! - centre[1], verticesM[3 * i + 2]! - centre[2]));
    const mean = distances.sort().subarray(0, count).reduce((sum, distance) => sum + distance, 0) / count;
    return Math.min(Math.max(mean, SMALLEST_RADIUS_M), LARGEST_RADIUS_M);
  });
}

/** The unit quaternion xyzw, w not negative, of the rotation whose columns are x, y, z (Shepperd, 1978). */
function quaternion(x: Vector, y: Vector, z: Vector): number[] {
  const trace = x[0] + y[1] + z[2];
  const sizes = [1 + 2 * x[0] - trace, 1 + 2 * y[1] - trace, 1 + 2 * z[2] - trace, 1 + trace];
  const largest = sizes.indexOf(Math.max(...sizes));
  const [a, b, c] = [y[2] - z[1], z[0] - x[2], x[1] - y[0]];
  const [d, e, f] = [x[1] + y[0], x[2] + z[0], y[2] + z[1]];
  const four = [[sizes[0]!, d, e, a], [d, sizes[1]!, f, b], [e, f, sizes[2]!, c], [a, b, c, sizes[3]!]][largest]!;
  const length = Math.hypot(...four) * (four[3]! < 0 ? -1 : 1);
  return four.map((value) => value / length);
}

/** From the camera's frame (y down, z forward) to the view's. */
const toView = ([x, y, z]: Vector): Vector => [x, -y, -z];
const plus = (a: Vector, b: Vector): Vector => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
const minus = (a: Vector, b: Vector): Vector => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const scaled = (a: Vector, factor: number): Vector => [a[0] * factor, a[1] * factor, a[2] * factor];
const dot = (a: Vector, b: Vector): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const unit = (a: Vector): Vector => scaled(a, 1 / Math.sqrt(dot(a, a)));
const cross = (a: Vector, b: Vector): Vector =>
  [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
