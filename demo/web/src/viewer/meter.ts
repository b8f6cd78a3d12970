/** Metrics that can be read: means over the last second, told twice a second. */

const TELL_EVERY_MS = 500;

export class Meter {
  private readonly outputs: Readonly<Record<'fps' | 'latency' | 'rate', HTMLOutputElement>>;
  private ages: number[] = [];
  private last = { ms: performance.now(), frames: 0, bytes: 0 };

  constructor(outputs: Meter['outputs']) {
    this.outputs = outputs;
  }

  /** Note the age, in ms, of a frame that is now on the screen. */
  add(ageMs: number): void {
    this.ages.push(ageMs);
  }

  /** Write what came since the last time, if that is long enough ago. */
  tell({ frames, bytes }: { frames: number; bytes: number }): void {
    const ms = performance.now();
    const seconds = (ms - this.last.ms) / 1000;
    if (seconds * 1000 < TELL_EVERY_MS) return;
    const count = frames - this.last.frames;
    const { fps, latency, rate } = this.outputs;
    fps.value = count ? (count / seconds).toFixed(0) : '–';
    rate.value = count ? ((bytes - this.last.bytes) / seconds / 1000).toFixed(0) : '–';
    latency.value = this.ages.length ? median(this.ages).toFixed(0) : '–';
    this.ages = [];
    this.last = { ms, frames, bytes };
  }
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}
