/** Which fingers meet the thumb, by the joints and by what the network tells of contact; see the Python module of this name. */

import {
  CONTACT_EVEN, CONTACT_HELD, CONTACT_LENGTH, FINGER_CHAINS, PINCH_BEGINS, PINCH_ENDS, PINCH_MOST_DEG, THUMB_LAST,
} from '../common/constants.ts';
import { logit } from './geometry.ts';
import type { Vector } from './linear.ts';
import type { Hand } from './types.ts';

/** For each finger, the index first, whether it pinches; `before`: whether it did in the frame before. */
export function pinches({ jointsM, contact }: Pick<Hand, 'jointsM' | 'contact'>, before: readonly boolean[]): boolean[] {
  const length = lengthsOf(bonesOf(jointsM, 1)).reduce((sum, bone) => sum + bone, 0);
  return FINGER_CHAINS.map((_, finger) => {
    const isHeld = before[finger] ?? false;
    const told = contact ? CONTACT_LENGTH * (logit(contact[finger]!) - CONTACT_EVEN + (isHeld ? CONTACT_HELD : 0)) : 0;
    const seeming = Math.hypot(...gapOf(jointsM, finger).gap) / length - told;
    const isNear = seeming < (isHeld ? PINCH_ENDS : PINCH_BEGINS);
    return isNear && (Boolean(contact) || bendDeg(bonesOf(jointsM, finger)) < PINCH_MOST_DEG);
  });
}

/** What takes joints to the gap between the last phalanges of thumb and finger, and that gap, for (21, 3) joints. */
export function gapOf(joints: Float64Array, finger: number): { ends: number[]; weights: number[]; gap: number[] } {
  const ends: number[] = [...THUMB_LAST, ...FINGER_CHAINS[finger]!.slice(3)];
  const weights = nearestWeights(ends.map((joint) => [...joints.subarray(3 * joint, 3 * joint + 3)] as unknown as Vector));
  const gap = [0, 1, 2].map((axis) => ends.reduce((sum, joint, i) => sum + weights[i]! * joints[3 * joint + axis]!, 0));
  return { ends, weights, gap };
}

/**
 * What takes the ends of two lines, p0 p1 and q0 q1, to the gap between their nearest points, the first's less the
 * second's. Ericson, Real-Time Collision Detection (2005), 5.1.9.
 */
function nearestWeights([p0, p1, q0, q1]: Vector[]): number[] {
  const [u, v, r] = [difference(p1!, p0!), difference(q1!, q0!), difference(p0!, q0!)];
  const [a, e, b, c, f] = [dot(u, u), dot(v, v), dot(v, u), dot(r, u), dot(v, r)];
  const clipped = (value: number) => Math.min(Math.max(value, 0), 1);
  const first = clipped((b * f - c * e) / Math.max(a * e - b * b, 1e-12));
  const t = clipped((b * first + f) / e);
  const s = clipped((b * t - c) / a);
  return [1 - s, s, t - 1, -t];
}

/** The bones of a finger from the wrist to its tip. */
function bonesOf(joints: Float64Array, finger: number): Vector[] {
  const at = (joint: number) => [...joints.subarray(3 * joint, 3 * joint + 3)] as unknown as Vector;
  const chain = FINGER_CHAINS[finger]!;
  return chain.slice(1).map((joint, k) => difference(at(joint), at(chain[k]!)));
}

const lengthsOf = (bones: Vector[]) => bones.map((bone) => Math.hypot(...bone));

/** The angles from each bone to the next, together. */
function bendDeg(bones: Vector[]): number {
  const lengths = lengthsOf(bones);
  const angles = bones.slice(1).map((bone, k) => {
    const cosine = dot(bone, bones[k]!) / (lengths[k]! * lengths[k + 1]!);
    return Math.acos(Math.min(Math.max(cosine, -1), 1));
  });
  return (angles.reduce((sum, angle) => sum + angle, 0) * 180) / Math.PI;
}

function difference([a, b, c]: Vector, [x, y, z]: Vector): Vector {
  return [a - x, b - y, c - z];
}

function dot([a, b, c]: Vector, [x, y, z]: Vector): number {
  return a * x + b * y + c * z;
}
