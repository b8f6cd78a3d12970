/** What the page says in words and numbers. */

import { element } from '../common/dom.ts';
import type { Progress } from '../tracker/files.ts';
import { PAGE_STAGES, type Timings } from '../tracker/stopwatch.ts';
import type { Hand } from '../tracker/types.ts';

const FRACTION = 0.1; // of the newest frame in the means shown

/** Frame rate, milliseconds a stage, hands: running means, so that they can be read. */
export class Panel {
  private last = 0;
  private period = 0;
  private readonly means = new Map<string, number>();

  /** Frames a second, the mean over the last ones; 0 before there are two. */
  get fps(): number {
    return this.period > 0 ? 1000 / this.period : 0;
  }

  /** One line on what goes on. `tone`: 'busy', 'live' or 'wrong'. */
  say(text: string, tone: 'busy' | 'live' | 'wrong'): void {
    const state = element('state');
    [state.textContent, state.dataset['tone']] = [text, tone];
  }

  /** How much of the files has come. */
  loaded({ loadedBytes, totalBytes }: Progress): void {
    const bar = element<HTMLProgressElement>('progress');
    bar.value = Math.max(bar.value, totalBytes > 0 ? loadedBytes / totalBytes : 0); // sizes become known one by one
    const isAll = loadedBytes === totalBytes;
    this.say(isAll ? 'starting' : `loading, ${megabytes(loadedBytes)} of ${megabytes(totalBytes)} MB`, 'busy');
  }

  /** Another video begins: its frames have nothing to do with those before. */
  restart(): void {
    [this.last, this.period] = [0, 0];
    this.means.clear();
    [...PAGE_STAGES, 'fps'].forEach((stage) => (element(stage).textContent = '–'));
    element('hands').replaceChildren();
  }

  /** Take in a frame's metrics and show them. */
  show(timingsMs: Timings, hands: readonly Hand[]): void {
    const now = performance.now();
    if (this.last > 0) {
      this.period = this.period === 0 ? now - this.last : this.period + FRACTION * (now - this.last - this.period);
    }
    this.last = now;
    element('fps').textContent = this.fps.toFixed(this.fps < 10 ? 1 : 0);
    for (const stage of PAGE_STAGES) {
      const mean = this.means.get(stage) ?? timingsMs[stage];
      this.means.set(stage, mean + FRACTION * (timingsMs[stage] - mean));
      element(stage).textContent = this.means.get(stage)!.toFixed(1);
    }
    element('hands').replaceChildren(...hands.map(chip));
  }
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);

/** A hand as a word in the colour of its side. */
function chip(hand: Hand): HTMLElement {
  const item = document.createElement('li');
  item.dataset['side'] = hand.side;
  item.textContent = `${hand.side} ${Math.round(100 * hand.score)} %`;
  item.classList.toggle('faint', hand.predicted);
  return item;
}
