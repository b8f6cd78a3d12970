/** Hands from frame to frame: where to look next, which are lost, which the same. */

import {
  COMPANION_SIZES, LONGEST_GAP_S, LONGEST_STEP_M, MOST_COVERED, NEAREST_M, TRACKER_CONFIG, SHORTEST_GAP_S,
} from '../common/constants.ts';
import { confidenceIn, type Estimate } from './estimator.ts';
import { project } from './geometry.ts';
import { moved, nearestOf, type Vector } from './linear.ts';
import { rootOf, type HandSmoother } from './smoothing.ts';
import type { Box, Camera, Hand, Point } from './types.ts';

/** A followed hand. */
export class Track {
  readonly id: number;
  estimate: Estimate; // the last one, as the network gave it
  hand: Hand; // the last one, smoothed
  timeS: number; // of the last one
  misses = 0; // frames since
  replaced = false; // since then, a hand was found that is more likely this very one than one beside it
  sideDoubts = 0; // frames in a row in which the network saw the other side
  private begunS: number;
  private velocityPxS: Point = [0, 0];
  private velocityMS: Vector = [0, 0, 0];
  private readonly smoother: HandSmoother;

  constructor(id: number, smoother: HandSmoother, estimate: Estimate, camera: Camera, timeS: number) {
    [this.id, this.smoother, this.estimate, this.timeS, this.begunS] = [id, smoother, estimate, timeS, timeS];
    this.hand = { ...smoother.step(estimate.hand, camera, null), id };
  }

  /** Where the hand should be: its last box, moved on with its last speed, at most half a side. */
  boxAt(timeS: number): Box {
    const { box } = this.estimate;
    const gap = this.gapS(timeS);
    if (gap === null) {
      return box;
    }
    const displacementPx = Math.hypot(...this.velocityPxS) * gap;
    const limitedGap = gap * Math.min(1, (0.5 * box.sizePx) / Math.max(displacementPx, 1e-9));
    const [x, y] = box.centrePx;
    return { ...box, centrePx: [x + limitedGap * this.velocityPxS[0], y + limitedGap * this.velocityPxS[1]] };
  }

  /** Take in the hand as found at `timeS`. */
  update(estimate: Estimate, camera: Camera, timeS: number): void {
    const gap = estimate.hand.side === this.hand.side ? this.gapS(timeS) : null;
    const [from, to] = [this.estimate.box.centrePx, estimate.box.centrePx];
    this.velocityPxS = gap === null ? [0, 0] : [(to[0] - from[0]) / gap, (to[1] - from[1]) / gap];
    this.sideDoubts = estimate.agreement < 0.5 ? this.sideDoubts + 1 : 0;
    const before = rootOf(this.hand.jointsM);
    const hand = this.smoother.step(estimate.hand, camera, gap);
    this.velocityMS = rootOf(hand.jointsM).map((v, axis) => (gap ? (v - before[axis]!) / gap : 0)) as Vector;
    this.begunS = Math.min(this.begunS, timeS); // a clock may run backwards
    this.hand = { ...hand, id: this.id, visibleS: timeS - this.begunS };
    [this.estimate, this.timeS, this.misses, this.replaced] = [estimate, timeS, 0, false];
  }

  /** The hand as it should be at `timeS`: as it was, moved on with its last speed, in front of the camera. */
  predictedHand(camera: Camera, timeS: number): Hand {
    const gap = this.gapS(timeS) ?? 0;
    const displacementM = Math.hypot(...this.velocityMS) * gap;
    const limitedGap = gap * Math.min(1, LONGEST_STEP_M / Math.max(displacementM, 1e-9));
    const step = this.velocityMS.map((speed) => speed * limitedGap) as Vector;
    step[2] = Math.max(step[2], NEAREST_M - nearestOf(this.hand.jointsM));
    const jointsM = moved(this.hand.jointsM.slice(), step);
    const verticesM = moved(this.hand.verticesM.slice(), step);
    const visibleS = Math.max(0, timeS - this.begunS);
    return { ...this.hand, jointsM, verticesM, jointsPx: project(jointsM, camera), visibleS, predicted: true };
  }

  /** From where the hand should be to where `estimate` sees one, in box sides. */
  distance(estimate: Estimate, timeS: number): number {
    const box = this.boxAt(timeS);
    return apart(box, estimate.box) / box.sizePx;
  }

  /** Whether to look where the hand should be; without a detector's help no longer than its motion tells. */
  isLookedFor(timeS: number): boolean {
    return this.misses <= TRACKER_CONFIG.maxCoastFrames || this.gapS(timeS) !== null;
  }

  /** Whether a hand found now may be this one; always while it is carried on. */
  canBeReidentified(timeS: number): boolean {
    const since = timeS - this.timeS;
    return this.misses <= TRACKER_CONFIG.maxCoastFrames || (since >= 0 && since <= TRACKER_CONFIG.reidentifyS);
  }

  private gapS(timeS: number): number | null {
    const gap = timeS - this.timeS;
    return gap > 0 && gap <= LONGEST_GAP_S ? Math.max(gap, SHORTEST_GAP_S) : null;
  }
}

function apart(a: Box, b: Box): number {
  return Math.hypot(a.centrePx[0] - b.centrePx[0], a.centrePx[1] - b.centrePx[1]);
}

/**
 * The track that has probably missed the hand of `estimate`, or sees it unsurely; or null.
 *
 * One that has missed it is of its side, and not too far away; one that sees something has got this hand wrong where it
 * is less than half as far away as it is large, whichever its side.
 */
export function trackOf(sought: readonly Track[], estimate: Estimate, timeS: number): Track | null {
  const isNear = ({ track, distance }: { track: Track; distance: number }): boolean => {
    if (track.misses === 0) {
      const [seen, found] = [track.estimate.box, estimate.box];
      return apart(seen, found) < 0.5 * Math.max(seen.sizePx, found.sizePx);
    }
    return distance < 1 + 2 * Math.max(0, timeS - track.timeS) && track.hand.side === estimate.hand.side;
  };
  const near = sought
    .map((track) => ({ track, distance: track.distance(estimate, timeS) }))
    .filter(isNear)
    .sort((one, other) => one.distance - other.distance);
  return near[0]?.track ?? null;
}

/** What the tracks saw, with one left of those that saw the same hand: the one that trusts it and did not jump. */
export function deduplicate(seen: ReadonlyMap<Track, Estimate>, timeS: number): Map<Track, Estimate> {
  const doubt = ([track, estimate]: [Track, Estimate]) => track.distance(estimate, timeS) - confidenceIn(estimate);
  const isMissed = ([track]: [Track, Estimate]) => Number(track.misses > 0);
  const surestFirst = [...seen].sort((a, b) => isMissed(a) - isMissed(b) || doubt(a) - doubt(b));
  const kept = new Map<Track, Estimate>();
  for (const [track, estimate] of surestFirst) {
    if (![...kept.values()].some((other) => isSameHand(estimate, other))) {
      kept.set(track, estimate);
    }
  }
  return kept;
}

/** Whether two estimates are of one hand: its joints nearly coincide, or (as two sides) its boxes do. */
export function isSameHand(a: Estimate, b: Estimate): boolean {
  const [p, q] = [a.hand.jointsPx, b.hand.jointsPx];
  let sum = 0;
  for (let i = 0; i < p.length; i += 2) {
    sum += Math.hypot(p[i]! - q[i]!, p[i + 1]! - q[i + 1]!);
  }
  const nearly = 0.2 * Math.min(a.box.sizePx, b.box.sizePx);
  return sum / (p.length / 2) < nearly || overlap(a.box, b.box) > 0.7;
}

/** Whether two estimates may be of one person's two hands: of opposite sides and like size, and not of one hand. */
export function areLikeAPair(a: Estimate, b: Estimate): boolean {
  const [smaller, larger] = [Math.min(a.box.sizePx, b.box.sizePx), Math.max(a.box.sizePx, b.box.sizePx)];
  return a.hand.side !== b.hand.side && larger <= COMPANION_SIZES * smaller && !isSameHand(a, b);
}

/** Intersection over union of two boxes, both taken as upright. */
export function overlap(a: Box, b: Box): number {
  const common = commonPx2(a, b);
  return common / (a.sizePx ** 2 + b.sizePx ** 2 - common);
}

/** Whether one of these hands covers too much of the box for another hand to be seen there. */
export const isCovered = (box: Box, hands: readonly Estimate[]): boolean =>
  hands.some((hand) => commonPx2(box, hand.box) > MOST_COVERED * box.sizePx ** 2);

function commonPx2(a: Box, b: Box): number {
  const reach = (a.sizePx + b.sizePx) / 2;
  const common = Math.min(a.sizePx, b.sizePx);
  const side = (axis: 0 | 1) => Math.max(0, Math.min(common, reach - Math.abs(a.centrePx[axis] - b.centrePx[axis])));
  return side(0) * side(1);
}
