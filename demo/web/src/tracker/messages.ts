/** What the page and the worker that tracks say to each other. */

import type { Provider } from './session.ts';
import type { Smooth } from './smoothing.ts';
import type { Timings } from './stopwatch.ts';
import type { Hand, Side } from './types.ts';

/** What to track with; the page reads it from its address. */
export interface Settings {
  readonly model: string;
  readonly provider: Provider | 'auto';
  readonly smooth: Smooth;
  readonly threads?: number; // of WebAssembly; as many as seem good where it is missing
  readonly fovDeg: number; // of the camera, across the image's longer side
}

export type Faces = Readonly<Record<Side, Uint32Array>>; // (F, 3), outward

export type Request =
  | { kind: 'load'; settings: Settings; base: string } // base: where the networks lie
  | { kind: 'track'; image: ImageBitmap; timeS: number }
  | { kind: 'reset' };

export type Reply =
  | { kind: 'ready'; provider: Provider; threads: number; model: string; faces: Faces }
  | { kind: 'tracked'; image: ImageBitmap; hands: Hand[]; timingsMs: Timings }
  | { kind: 'failed'; reason: string };
