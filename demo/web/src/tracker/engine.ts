/** The page's end of the worker that tracks. */

import type { Faces, Reply, Request, Settings } from './messages.ts';
import type { Provider } from './session.ts';
import type { Timings } from './stopwatch.ts';
import type { Hand } from './types.ts';

/** A frame with the hands in it. */
export interface Tracked {
  readonly image: ImageBitmap;
  readonly hands: Hand[];
  readonly timingsMs: Timings;
}

type Answer = Exclude<Reply, { kind: 'failed' }>;

/** Loads the networks and tracks, one frame in flight. */
export class Engine {
  readonly provider: Provider;
  readonly threads: number;
  readonly model: string;
  readonly faces: Faces;
  private readonly worker: Worker;
  private queue: Promise<unknown> = Promise.resolve(); // one request at a time, whoever asks

  private constructor(worker: Worker, ready: Extract<Reply, { kind: 'ready' }>) {
    this.worker = worker;
    ({ provider: this.provider, threads: this.threads, model: this.model, faces: this.faces } = ready);
  }

  /** An engine whose networks are loaded; an 'auto' provider falls back to WebAssembly where WebGPU does not start. */
  static async start(settings: Settings): Promise<Engine> {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    const base = new URL('models/', document.baseURI).href;
    try {
      const ready = await ask(worker, { kind: 'load', settings, base });
      return new Engine(worker, ready as Extract<Reply, { kind: 'ready' }>);
    } catch (error) {
      worker.terminate();
      if (settings.provider !== 'auto') {
        throw error;
      }
      console.warn('starting again with WebAssembly:', error);
      return Engine.start({ ...settings, provider: 'wasm' });
    }
  }

  /** The hands in the next frame of a video; the image is lent to the worker and comes back. */
  track(image: ImageBitmap, timeS: number): Promise<Tracked> {
    const answer = this.queue.then(() => ask(this.worker, { kind: 'track', image, timeS }, [image]));
    this.queue = answer.catch(() => {});
    return answer as Promise<Tracked & Answer>;
  }

  /** Forget all hands: another video begins. */
  reset(): void {
    this.worker.postMessage({ kind: 'reset' } satisfies Request);
  }
}

/** What the worker answers to one request. */
function ask(worker: Worker, request: Request, transfer: Transferable[] = []): Promise<Answer> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<Reply>) =>
      data.kind === 'failed' ? reject(new Error(data.reason)) : resolve(data);
    worker.onerror = (event) => reject(new Error(event.message || 'the worker could not be loaded'));
    worker.postMessage(request, transfer);
  });
}
