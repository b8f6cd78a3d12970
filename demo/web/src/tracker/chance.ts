/** Chances and their logits. As handmesh/chance.py. */

import { SUREST } from '../common/constants.ts';

/** The chance of a logit; without overflow, however large it is. */
export const logistic = (logit: number): number => 0.5 + 0.5 * Math.tanh(0.5 * logit);

/** The logarithm of the odds. */
export function logit(chance: number): number {
  const bounded = Math.min(Math.max(chance, SUREST), 1 - SUREST);
  return Math.log(bounded / (1 - bounded));
}
