/** Steadies a followed hand: One-Euro filters on position and rotations, one shape for all frames. */

import { BONES, D_CUTOFF_HZ, NEAREST_M, PRESETS, ROOT, SHAPE_AVERAGE_S } from '../common/constants.ts';
import { mirrorPoints, mirrorRotations, project } from './geometry.ts';
import type { Rest, SkinnedHand } from './lbs.ts';
import { moved, nearestOf, product, type Vector } from './linear.ts';
import type { Camera, Hand, Side } from './types.ts';

export type Smooth = keyof typeof PRESETS;

/** How a One-Euro filter trades jitter for lag. */
interface Cutoff {
  readonly minCutoffHz: number; // cut-off while nothing moves: lower is steadier
  readonly beta: number; // Hz gained per unit of speed: higher lags less
  readonly jump: number; // a longer displacement than this is no motion, but a mistake that ends: it is gone at once
}

/** One preset: a cut-off for each thing that is smoothed, in its own unit of speed. */
interface SmoothingPreset {
  readonly bearing: Cutoff; // direction of the root, image widths at unit focal length a second
  readonly distance: Cutoff; // log of the root's depth a second
  readonly rotation: Cutoff; // radians a second, of the wrist and of each joint
}

/**
 * A low-pass filter of one vector whose cut-off rises with speed: steady at rest, quick in motion.
 *
 * Source: Casiez, Roussel and Vogel, 1 Euro Filter (2012), with the speed taken as the length of the
 * smoothed derivative.
 */
export class OneEuro {
  private readonly cutoff: Cutoff;
  private readonly unit: number; // lengths are counted in it
  private raw: Float64Array | null = null;
  private smooth: Float64Array = new Float64Array();
  private derivative: Float64Array = new Float64Array();

  constructor(cutoff: Cutoff, unit = 1) {
    this.cutoff = cutoff;
    this.unit = unit;
  }

  /** The filtered `value`, `dtS` after the one before; null starts anew from `value`. */
  step(value: Float64Array, dtS: number | null): Float64Array {
    if (this.raw === null || dtS === null) {
      [this.smooth, this.derivative] = [value, new Float64Array(value.length)];
    } else {
      this.follow(value, this.raw, dtS);
    }
    this.raw = value;
    return this.smooth;
  }

  private follow(value: Float64Array, before: Float64Array, dtS: number): void {
    const settling = gain(D_CUTOFF_HZ, dtS);
    this.derivative = this.derivative.map((old, i) => old + settling * ((value[i]! - before[i]!) / dtS - old));
    const speed = Math.hypot(...this.derivative) / this.unit;
    const displacement = value.map((to, i) => to - this.smooth[i]!);
    const isJump = Math.hypot(...displacement) / this.unit > (this.cutoff.jump);
    const weight = isJump ? 1 : gain(this.cutoff.minCutoffHz + this.cutoff.beta * speed, dtS);
    this.smooth = this.settled(this.smooth.map((from, i) => from + weight * displacement[i]!));
  }

  /** What the filtered vector must be brought back to. */
  protected settled(value: Float64Array): Float64Array {
    return value;
  }
}

/** The same filter on one (3, 3) rotation, a vector whose chord over the root of two is the angle. */
export class RotationOneEuro extends OneEuro {
  constructor(cutoff: Cutoff) {
    super(cutoff, Math.SQRT2);
  }

  protected override settled(value: Float64Array): Float64Array {
    return nearestRotation(value);
  }
}

/** A (3, 3) matrix near to a rotation, made one by Newton and Schulz's steps to the polar factor. */
export function nearestRotation(matrix: Float64Array, steps = 2): Float64Array {
  for (let step = 0; step < steps; step++) {
    const from = matrix;
    const transposed = from.map((_, i) => from[3 * (i % 3) + Math.floor(i / 3)]!);
    const cube = product(from, product(transposed, from));
    matrix = from.map((value, i) => 1.5 * value - 0.5 * cube[i]!);
  }
  return matrix;
}

/** The weight of the new value in a first-order low-pass filter. */
function gain(cutoffHz: number, dtS: number): number {
  return 1 / (1 + 1 / (2 * Math.PI * cutoffHz * dtS));
}

/** The one shape of a followed hand: the mean over its first seconds, which rests from then on. */
class ShapeAverage {
  private readonly model: SkinnedHand;
  private frames = 0;
  private seenS = 0;
  private shape: Float64Array = new Float64Array(10);
  private restingHand: Rest | null = null;

  constructor(model: SkinnedHand) {
    this.model = model;
  }

  /** The (10,) shape to show and the unposed hand of it; `shape` is what the network says in this frame. */
  step(shape: Float64Array, dtS: number | null): { shape: Float64Array; rest: Rest } {
    if (this.restingHand === null || this.seenS <= SHAPE_AVERAGE_S) {
      this.frames += 1;
      this.seenS += dtS ?? 0;
      this.shape = this.shape.map((mean, i) => mean + (shape[i]! - mean) / this.frames);
      this.restingHand = this.model.rest(this.shape);
    }
    return { shape: this.shape, rest: this.restingHand };
  }
}

/** The filters of one followed hand. */
export class HandSmoother {
  private readonly preset: SmoothingPreset | null;
  private readonly model: SkinnedHand;
  private readonly filters: { bearing: OneEuro; distance: OneEuro; rotations: OneEuro[] } | null;
  private readonly shape: ShapeAverage;

  constructor(smooth: Smooth, model: SkinnedHand) {
    this.preset = PRESETS[smooth];
    this.model = model;
    this.shape = new ShapeAverage(model);
    this.filters = this.preset && {
      bearing: new OneEuro(this.preset.bearing),
      distance: new OneEuro(this.preset.distance),
      rotations: Array.from({ length: 16 }, () => new RotationOneEuro(this.preset!.rotation)),
    };
  }

  /** `hand`, seen `dtS` after the one before, steadied; null starts anew from it. */
  step(hand: Hand, camera: Camera, dtS: number | null): Hand {
    if (!this.filters) {
      return hand;
    }
    const { shape, rest } = this.shape.step(hand.shape, dtS);
    const pose = new Float64Array(144);
    this.filters.rotations.forEach((rotation, i) => pose.set(rotation.step(hand.pose.slice(9 * i, 9 * i + 9), dtS), 9 * i));
    const { vertices, joints } = posed(this.model, pose, rest, hand.side);
    // The image tells how large a hand looks: one of another size is as much farther away.
    const growth = bonesM(joints) / bonesM(hand.jointsM);
    const position = this.smoothPosition(rootOf(hand.jointsM).map((value) => growth * value) as Vector, dtS);
    const shift = rootOf(joints).map((value, axis) => position[axis]! - value) as Vector;
    shift[2] = Math.max(shift[2], NEAREST_M - nearestOf(joints)); // turned anew, a near hand may reach behind it
    const jointsM = moved(joints, shift);
    return { ...hand, verticesM: moved(vertices, shift), jointsM, jointsPx: project(jointsM, camera), pose, shape };
  }

  /** The root, its direction apart from its distance, of which an image tells far less. */
  private smoothPosition([x, y, z]: Vector, dtS: number | null): Vector {
    const [across, down] = this.filters!.bearing.step(Float64Array.of(x / z, y / z), dtS);
    const depth = Math.exp(this.filters!.distance.step(Float64Array.of(Math.log(z)), dtS)[0]!);
    return [across! * depth, down! * depth, depth];
  }
}

/** Vertices and joints of a hand of `side`, whose rotations are in its own, unmirrored image. */
function posed(model: SkinnedHand, pose: Float64Array, rest: Rest, side: Side) {
  const hand = model.posed(side === 'right' ? pose : mirrorRotations(pose), rest);
  return side === 'right' ? hand : { vertices: mirrorPoints(hand.vertices), joints: mirrorPoints(hand.joints) };
}

/** The root joint's position, of (21, 3) joints. */
export function rootOf(jointsM: Float64Array): Vector {
  return [jointsM[3 * ROOT]!, jointsM[3 * ROOT + 1]!, jointsM[3 * ROOT + 2]!];
}

/** The length of all bones together, which tells a hand's size. */
function bonesM(jointsM: Float64Array): number {
  const end = (joint: number, axis: number) => jointsM[3 * joint + axis]!;
  return BONES.reduce(
    (sum, [parent, child]) => sum + Math.hypot(...[0, 1, 2].map((k) => end(child!, k) - end(parent!, k))), 0,
  );
}
