/** Opens exported networks in ONNX Runtime for the web: on WebGPU where there is one, on WebAssembly otherwise. */

import type { InferenceSession, TypedTensor } from 'onnxruntime-web';
import type * as Ort from 'onnxruntime-web';

import type { Downloads } from './files.ts';
import type { Provider } from './messages.ts';
import { readMetadata, type Kind, type Metadata } from './model_file.ts';

/** ONNX Runtime as loaded for one provider. */
export interface Runtime {
  readonly ort: typeof Ort;
  readonly provider: Provider;
}

const MOST_THREADS = 4;

/** What is wanted; 'auto' is WebGPU where the browser has an adapter. */
export async function chooseProvider(wanted: Provider | 'auto'): Promise<Provider> {
  return wanted === 'auto' ? ((await hasWebGPU()) ? 'webgpu' : 'wasm') : wanted;
}

/** Loads what `provider` needs. `threads`: of WebAssembly. */
export async function loadRuntime(provider: Provider, downloads: Downloads, threads?: number): Promise<Runtime> {
  const [ort, mjs, wasm] = await (provider === 'webgpu' ? webgpuBuild() : wasmBuild());
  const file = await downloads.get(absolute(wasm.default));
  // Read again by ONNX Runtime, browsers have it compiled since the last visit.
  const binary = file.isInBrowser ? { wasm: absolute(wasm.default) } : {};
  ort.env.wasm.wasmPaths = { mjs: absolute(mjs.default), ...binary };
  ort.env.wasm.wasmBinary = file.isInBrowser ? undefined : file.bytes;
  ort.env.wasm.numThreads = threads ?? defaultThreads();
  ort.env.logLevel = 'error';
  return { ort, provider };
}

/** Whether there is a graphics processor to compute on: one that software pretends is far slower than WebAssembly. */
async function hasWebGPU(): Promise<boolean> {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter != null && !adapter.info.isFallbackAdapter && adapter.info.architecture !== 'swiftshader';
}

/** One less than the processor's, where the page is isolated from others, without which browsers share no memory. */
function defaultThreads(): number {
  return globalThis.crossOriginIsolated ? Math.max(1, Math.min(MOST_THREADS, navigator.hardwareConcurrency - 1)) : 1;
}

// Each build of the runtime is a file of 14 or 27 MB: only the one that is used is fetched.
const wasmBuild = () =>
  Promise.all([
    import('onnxruntime-web/wasm'),
    import('onnxruntime-web/ort-wasm-simd-threaded.mjs?url'),
    import('onnxruntime-web/ort-wasm-simd-threaded.wasm?url'),
  ]);

const webgpuBuild = () =>
  Promise.all([
    import('onnxruntime-web/webgpu'),
    import('onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url'),
    import('onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url'),
  ]);

const absolute = (file: string) => new URL(file, globalThis.location.href).href;

/** A network that is ready to run: images in, named arrays out. */
export class Session {
  readonly metadata: Metadata;
  readonly height: number; // of the images that it takes
  readonly width: number;
  private readonly ort: typeof Ort;
  private readonly inference: InferenceSession;
  private readonly outputs: string[]; // those that differ from image to image

  private constructor(ort: typeof Ort, inference: InferenceSession, metadata: Metadata) {
    const input = inference.inputMetadata[0];
    if (!input?.isTensor || input.type !== 'uint8' || input.shape.length !== 4 || input.shape[3] !== 3) {
      throw new Error(`${metadata.name} takes ${JSON.stringify(input)}; expected one image, uint8 (1, H, W, 3)`);
    }
    [this.height, this.width] = [Number(input.shape[1]), Number(input.shape[2])];
    [this.ort, this.inference, this.metadata] = [ort, inference, metadata];
    this.outputs = inference.outputNames.filter((output) => !isConstant(output));
  }

  /** Opens an exported .onnx file, which messages call `name`. */
  static async open({ ort, provider }: Runtime, file: Uint8Array, kind: Kind, name: string): Promise<Session> {
    const metadata = readMetadata(file, kind, name);
    const wasm = kind === 'mesh' ? 'extended' : 'disabled'; // integers are multiplied from there on; more gains nothing
    const inference = await ort.InferenceSession.create(file, {
      executionProviders: [provider],
      graphOptimizationLevel: provider === 'wasm' ? wasm : 'all',
    });
    return new Session(ort, inference, metadata);
  }

  /** (1, H, W, 3) RGB bytes through the network: its outputs by name, flat. */
  async run(image: Uint8Array): Promise<Record<string, Float32Array>> {
    return (await this.fetch(this.outputs, image)) as Record<string, Float32Array>;
  }

  /** The outputs that are the same for every image: the hand that a mesh network poses. */
  async constants(): Promise<Record<string, Float32Array | Int32Array>> {
    const names = this.inference.outputNames.filter(isConstant);
    return this.fetch(names, new Uint8Array(3 * this.height * this.width));
  }

  private async fetch(names: string[], image: Uint8Array): Promise<Record<string, Float32Array | Int32Array>> {
    const input = new this.ort.Tensor('uint8', image, [1, this.height, this.width, 3]);
    const given = await this.inference.run({ [this.inference.inputNames[0]!]: input }, names);
    return Object.fromEntries(names.map((name) => [name, (given[name] as TypedTensor<'float32' | 'int32'>).data]));
  }
}

function isConstant(output: string): boolean {
  return output === 'faces' || output.startsWith('hand_');
}
