/** Tracks hands beside the page, so that a network at work never makes the page stutter. */

import { MODELS } from '../common/constants.ts';
import { DownloadError, Downloads, FROM_BROWSER } from './files.ts';
import { mirrorFaces } from './geometry.ts';
import { SkinnedHand, type HandConstants } from './lbs.ts';
import type { Reply, Request, Settings } from './messages.ts';
import type { Kind } from './model_file.ts';
import { NETWORKS } from './networks.ts';
import { chooseProvider, loadRuntime, Session } from './session.ts';
import { HandTracker } from './tracker.ts';
import { cameraFromFov, type RgbaImage } from './types.ts';

declare const self: DedicatedWorkerGlobalScope;

const fetchAs = self.fetch;
self.fetch = (input, init) => fetchAs(input, { ...FROM_BROWSER, ...init }); // ONNX Runtime's, too

let settings: Settings;
let tracker: HandTracker | null = null;
let queue = Promise.resolve(); // one request after the other

self.onmessage = ({ data }: MessageEvent<Request>) => {
  queue = queue.then(() => answer(data)).catch((error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    reply({ kind: 'failed', reason, isDownload: error instanceof DownloadError });
  });
};

async function answer(request: Request): Promise<void> {
  if (request.kind === 'load') {
    await load(request.settings);
  } else if (request.kind === 'track') {
    await track(request.image, request.timeS);
  } else {
    tracker?.reset(request.numHands);
  }
}

function reply(message: Reply, transfer: Transferable[] = []): void {
  self.postMessage(message, { transfer });
}

async function load(wanted: Settings): Promise<void> {
  settings = wanted;
  const downloads = new Downloads((progress) => reply({ kind: 'progress', ...progress }));
  const provider = await chooseProvider(wanted.provider);
  const { [wanted.model]: meshUrl, detector: detectorUrl } = NETWORKS[provider];
  if (meshUrl === undefined) {
    throw new Error(`unknown model '${wanted.model}'; known are ${MODELS.join(', ')}`);
  }
  const runtime = loadRuntime(provider, downloads, wanted.threads);
  let opened: Promise<unknown> = runtime; // one after the other, the first while the second is on its way
  const open = async (url: string, kind: Kind, name: string) => {
    const [{ bytes }, loaded] = await Promise.all([downloads.get(url), runtime]);
    const session = opened.then(() => Session.open(loaded, bytes, kind, name));
    opened = session;
    return session;
  };
  const [mesh, detector] = await Promise.all([
    open(meshUrl, 'mesh', wanted.model),
    open(detectorUrl, 'detector', 'detector'),
  ]);
  const { faces, ...constants } = await mesh.constants();
  tracker = new HandTracker(mesh, detector, new SkinnedHand(constants as HandConstants), wanted.smooth, wanted.numHands);
  const right = Uint32Array.from(faces as Int32Array); // as WebGL wants indices
  const { ort } = await runtime;
  const threads = ort.env.wasm.numThreads ?? 1;
  reply({ kind: 'ready', provider, threads, model: mesh.metadata.name, faces: { right, left: mirrorFaces(right) } });
  downloads.keep();
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
