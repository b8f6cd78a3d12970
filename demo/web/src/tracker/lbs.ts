/** The parametric hand: smoothed hands are posed anew from their rotations and one shape. */

import { KEYPOINT_OF_MANO, PARENTS } from '../common/constants.ts';
import { product } from './linear.ts';

/** A hand of one shape before it is posed, in the model's frame. */
export interface Rest {
  readonly verticesM: Float32Array; // (V, 3)
  readonly jointsM: Float64Array; // (16, 3), MANO order
}

/** The network file's constant outputs by name, flat: `hand_template` and so on; `hand_posedirs` may be missing. */
export type HandConstants = Readonly<Record<string, Float32Array>>;

/** A right hand with V vertices, 16 rotating joints and 10 shape parameters. */
export class SkinnedHand {
  private readonly constants: HandConstants;
  private readonly count: number;
  private weightList: readonly number[] | null = null;

  constructor(constants: HandConstants) {
    this.constants = constants;
    this.count = constants['hand_template']!.length / 3;
  }

  /** The unposed hand of (10,) shape parameters. */
  rest(shape: Float64Array): Rest {
    const directions = this.constants['hand_shapedirs']!;
    const verticesM = this.constants['hand_template']!.map((value, i) => value + dot(directions, i, shape));
    const keypoints = this.keypoints(verticesM);
    const jointsM = Float64Array.from(KEYPOINT_OF_MANO.flatMap((k) => [...keypoints.subarray(3 * k, 3 * k + 3)]));
    return { verticesM, jointsM };
  }

  /** (V, 3) vertices and (21, 3) joints, keypoint order, by linear blend skinning; the wrist stays where it was. */
  posed(rotations: Float64Array, rest: Rest): { vertices: Float32Array; joints: Float64Array } {
    const transforms = jointTransforms(rotations, rest.jointsM);
    const vertices = this.skinned(this.bent(rotations, rest.verticesM), transforms);
    return { vertices, joints: this.keypoints(vertices) };
  }

  /** (21, 3) joints of the unposed hand, in keypoint order. */
  keypointsAt(rest: Rest): Float64Array {
    return this.keypoints(rest.verticesM);
  }

  /** (21, 16, 4): what each keypoint has of each rotating joint's x, y, z and 1, so that posing it is one product. */
  keypointWeights(rest: Rest): Float64Array {
    const list = (this.weightList ??= this.listWeights());
    const weights = new Float64Array(21 * 16 * 4);
    for (let i = 0; i < list.length; i += 3) {
      const [at, vertex, weight] = [4 * list[i]!, 3 * list[i + 1]!, list[i + 2]!];
      weights[at]! += weight * rest.verticesM[vertex]!;
      weights[at + 1]! += weight * rest.verticesM[vertex + 1]!;
      weights[at + 2]! += weight * rest.verticesM[vertex + 2]!;
      weights[at + 3]! += weight;
    }
    return weights;
  }

  /** Keypoint and joint, vertex and fraction of all that are not zero, one after the other. */
  private listWeights(): number[] {
    const [regressor, weights] = [this.constants['hand_keypoint_regressor']!, this.constants['hand_weights']!];
    const list: number[] = [];
    regressor.forEach((part, i) => {
      const [keypoint, vertex] = [Math.floor(i / this.count), i % this.count];
      for (let joint = 0; part && joint < 16; joint++) {
        const weight = weights[16 * vertex + joint]!;
        if (weight) {
          list.push(16 * keypoint + joint, vertex, part * weight);
        }
      }
    });
    return list;
  }

  /** The rest vertices with what the pose itself adds to them, where the hand has such a thing. */
  private bent(rotations: Float64Array, vertices: Float32Array): Float32Array {
    const directions = this.constants['hand_posedirs'];
    if (!directions) {
      return vertices;
    }
    const departures = rotations.slice(9).map((value, i) => value - (i % 9 % 4 === 0 ? 1 : 0));
    return vertices.map((value, i) => value + dot(directions, i, departures));
  }

  private skinned(vertices: Float32Array, transforms: Float64Array): Float32Array {
    const weights = this.constants['hand_weights']!;
    const out = new Float32Array(vertices.length);
    for (let v = 0; v < this.count; v++) {
      const x = vertices[3 * v]!;
      const y = vertices[3 * v + 1]!;
      const z = vertices[3 * v + 2]!;
      for (let joint = 0; joint < 16; joint++) {
        const weight = weights[16 * v + joint]!;
        for (let axis = 0, t = 12 * joint; weight && axis < 3; axis++, t += 4) {
          const position = transforms[t]! * x + transforms[t + 1]! * y + transforms[t + 2]! * z + transforms[t + 3]!;
          out[3 * v + axis]! += weight * position;
        }
      }
    }
    return out;
  }

  /** (21, 3) joints from vertices. */
  private keypoints(vertices: Float32Array): Float64Array {
    const regressor = this.constants['hand_keypoint_regressor']!;
    const joints = new Float64Array(63);
    for (let i = 0; i < regressor.length; i++) {
      const weight = regressor[i]!;
      if (weight) {
        const joint = 3 * Math.floor(i / this.count);
        const vertex = 3 * (i % this.count);
        joints[joint]! += weight * vertices[vertex]!;
        joints[joint + 1]! += weight * vertices[vertex + 1]!;
        joints[joint + 2]! += weight * vertices[vertex + 2]!;
      }
    }
    return joints;
  }
}

/** Row `row` of a matrix as wide as `vector`, times it. */
function dot(matrix: Float32Array, row: number, vector: Float64Array): number {
  let sum = 0;
  for (let k = 0, from = row * vector.length; k < vector.length; k++) {
    sum += matrix[from + k]! * vector[k]!;
  }
  return sum;
}

/** (16, 3, 4) from the rest pose to the posed hand, MANO order. */
function jointTransforms(rotations: Float64Array, restJoints: Float64Array): Float64Array {
  const { globalRotations, globalPositions } = jointChain(rotations, restJoints);
  const transforms = new Float64Array(16 * 12);
  globalRotations.forEach((globalRotation, joint) => {
    const back = apply(globalRotation, [...restJoints.subarray(3 * joint, 3 * joint + 3)]);
    for (let axis = 0; axis < 3; axis++) {
      const shift = globalPositions[joint]![axis]! - back[axis]!;
      transforms.set([...globalRotation.subarray(3 * axis, 3 * axis + 3), shift], 12 * joint + 4 * axis);
    }
  });
  return transforms;
}

/** The (3, 3) turns and the places of the 16 posed joints in the model's frame, MANO order. */
export function jointChain(rotations: Float64Array, restJoints: Float64Array) {
  const globalRotations: Float64Array[] = [];
  const globalPositions: number[][] = [];
  PARENTS.forEach((parent, joint) => {
    const own = rotations.subarray(9 * joint, 9 * joint + 9);
    const at = [...restJoints.subarray(3 * joint, 3 * joint + 3)];
    globalRotations.push(parent < 0 ? own : product(globalRotations[parent]!, own));
    const bone = at.map((value, axis) => value - restJoints[3 * parent + axis]!);
    globalPositions.push(parent < 0 ? at : apply(globalRotations[parent]!, bone).map((value, axis) => value + globalPositions[parent]![axis]!));
  });
  return { globalRotations, globalPositions };
}

function apply(matrix: Float64Array, [x, y, z]: number[]): number[] {
  return [0, 3, 6].map((row) => matrix[row]! * x! + matrix[row + 1]! * y! + matrix[row + 2]! * z!);
}
