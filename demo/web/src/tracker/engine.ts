/** The page's end of the worker that tracks. */

import type { Progress } from './files.ts';
import { DEFAULTS, type Faces, type Provider, type Reply, type Request, type Settings } from './messages.ts';
import type { Timings } from './stopwatch.ts';
import type { Hand } from './types.ts';
import { nextFrame } from './video.ts';

/** A frame with the hands in it. Whoever is done with the image closes it: `image.close()`. */
export interface Tracked {
  readonly image: ImageBitmap;
  readonly hands: Hand[];
  readonly timingsMs: Timings;
}

type Ready = Extract<Reply, { kind: 'ready' }>;
type Failed = Extract<Reply, { kind: 'failed' }>;
type Answer = Exclude<Reply, Failed | { kind: 'progress' }>;

/** What went wrong in the worker. */
class EngineError extends Error {
  readonly isDownload: boolean;

  constructor(reason: string, isDownload = false) {
    super(reason);
    this.isDownload = isDownload;
  }
}

/** Loads the networks and tracks, one frame in flight. */
export class Engine {
  readonly provider: Provider;
  readonly threads: number;
  readonly model: string;
  readonly faces: Faces;
  private readonly worker: Worker;
  private numHands: number;
  private queue: Promise<unknown> = Promise.resolve(); // one request at a time, whoever asks
  private isClosed = false;

  private constructor(worker: Worker, settings: Settings, ready: Ready) {
    [this.worker, this.numHands] = [worker, settings.numHands];
    ({ provider: this.provider, threads: this.threads, model: this.model, faces: this.faces } = ready);
  }

  /**
   * An engine whose networks are loaded. `onProgress` hears of the files that come.
   *
   * An 'auto' provider falls back to WebAssembly where WebGPU does not start. Throws an Error that says what did not
   * come, or what of the settings cannot be.
   */
  static async start(wanted: Partial<Settings> = {}, onProgress: (progress: Progress) => void = () => {}): Promise<Engine> {
    const settings = { ...DEFAULTS, ...wanted };
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    try {
      return new Engine(worker, settings, (await ask(worker, { kind: 'load', settings }, [], onProgress)) as Ready);
    } catch (error) {
      worker.terminate();
      if (settings.provider !== 'auto' || (error as EngineError).isDownload) {
        throw error;
      }
      console.warn('starting again with WebAssembly:', error);
      return Engine.start({ ...settings, provider: 'wasm' }, onProgress);
    }
  }

  /** The hands in the next frame of a video; the image is lent to the worker and comes back. */
  track(image: ImageBitmap, timeS: number): Promise<Tracked> {
    const answer = this.queue.then(() => {
      if (this.isClosed) {
        throw new EngineError('the engine is closed');
      }
      return ask(this.worker, { kind: 'track', image, timeS }, [image]);
    });
    this.queue = answer.catch(() => {});
    return answer as Promise<Tracked & Answer>;
  }

  /** The hands in a video while it plays, until `signal` says so: each newest frame once the one before is done. */
  async *follow(video: HTMLVideoElement, signal?: AbortSignal): AsyncGenerator<Tracked, void> {
    for (;;) {
      const timeS = await nextFrame(video, signal);
      if (timeS === null) {
        return;
      }
      yield await this.track(await createImageBitmap(video), timeS);
    }
  }

  /** Forget all hands: another video begins, in which up to `numHands` are followed; as many as before if not given. */
  reset(numHands = this.numHands): void {
    this.numHands = numHands;
    this.worker.postMessage({ kind: 'reset', numHands } satisfies Request);
  }

  /** End the worker and free its memory; what is being tracked fails, and so does whatever is asked for afterwards. */
  close(): void {
    this.isClosed = true;
    this.worker.onerror?.(new ErrorEvent('error', { message: 'the engine is closed' }));
    this.worker.terminate();
  }
}

/** What the worker answers to one request. */
function ask(
  worker: Worker, request: Request, transfer: Transferable[] = [], onProgress: (progress: Progress) => void = () => {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      if (data.kind === 'progress') {
        onProgress({ loadedBytes: data.loadedBytes, totalBytes: data.totalBytes });
      } else if (data.kind === 'failed') {
        reject(new EngineError(data.reason, data.isDownload));
      } else {
        resolve(data);
      }
    };
    worker.onerror = ({ message }) => reject(new EngineError(message || 'the worker could not be loaded'));
    worker.postMessage(request, transfer);
  });
}
