/** Tracks hands beside the page, so that a network at work never makes the page stutter. */

import { DETECTOR } from '../common/constants.ts';
import { mirrorFaces } from './geometry.ts';
import { SkinnedHand, type HandConstants } from './lbs.ts';
import type { Reply, Request, Settings } from './messages.ts';
import { loadRuntime, Session } from './session.ts';
import { HandTracker } from './tracker.ts';
import { cameraFromFov, type RgbaImage } from './types.ts';

declare const self: DedicatedWorkerGlobalScope;

let settings: Settings;
let tracker: HandTracker | null = null;
let queue = Promise.resolve(); // one request after the other

self.onmessage = ({ data }: MessageEvent<Request>) => {
  queue = queue.then(() => answer(data)).catch((error: unknown) => {
    reply({ kind: 'failed', reason: error instanceof Error ? error.message : String(error) });
  });
};

async function answer(request: Request): Promise<void> {
  if (request.kind === 'load') {
    await load(request.settings, request.base);
  } else if (request.kind === 'track') {
    await track(request.image, request.timeS);
  } else {
    tracker?.reset();
  }
}

function reply(message: Reply, transfer: Transferable[] = []): void {
  self.postMessage(message, { transfer });
}

async function load(wanted: Settings, base: string): Promise<void> {
  settings = wanted;
  const runtime = await loadRuntime(wanted.provider, wanted.threads);
  const mesh = await Session.open(runtime, `${base}${wanted.model}.onnx`, 'mesh');
  const detector = await Session.open(runtime, `${base}${DETECTOR}.onnx`, 'detector');
  const { faces, ...constants } = await mesh.constants();
  tracker = new HandTracker(mesh, detector, new SkinnedHand(constants as HandConstants), wanted.smooth);
  const right = Uint32Array.from(faces as Int32Array); // as WebGL wants indices
  const { provider, ort } = runtime;
  const threads = ort.env.wasm.numThreads ?? 1;
  reply({ kind: 'ready', provider, threads, model: mesh.metadata.name, faces: { right, left: mirrorFaces(right) } });
}

async function track(bitmap: ImageBitmap, timeS: number): Promise<void> {
  if (!tracker) {
    throw new Error('no network is loaded yet');
  }
  const start = performance.now();
  const image = pixelsOf(bitmap);
  const read = performance.now() - start;
  const camera = cameraFromFov(image.width, image.height, settings.fovDeg);
  const hands = await tracker.track({ image, camera }, timeS);
  const timings = tracker.timingsMs;
  const timingsMs = { ...timings, read, total: timings.total + read };
  reply({ kind: 'tracked', image: bitmap, hands, timingsMs }, [bitmap]);
  await tracker.searchAhead(); // while the page draws
}

let canvas: OffscreenCanvasRenderingContext2D | null = null;

function pixelsOf(bitmap: ImageBitmap): RgbaImage {
  const { width, height } = bitmap;
  if (canvas?.canvas.width !== width || canvas.canvas.height !== height) {
    canvas = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true, alpha: false });
  }
  canvas!.drawImage(bitmap, 0, 0);
  return canvas!.getImageData(0, 0, width, height);
}
