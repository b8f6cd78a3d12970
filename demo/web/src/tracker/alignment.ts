/**
 * Bends the posed hand towards the joints that the network found in the crop, by one damped step of Gauss and
 * Newton. The Python module of this name has the formula.
 */

import {
  BACK_OF_HAND, FINGER_RAD, KEYPOINTS, LEAST_CONTACT, MANO_JOINTS, MOST_DEVIATIONS, PARENTS, POSITION_M, ROOT, THUMBNAIL,
  TOUCH_M, TOUCHING_M, WRIST_RAD,
} from '../common/constants.ts';
import { gapOf } from './gestures.ts';
import { jointChain, type Rest, type SkinnedHand } from './lbs.ts';
import { product, solved, type Vector } from './linear.ts';

/** A rotation that the hand may make: of which joint, about which axis in its bone's frame, and how far it usually goes. */
interface Angle {
  readonly joint: number;
  readonly axis: Vector;
  readonly deviation: number;
}

/** Bends one parametric hand. Holds no state between calls. */
export class Alignment {
  readonly model: SkinnedHand;
  private readonly angles: Angle[];

  constructor(model: SkinnedHand) {
    this.model = model;
    this.angles = [[1, 0, 0], [0, 1, 0], [0, 0, 1]].map((axis) => ({
      joint: 0, axis: axis as Vector, deviation: WRIST_RAD,
    }));
    const keypoints = model.keypointsAt(model.rest(new Float64Array(10)));
    MANO_JOINTS.forEach((name, joint) => {
      if (joint > 0) {
        const axes = hinges(name, keypoints).slice(0, name.endsWith('1') ? 2 : 1);
        this.angles.push(...axes.map((axis) => ({ joint, axis, deviation: FINGER_RAD })));
      }
    });
  }

  /**
   * (16, 3, 3) rotations, bent towards the joints found.
   *
   * `found`: (21, 2) the joints' x / z and y / z as the camera of the first rotation sees them; `uncertainty`: (21,) the
   * error to expect of each coordinate; `rootM`: the place of the root joint, with all joints before the camera;
   * `contact`: (4,) probabilities that the thumb touches each finger.
   */
  bent(
    rotations: Float64Array, rest: Rest, found: Float64Array, uncertainty: Float64Array, rootM: Vector,
    contact: Float32Array | null = null,
  ): Float64Array {
    const step = this.step(rotations, rest, found, uncertainty, rootM, contact);
    const vectors = new Float64Array(48);
    this.angles.forEach(({ joint, axis, deviation }, k) => {
      const most = MOST_DEVIATIONS * deviation;
      const angle = Math.min(Math.max(step[k]!, -most), most);
      axis.forEach((value, i) => (vectors[3 * joint + i]! += angle * value));
    });
    const bent = new Float64Array(144);
    for (let joint = 0; joint < 16; joint++) {
      const bend = rotation(vectors.subarray(3 * joint, 3 * joint + 3));
      bent.set(product(rotations.subarray(9 * joint, 9 * joint + 9), bend), 9 * joint);
    }
    return bent;
  }

  /** The rotations and the displacement of the position that solve the normal equations. */
  private step(
    rotations: Float64Array, rest: Rest, found: Float64Array, uncertainty: Float64Array, rootM: Vector,
    contact: Float32Array | null,
  ): Float64Array {
    const { joints, slopes } = this.jointsAndSlopes(rotations, rest);
    const size = this.angles.length + 3;
    const normal = new Float64Array(size * size);
    const right = new Float64Array(size);
    const [rowX, rowY] = [new Float64Array(size), new Float64Array(size)];
    for (let j = 0; j < 21; j++) {
      const [x, y, z] = [0, 1, 2].map((axis) => joints[3 * j + axis]! - joints[3 * ROOT + axis]! + rootM[axis]!);
      const [u, v] = [x! / z!, y! / z!];
      const weight = 1 / uncertainty[j]!;
      const near = weight / z!;
      for (let k = 0; k < size - 3; k++) {
        const at = 3 * (21 * k + j);
        rowX[k] = (slopes[at]! - u * slopes[at + 2]!) * near;
        rowY[k] = (slopes[at + 1]! - v * slopes[at + 2]!) * near;
      }
      rowX.set([near, 0, -u * near], size - 3);
      rowY.set([0, near, -v * near], size - 3);
      addSquare(normal, right, rowX, (found[2 * j]! - u) * weight);
      addSquare(normal, right, rowY, (found[2 * j + 1]! - v) * weight);
    }
    if (contact && contact.some((probability) => probability > LEAST_CONTACT)) {
      contact.forEach((probability, finger) => {
        const { row, lacking } = nearer(joints, slopes, finger, size);
        const weight = probability / TOUCH_M;
        addSquare(normal, right, row.map((slope) => slope * weight), lacking * weight);
      });
    }
    for (let k = 0; k < size; k++) {
      normal[k * (size + 1)]! += (this.angles[k]?.deviation ?? POSITION_M) ** -2;
    }
    return solved(normal, right);
  }

  /** (21, 3) joints in keypoint order, and their (turns, 21, 3) derivatives by the rotations. */
  private jointsAndSlopes(rotations: Float64Array, rest: Rest): { joints: Float64Array; slopes: Float64Array } {
    const { globalRotations, globalPositions } = jointChain(rotations, rest.jointsM);
    const weights = this.model.keypointWeights(rest);
    const joints = new Float64Array(63);
    const moved = new Float64Array(16 * 21 * 4); // of each joint: what it moves of each keypoint, and what share
    for (let bone = 0; bone < 16; bone++) {
      const globalRotation = globalRotations[bone]!;
      const [shiftX, shiftY, shiftZ] = [0, 1, 2].map((axis) => {
        const row = 3 * axis;
        const at = rest.jointsM.subarray(3 * bone, 3 * bone + 3);
        return globalPositions[bone]![axis]! - globalRotation[row]! * at[0]! - globalRotation[row + 1]! * at[1]! - globalRotation[row + 2]! * at[2]!;
      });
      for (let j = 0; j < 21; j++) {
        const [x, y, z, weight] = weights.subarray(4 * (16 * j + bone), 4 * (16 * j + bone) + 4) as unknown as number[];
        const part = [
          globalRotation[0]! * x! + globalRotation[1]! * y! + globalRotation[2]! * z! + shiftX! * weight!,
          globalRotation[3]! * x! + globalRotation[4]! * y! + globalRotation[5]! * z! + shiftY! * weight!,
          globalRotation[6]! * x! + globalRotation[7]! * y! + globalRotation[8]! * z! + shiftZ! * weight!,
          weight!,
        ];
        for (let axis = 0; axis < 3; axis++) {
          joints[3 * j + axis]! += part[axis]!;
        }
        for (let joint = bone; joint >= 0; joint = PARENTS[joint]!) {
          part.forEach((value, k) => (moved[4 * (21 * joint + j) + k]! += value));
        }
      }
    }
    return { joints, slopes: this.slopes(globalRotations, globalPositions, moved) };
  }

  private slopes(globalRotations: Float64Array[], globalPositions: number[][], moved: Float64Array): Float64Array {
    const slopes = new Float64Array(3 * 21 * this.angles.length);
    this.angles.forEach(({ joint, axis }, k) => {
      const [ax, ay, az] = [0, 3, 6].map((row) => dot(globalRotations[joint]!.subarray(row, row + 3), axis));
      const [px, py, pz] = globalPositions[joint]!;
      for (let j = 0; j < 21; j++) {
        const [x, y, z, weight] = moved.subarray(4 * (21 * joint + j), 4 * (21 * joint + j) + 4) as unknown as number[];
        const [dx, dy, dz] = [x! - weight! * px!, y! - weight! * py!, z! - weight! * pz!];
        slopes.set([ay! * dz - az! * dy, az! * dx - ax! * dz, ax! * dy - ay! * dx], 3 * (21 * k + j));
      }
    });
    return slopes;
  }
}

/**
 * The slopes of the distance between the last phalanges of thumb and finger, and what it lacks of touching ones; zeros
 * where it lacks nothing.
 */
function nearer(
  joints: Float64Array, slopes: Float64Array, finger: number, size: number,
): { row: Float64Array; lacking: number } {
  const { ends, weights, gap } = gapOf(joints, finger);
  const distance = Math.hypot(...gap);
  const lacking = Math.min(TOUCHING_M - distance, 0);
  const row = new Float64Array(size);
  for (let k = 0; lacking < 0 && k < size - 3; k++) {
    ends.forEach((joint, i) => {
      const at = 3 * (21 * k + joint);
      row[k]! += (weights[i]! * dot(gap, slopes.subarray(at, at + 3))) / distance;
    });
  }
  return { row, lacking };
}

/** A finger joint's axes of flexion and abduction, in the hand's rest frame. */
function hinges(name: (typeof MANO_JOINTS)[number], keypoints: Float64Array): [Vector, Vector] {
  const start = KEYPOINTS.indexOf(name);
  const bone = unit([0, 1, 2].map((axis) => keypoints[3 * start + 3 + axis]! - keypoints[3 * start + axis]!));
  const given = name.startsWith('thumb') ? THUMBNAIL : BACK_OF_HAND;
  const along = dot(given, bone);
  const back = unit(given.map((value, axis) => value - along * bone[axis]!));
  return [cross(back, bone), back];
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return a[0]! * b[0]! + a[1]! * b[1]! + a[2]! * b[2]!;
}

function unit(vector: number[]): Vector {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length) as Vector;
}

function cross([a, b, c]: Vector, [x, y, z]: Vector): Vector {
  return [b * z - c * y, c * x - a * z, a * y - b * x];
}

/** Adds a row's outer product with itself and with its right-hand side to the normal equations. */
function addSquare(normal: Float64Array, right: Float64Array, row: Float64Array, off: number): void {
  for (let i = 0, at = 0; i < row.length; i++) {
    right[i]! += row[i]! * off;
    for (let k = 0; k < row.length; k++, at++) {
      normal[at]! += row[i]! * row[k]!;
    }
  }
}

/** The (3, 3) rotation of a rotation vector, by Rodrigues' formula. */
function rotation(vector: Float64Array): Float64Array {
  const [x, y, z] = vector as unknown as Vector;
  const angle = Math.hypot(x, y, z);
  const bySine = angle > 1e-8 ? Math.sin(angle) / angle : 1;
  const byCosine = angle > 1e-8 ? 2 * (Math.sin(angle / 2) / angle) ** 2 : 0.5;
  const skew = Float64Array.of(0, -z, y, z, 0, -x, -y, x, 0);
  const square = product(skew, skew);
  return skew.map((value, i) => (i % 4 === 0 ? 1 : 0) + bySine * value + byCosine * square[i]!);
}
