/** From what the networks say of a place in an image to the probability that a hand is there. */

import { BARE_CONFIDENCE, THRESHOLD } from '../common/constants.ts';
import { logistic, logit } from './geometry.ts';

/** A bias, and the weight of each probability by its name. */
export type Weights = Readonly<Record<string, number>>;

/** How sure a tracker is of a hand, when it has just found it and while it follows it. */
export interface Confidence {
  readonly found: Weights; // of the probabilities `detector`, `presence` and `agreement`
  readonly followed: Weights; // of `presence` and `agreement`
  readonly proposed: number; // the detector's score from which a candidate is looked at
}

/** What an exported mesh network says of itself; its bare presence where it says nothing. */
export function confidenceOf(metadata: { confidence?: Confidence }): Confidence {
  return metadata.confidence ?? { proposed: THRESHOLD, found: BARE_CONFIDENCE, followed: BARE_CONFIDENCE };
}

/** The probability from those that `weights` names: the logistic function of their weighted logits. */
export function probability(weights: Weights, probabilities: Readonly<Record<string, number>>): number {
  const named = Object.entries(weights).filter(([name]) => name !== 'bias');
  return logistic(named.reduce((sum, [name, weight]) => sum + weight * logit(probabilities[name]!), weights['bias']!));
}
