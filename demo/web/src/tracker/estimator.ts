/** One box in one image to one hand: crop, network, lifting, and which side it is. */

import {
  ALIGN, COMPANION, DETECTOR_SIDE_WEIGHT, DOUBTED_LEAD, EXPECTED_ERROR_WEIGHT, HOPELESS, SURE_HANDEDNESS, SURE_SIDE,
  TURNED_RAD,
} from '../common/constants.ts';
import { Alignment } from './alignment.ts';
import { affineOf, foundUncertainty, imageJoints, toCameraFrame, type Crop } from './camera_frame.ts';
import { confidenceOf, probability, type Confidence } from './confidence.ts';
import { warp } from './crop.ts';
import type { Detection } from './detection.ts';
import { logistic, logit } from './geometry.ts';
import type { SkinnedHand } from './lbs.ts';
import type { Session } from './session.ts';
import type { Stopwatch } from './stopwatch.ts';
import { boxAround, scaledBox, type Box, type Camera, type Hand, type RgbaImage, type Side } from './types.ts';

/** What the mesh network makes of a box. */
export interface Estimate {
  readonly hand: Hand; // its score is the probability of a hand that is followed
  readonly box: Box; // turned and tight around the joints that the network saw in the image
  readonly presence: number; // 0..1, what the network says of a hand in the crop
  readonly agreement: number; // 0..1, that the hand is of the side it was taken for
  readonly other: Estimate | null; // what it makes of the box as one of the other side, where that was tried and is a hand
  readonly lead: number; // how much more speaks for this side than for that, as a logarithm of odds
  readonly expectedError: number; // of the joints found in the crop, their mean, in half crop sides
}

/** 0..1, that there is a hand and that it is of this side. */
export const confidenceIn = (estimate: Estimate): number => estimate.presence * estimate.agreement;

/** The same with the score of one beside a sure hand of the other side. */
export function accompanied(estimate: Estimate): Estimate {
  return { ...estimate, hand: { ...estimate.hand, score: logistic(logit(estimate.hand.score) + COMPANION) } };
}

/** An image and what took it. */
export interface View {
  readonly image: RgbaImage;
  readonly camera: Camera;
}

/** The mesh network with what belongs before and after it. Holds no state between calls. */
export class Estimator {
  readonly confidence: Confidence;
  private readonly session: Session;
  private readonly stopwatch: Stopwatch;
  private readonly boxScale: number;
  private readonly alignment: Alignment | null;

  /** model: the hand that the network poses. */
  constructor(session: Session, model: SkinnedHand, stopwatch: Stopwatch) {
    const { height, width, metadata } = session;
    if (height !== width || typeof metadata.box_scale !== 'number') {
      const given = `${height}x${width} crops, box_scale ${metadata.box_scale}`;
      throw new Error(`${metadata.name} takes ${given}; expected a square and a number: export it again`);
    }
    [this.session, this.stopwatch, this.boxScale] = [session, stopwatch, metadata.box_scale];
    this.alignment = ALIGN ? new Alignment(model) : null;
    this.confidence = confidenceOf(metadata);
  }

  /** The hand of `side` in the box `at` (tight around its joints); null where the numbers are no hand. */
  async estimate({ image, camera }: View, at: Box, side: Side): Promise<Estimate | null> {
    const crop: Crop = { box: scaledBox(at, this.boxScale), side, size: this.session.width };
    const pixels = this.stopwatch.time('crop', () => warp(image, affineOf(crop), crop.size));
    const outputs = await this.stopwatch.timeAsync('network', () => this.session.run(pixels));
    return this.stopwatch.time('lift', () => {
      const hand = toCameraFrame(outputs, crop, camera, this.alignment);
      if (hand === null) {
        return null;
      }
      const probabilities = { presence: hand.score, agreement: logistic(outputs['right']![0]!) };
      const score = probability(this.confidence.followed, probabilities);
      const box = boxAround(imageJoints(outputs, crop));
      const expectedError = foundUncertainty(outputs).reduce((sum, each) => sum + each, 0) / 21;
      return { ...probabilities, hand: { ...hand, score }, box, other: null, lead: Infinity, expectedError };
    });
  }

  /** The hand where a detector saw one, looked at twice; its score weighs both networks' opinions. */
  async found(view: View, detection: Detection, passes = 2, both = false): Promise<Estimate | null> {
    const estimate = await this.estimateAfresh(view, detection, passes, both);
    if (estimate === null) {
      return null;
    }
    const other = estimate.other && this.scored(estimate.other, detection);
    return { ...this.scored(estimate, detection), other };
  }

  private scored(estimate: Estimate, detection: Detection): Estimate {
    const { presence, agreement } = estimate;
    const score = probability(this.confidence.found, { detector: detection.score, presence, agreement });
    return { ...estimate, hand: { ...estimate.hand, score } };
  }

  /**
   * The hand in a box whose position and side are only roughly known; each further pass looks again around it. Where
   * detector or network may be wrong about the side, or for `both` in any case, the other one is followed as far, and
   * all that was seen decides; where that leaves doubt, what is seen in turned boxes, too.
   */
  private async estimateAfresh(view: View, detection: Detection, passes: number, both: boolean): Promise<Estimate | null> {
    const { box, side, sideScore } = detection;
    const first = await this.estimate(view, box, side);
    if (first === null || first.presence < HOPELESS) {
      return first;
    }
    const given = await this.lookedAgain(view, first, passes);
    if (!both && first.agreement >= SURE_HANDEDNESS && sideScore >= SURE_SIDE) {
      return given.at(-1)!;
    }
    const other = await this.lookedAgain(view, await this.estimate(view, box, otherSide(side)), passes);
    let lead = leadOf(given, other, sideScore);
    if (Math.abs(lead) < DOUBTED_LEAD) {
      const turned = await this.lookedTurned(view, given.at(-1)!);
      const otherTurned = await this.lookedTurned(view, other.at(-1)!);
      lead = leadOf([...turned, ...given], [...otherTurned, ...other], sideScore);
    }
    const [chosen, rival] = (lead < 0 ? [other, given] : [given, other]).map((passed) => passed.at(-1)!);
    return chosen ? { ...chosen, other: rival ?? null, lead: Math.abs(lead) } : null;
  }

  /** The estimates of all passes; the last one is null where the hand was lost on the way. */
  private async lookedAgain(view: View, first: Estimate | null, passes: number): Promise<(Estimate | null)[]> {
    const estimates = [first];
    for (let last = first; last && estimates.length < passes && isUsable(last.box, view.image); ) {
      last = await this.estimate(view, last.box, last.hand.side);
      estimates.push(last);
    }
    return estimates;
  }

  /** What is seen in the estimate's own box turned to either side, where that is a hand. */
  private async lookedTurned(view: View, { box, hand }: Estimate): Promise<Estimate[]> {
    const looks: Estimate[] = [];
    for (const turn of isUsable(box, view.image) ? [-TURNED_RAD, TURNED_RAD] : []) {
      const look = await this.estimate(view, { ...box, angleRad: box.angleRad + turn }, hand.side);
      looks.push(...(look ? [look] : []));
    }
    return looks;
  }

  /** `estimate`, which was made of this box, with the other side tried as well. */
  async bothSides(view: View, box: Box, estimate: Estimate): Promise<Estimate> {
    const other = await this.estimate(view, box, otherSide(estimate.hand.side));
    return { ...estimate, other, lead: sideSupport([estimate]) - sideSupport([other]) };
  }
}

const otherSide = (side: Side): Side => (side === 'right' ? 'left' : 'right');

/** How much more speaks for the side that a detector gives, with this score, than for the other. */
const leadOf = (given: (Estimate | null)[], other: (Estimate | null)[], sideScore: number): number =>
  sideSupport(given) + DETECTOR_SIDE_WEIGHT * logit(sideScore) - sideSupport(other);

/**
 * How much speaks for the side of these passes: the mean logarithm of the odds, more where smaller errors are expected;
 * least where the hand is lost.
 */
function sideSupport(estimates: (Estimate | null)[]): number {
  const supportOf = (each: Estimate) => logit(each.agreement) - EXPECTED_ERROR_WEIGHT * Math.log(each.expectedError);
  return estimates.reduce((sum, each) => sum + (each ? supportOf(each) : -Infinity), 0) / estimates.length;
}

/** Whether a crop there can show a hand: its centre in the image, its size neither a dot nor far beyond it. */
export function isUsable({ centrePx: [x, y], sizePx }: Box, { width, height }: RgbaImage): boolean {
  const margin = 0.25 * sizePx;
  const inside = -margin <= x && x <= width + margin && -margin <= y && y <= height + margin;
  return inside && sizePx >= 8 && sizePx <= 3 * Math.max(height, width);
}
