/** Times the stages of a tracker's call. */

import { STAGES } from '../common/constants.ts';

/** Python's stages, and before them the reading of the image's pixels. */
export const PAGE_STAGES = ['read', ...STAGES] as const;

export type Stage = (typeof PAGE_STAGES)[number];

/** Milliseconds by stage. */
export type Timings = Record<Stage, number>;

/** Stages that run several times add up. */
export class Stopwatch {
  private spent: Timings = Stopwatch.zero();

  static zero(): Timings {
    return Object.fromEntries(PAGE_STAGES.map((stage) => [stage, 0])) as Timings;
  }

  get ms(): Timings {
    return { ...this.spent };
  }

  restart(): void {
    this.spent = Stopwatch.zero();
  }

  /** Add time that was spent elsewhere. */
  add(stage: Stage, ms: number): void {
    this.spent[stage] += ms;
  }

  /** Add the time that `work` takes to a stage, and give what it gives. */
  time<T>(stage: Stage, work: () => T): T {
    const start = performance.now();
    try {
      return work();
    } finally {
      this.spent[stage] += performance.now() - start;
    }
  }

  /** The same of work that ends later. */
  async timeAsync<T>(stage: Stage, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await work();
    } finally {
      this.spent[stage] += performance.now() - start;
    }
  }
}
