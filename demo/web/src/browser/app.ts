/** The page: a source's frames go to the tracker one at a time, and come back with hands over them. */

import { element } from '../common/dom.ts';
import { Engine, type Tracked } from '../tracker/engine.ts';
import type { Timings } from '../tracker/stopwatch.ts';
import { cameraFromFov, type Hand } from '../tracker/types.ts';
import type { Overlay } from './overlay.ts';
import { Panel } from './panel.ts';
import { readSettings } from './settings.ts';
import { listCameras, openCamera, openVideo, type Source } from './sources.ts';
import { Stage } from './stage.ts';

const CLIP = 'demo.mp4';

/** An image of a video by its address, and when it was taken. */
export interface GivenFrame {
  readonly url: string;
  readonly timeS: number;
}

/** What became of one frame, in plain numbers. */
export interface Report {
  readonly hands: (Pick<Hand, 'id' | 'side' | 'score' | 'predicted'> & { jointsPx: number[]; jointsM: number[] })[];
  readonly timingsMs: Timings;
  readonly waitedMs: number; // from the image given to the hands had, without drawing them
}

class App {
  private readonly panel = new Panel();
  private readonly query = new URLSearchParams(location.search);
  private readonly settings = readSettings(this.query);
  private readonly stage = new Stage(element('stage'));
  private engine!: Engine;
  private overlay!: Promise<Overlay>; // not needed before the first image
  private playing = new AbortController(); // ends what plays, or is about to

  /** Loads the networks and plays what the address asks for. */
  async start(): Promise<void> {
    this.panel.say('loading the networks', 'busy');
    const engine = (this.engine = await Engine.start(this.settings, (progress) => this.panel.loaded(progress)));
    this.overlay = import('./overlay.ts').then(({ Overlay }) => new Overlay(element('overlay'), engine.faces));
    this.overlay.catch(complain);
    const { provider, threads, model } = engine;
    const on = provider === 'webgpu' ? 'WebGPU' : `WebAssembly, ${threads} thread${threads > 1 ? 's' : ''}`;
    element('provider').textContent = `${model} on ${on}`;
    this.stage.state = 'empty';
    this.panel.say('ready', 'live');
    performance.mark('ready');
    this.offerSources();
    const wanted = this.query.get('source');
    if (wanted !== null) {
      const address = new URL(wanted, document.baseURI).href;
      void this.play(() => (wanted === 'camera' ? openCamera() : openVideo(address, wanted)));
    }
  }

  private offerSources(): void {
    const file = element<HTMLInputElement>('file');
    const cameras = element<HTMLSelectElement>('cameras');
    const hands = element<HTMLSelectElement>('number');
    element('camera').onclick = () => this.play(() => openCamera(cameras.value || undefined));
    element('clip').onclick = () => this.play(() => openVideo(CLIP, 'clip'));
    element('open').onclick = () => file.click();
    element('stop').onclick = () => this.end();
    file.onchange = () => {
      const [chosen] = file.files ?? [];
      file.value = ''; // or else the same file, chosen again, would be no change
      if (chosen) {
        void this.play(() => openVideo(URL.createObjectURL(chosen), chosen.name));
      }
    };
    cameras.onchange = () => this.play(() => openCamera(cameras.value));
    hands.value = `${this.settings.numHands}`;
    hands.onchange = () => this.engine.reset(Number(hands.value));
    navigator.mediaDevices?.addEventListener('devicechange', () => this.offerCameras());
    for (const control of document.querySelectorAll<HTMLButtonElement | HTMLSelectElement>('footer :is(button, select)')) {
      control.disabled = false;
    }
  }

  /** A choice of cameras, where there is one. */
  private async offerCameras(current?: string): Promise<void> {
    const select = element<HTMLSelectElement>('cameras');
    const chosen = current ?? select.value;
    const cameras = await listCameras();
    select.replaceChildren(...cameras.map(({ deviceId, label }) => new Option(label, deviceId)));
    select.value = cameras.some(({ deviceId }) => deviceId === chosen) ? chosen : '';
    select.hidden = cameras.length < 2;
  }

  /** End what plays, and play what `open` gives, unless something else is asked for before it is there. */
  private async play(open: () => Promise<Source>): Promise<void> {
    const { signal } = (this.playing = this.end());
    this.panel.say('opening', 'busy');
    let source: Source | null = null;
    try {
      source = await open();
      signal.addEventListener('abort', source.close); // at once, not when the frame that is being tracked is done
      if (!signal.aborted) {
        await this.follow(source, AbortSignal.any([signal, source.lost]));
      }
      source.lost.throwIfAborted();
    } catch (error) {
      if (!signal.aborted) {
        this.end();
        this.panel.say((error as Error).message, 'wrong');
      }
    } finally {
      source?.close();
    }
  }

  /** End what plays: its camera is free again. Gives what will end the next one. */
  private end(): AbortController {
    this.playing.abort();
    this.engine.reset();
    this.panel.restart();
    this.panel.say('ready', 'live');
    this.stage.state = 'empty';
    element('stop').hidden = true;
    return new AbortController();
  }

  private async follow(source: Source, signal: AbortSignal): Promise<void> {
    this.panel.say(source.name, 'live');
    this.stage.mirrored = source.isMirrored;
    element('stop').hidden = false;
    if (source.isCamera) {
      void this.offerCameras(source.deviceId);
      this.tellOfSilence(source, signal);
    }
    const overlay = await this.overlay;
    for await (const tracked of this.engine.follow(source.video, signal)) {
      if (signal.aborted) {
        return tracked.image.close();
      }
      this.show(tracked, overlay);
    }
  }

  /** Say so while a camera sends nothing: it is covered by the system, or another program has it. */
  private tellOfSilence({ name, video }: Source, signal: AbortSignal): void {
    const [track] = (video.srcObject as MediaStream).getVideoTracks();
    track!.addEventListener('mute', () => this.panel.say(`no images come from the ${name}`, 'wrong'), { signal });
    track!.addEventListener('unmute', () => this.panel.say(name, 'live'), { signal });
  }

  /** The image that was tracked, not a newer one: so that hands lie where they were seen. */
  private show({ image, hands, timingsMs }: Tracked, overlay: Overlay): void {
    const { width, height } = this.stage.fit(image.width, image.height);
    overlay.draw(hands, cameraFromFov(image.width, image.height, this.settings.fovDeg), width, height);
    this.stage.show(image);
    this.panel.show(timingsMs, hands);
  }

  /** Track given images as one video, from its beginning, and show them unless not: for tests and measurements. */
  async run(frames: readonly GivenFrame[], isShown = true): Promise<{ provider: string; fps: number; frames: Report[] }> {
    this.end();
    this.stage.mirrored = false;
    const overlay = await this.overlay;
    const reports: Report[] = [];
    let busyMs = 0;
    for (const { url, timeS } of frames) {
      const file = await (await fetch(url)).blob();
      const options = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' } as const;
      const image = await createImageBitmap(file, options);
      const start = performance.now();
      const tracked = await this.engine.track(image, timeS);
      const waitedMs = performance.now() - start;
      isShown ? this.show(tracked, overlay) : tracked.image.close();
      busyMs += performance.now() - start;
      reports.push({ hands: tracked.hands.map(plain), timingsMs: tracked.timingsMs, waitedMs });
    }
    return { provider: this.engine.provider, fps: (1000 * frames.length) / busyMs, frames: reports };
  }

  /** End what plays and the worker: for a page that goes on without hands. */
  close(): void {
    this.end();
    this.engine.close();
    document.querySelectorAll<HTMLButtonElement>('footer :is(button, select)').forEach((each) => (each.disabled = true));
    this.panel.say('closed', 'live');
  }
}

function plain({ id, side, score, predicted, jointsPx, jointsM }: Hand): Report['hands'][number] {
  return { id, side, score, predicted, jointsPx: [...jointsPx], jointsM: [...jointsM] };
}

/** What tests and other scripts of the page can use. */
export interface Handle {
  readonly ready: Promise<void>;
  run(frames: readonly GivenFrame[], isShown?: boolean): ReturnType<App['run']>;
  close(): void;
}

declare global {
  interface Window {
    handmesh: Handle;
  }
}

function begin(): Handle {
  const app = new App();
  return { ready: app.start(), run: (frames, isShown) => app.run(frames, isShown), close: () => app.close() };
}

try {
  window.handmesh = begin();
  window.handmesh.ready.catch(complain);
} catch (error) {
  complain(error);
}

function complain(error: unknown): void {
  new Panel().say(error instanceof Error ? error.message : String(error), 'wrong');
  const again = element('again');
  again.hidden = false;
  again.onclick = () => location.reload(); // what has come is kept
}

// The page itself, kept for the next visit: then it opens at once, and without a network.
if (import.meta.env.PROD && 'serviceWorker' in navigator) {
  addEventListener('load', () => navigator.serviceWorker.register('offline.js').catch(() => {}));
}
