/** Choices among the hands of a frame. */

import type { Hand, Side } from './types.ts';

/** The hand of a side with the highest score; null where there is none. */
export function surest(hands: readonly Hand[], side: Side): Hand | null {
  const ofSide = hands.filter((hand) => hand.side === side);
  return ofSide.length ? ofSide.reduce((best, hand) => (hand.score > best.score ? hand : best)) : null;
}
