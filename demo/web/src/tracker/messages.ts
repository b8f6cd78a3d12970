/** What the page and the worker that tracks say to each other. */

import { DEFAULT_MODEL } from '../common/constants.ts';
import type { Progress } from './files.ts';
import type { Model } from './networks.ts';
import type { Smooth } from './smoothing.ts';
import type { Timings } from './stopwatch.ts';
import type { Hand, Side } from './types.ts';

export type Provider = 'webgpu' | 'wasm';

/** What to track with. */
export interface Settings {
  readonly model: Model;
  readonly provider: Provider | 'auto';
  readonly smooth: Smooth;
  readonly numHands: number; // how many are followed at most
  readonly threads?: number; // of WebAssembly; as many as seem good where it is missing
  readonly fovDeg: number; // of the camera, across the image's longer side
}

export const DEFAULTS: Settings = { model: DEFAULT_MODEL, provider: 'auto', smooth: 'low', numHands: 2, fovDeg: 60 };

export type Faces = Readonly<Record<Side, Uint32Array>>; // (F, 3), outward

export type Request =
  | { kind: 'load'; settings: Settings }
  | { kind: 'track'; image: ImageBitmap; timeS: number }
  | { kind: 'reset'; numHands: number };

export type Reply =
  | ({ kind: 'progress' } & Progress)
  | { kind: 'ready'; provider: Provider; threads: number; model: string; faces: Faces }
  | { kind: 'tracked'; image: ImageBitmap; hands: Hand[]; timingsMs: Timings }
  | { kind: 'failed'; reason: string; isDownload: boolean };
