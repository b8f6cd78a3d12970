/** From what the networks say of a place in a picture to the chance that a hand is there. As tracking/estimator.py. */

import { logistic, logit } from './chance.ts';
import { THRESHOLD } from './detection.ts';

/** A bias, and the weight of each chance by its name. */
export type Weights = Readonly<Record<string, number>>;

const BARE: Weights = { bias: 0, presence: 1 };

/** How sure a tracker is of a hand, when it has just found it and while it follows it. */
export interface Confidence {
  readonly found: Weights; // of the chances `detector`, `presence` and `agreement`
  readonly followed: Weights; // of `presence` and `agreement`
  readonly proposed: number; // the detector's score from which a place is looked at
}

/** What an exported mesh network says of itself; its bare presence where it says nothing. */
export function confidenceOf(metadata: { confidence?: Confidence }): Confidence {
  return metadata.confidence ?? { proposed: THRESHOLD, found: BARE, followed: BARE };
}

/** The chance from those that `weights` names: the logistic function of their weighted logits. */
export function chance(weights: Weights, chances: Readonly<Record<string, number>>): number {
  const named = Object.entries(weights).filter(([name]) => name !== 'bias');
  return logistic(named.reduce((sum, [name, weight]) => sum + weight * logit(chances[name]!), weights['bias']!));
}
