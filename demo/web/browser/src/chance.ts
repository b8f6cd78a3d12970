/** Chances and their logits. As handmesh/geometry.py. */

/** The chance of a logit; without overflow, however large it is. */
export const logistic = (logit: number): number => 0.5 + 0.5 * Math.tanh(0.5 * logit);

/** Chances nearer to 0 or 1 than this are taken for this. */
const SUREST = 1e-6;

/** The logarithm of the odds. */
export function logit(chance: number): number {
  const bounded = Math.min(Math.max(chance, SUREST), 1 - SUREST);
  return Math.log(bounded / (1 - bounded));
}
