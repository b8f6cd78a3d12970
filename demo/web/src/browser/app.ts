/** The page: a source's frames go to the tracker one at a time, and come back with hands over them. */

import { element } from '../common/dom.ts';
import { Engine, type Tracked } from '../tracker/engine.ts';
import type { Timings } from '../tracker/stopwatch.ts';
import { cameraFromFov, type Hand } from '../tracker/types.ts';
import { Overlay } from './overlay.ts';
import { Panel } from './panel.ts';
import { readSettings } from './settings.ts';
import { everyFrame, openCamera, openVideo, type Source } from './sources.ts';
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
}

class App {
  private readonly panel = new Panel();
  private readonly query = new URLSearchParams(location.search);
  private readonly settings = readSettings(this.query);
  private readonly stage = new Stage(element('stage'));
  private engine!: Engine;
  private overlay!: Overlay;
  private source: Source | null = null;
  private stop = () => {};
  private isBusy = false;

  /** Loads the networks and plays what the address asks for. */
  async start(): Promise<void> {
    this.panel.say('loading the networks', 'busy');
    this.engine = await Engine.start(this.settings);
    this.overlay = new Overlay(element<HTMLCanvasElement>('overlay'), this.engine.faces);
    const { provider, threads, model } = this.engine;
    const on = provider === 'webgpu' ? 'WebGPU' : `WebAssembly, ${threads} thread${threads > 1 ? 's' : ''}`;
    element('provider').textContent = `${model} on ${on}`;
    this.panel.say('ready', 'live');
    this.offerSources();
    const wanted = this.query.get('source');
    if (wanted !== null) {
      const address = new URL(wanted, document.baseURI).href;
      await this.play(() => (wanted === 'camera' ? openCamera() : openVideo(address, wanted)));
    }
  }

  private offerSources(): void {
    const file = element<HTMLInputElement>('file');
    element('camera').onclick = () => this.play(openCamera);
    element('clip').onclick = () => this.play(() => openVideo(CLIP, 'clip'));
    element('open').onclick = () => file.click();
    file.onchange = () => {
      const [chosen] = file.files ?? [];
      if (chosen) {
        void this.play(() => openVideo(URL.createObjectURL(chosen), chosen.name));
      }
    };
    document.querySelectorAll('button').forEach((button) => (button.disabled = false));
  }

  /** End what plays and begin with what `open` gives. */
  private async play(open: () => Promise<Source>): Promise<void> {
    this.end();
    this.panel.say('opening', 'busy');
    try {
      this.source = await open();
    } catch (error) {
      return this.panel.say((error as Error).message, 'wrong');
    }
    this.panel.say(this.source.name, 'live');
    this.stage.mirrored = this.source.isCamera;
    const { video } = this.source;
    this.stop = everyFrame(video, (timeS) => void this.take(video, timeS));
  }

  private end(): void {
    this.stop();
    this.source?.close();
    this.source = null;
    this.engine.reset();
    this.panel.restart();
  }

  /** Track a frame, unless the one before is still under way: then it is too late for this one. */
  private async take(video: HTMLVideoElement, timeS: number): Promise<void> {
    if (this.isBusy) {
      return;
    }
    this.isBusy = true;
    try {
      const tracked = await this.engine.track(await createImageBitmap(video), timeS);
      if (video === this.source?.video) {
        this.show(tracked);
      }
    } catch (error) {
      this.stop();
      this.panel.say((error as Error).message, 'wrong');
    } finally {
      this.isBusy = false;
    }
  }

  /** The image that was tracked, not a newer one: so that hands lie where they were seen. */
  private show({ image, hands, timingsMs }: Tracked): void {
    const { width, height } = this.stage.fit(image.width, image.height);
    this.overlay.draw(hands, cameraFromFov(image.width, image.height, this.settings.fovDeg), width, height);
    this.stage.show(image);
    this.panel.show(timingsMs, hands);
  }

  /** Track given images as one video, from its beginning, and show them: for tests and measurements. */
  async run(frames: readonly GivenFrame[]): Promise<{ provider: string; fps: number; frames: Report[] }> {
    this.end();
    this.stage.mirrored = false;
    const reports: Report[] = [];
    let busyMs = 0;
    for (const { url, timeS } of frames) {
      const file = await (await fetch(url)).blob();
      const options = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' } as const;
      const image = await createImageBitmap(file, options);
      const start = performance.now();
      const tracked = await this.engine.track(image, timeS);
      this.show(tracked);
      busyMs += performance.now() - start;
      reports.push({ hands: tracked.hands.map(plain), timingsMs: tracked.timingsMs });
    }
    return { provider: this.engine.provider, fps: (1000 * frames.length) / busyMs, frames: reports };
  }
}

function plain({ id, side, score, predicted, jointsPx, jointsM }: Hand): Report['hands'][number] {
  return { id, side, score, predicted, jointsPx: [...jointsPx], jointsM: [...jointsM] };
}

/** What tests and other scripts of the page can use. */
export interface Handle {
  readonly ready: Promise<void>;
  run(frames: readonly GivenFrame[]): ReturnType<App['run']>;
}

declare global {
  interface Window {
    handmesh: Handle;
  }
}

function begin(): Handle {
  const app = new App();
  return { ready: app.start(), run: (frames) => app.run(frames) };
}

try {
  window.handmesh = begin();
  window.handmesh.ready.catch(complain);
} catch (error) {
  complain(error);
}

function complain(error: unknown): void {
  new Panel().say(error instanceof Error ? error.message : String(error), 'wrong');
}
