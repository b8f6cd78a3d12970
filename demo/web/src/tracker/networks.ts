/** Where the networks lie: beside this module, under names that the build derives from their content. */

import { MODELS } from '../common/constants.ts';
import type { Provider } from './messages.ts';

export type Model = (typeof MODELS)[number];

// Literal, each of them: so that bundlers see the files and carry them along.
const detector = new URL('../../networks/detector.onnx', import.meta.url).href;

/** By what computes them: WebAssembly multiplies integers of eight bits, for which WebGPU has no operators. */
export const NETWORKS: Readonly<Record<Provider, Readonly<Record<Model | 'detector', string>>>> = {
  wasm: {
    fast: new URL('../../networks/fast.onnx', import.meta.url).href,
    balanced: new URL('../../networks/balanced.onnx', import.meta.url).href,
    detector,
  },
  webgpu: {
    fast: new URL('../../networks/fast_webgpu.onnx', import.meta.url).href,
    balanced: new URL('../../networks/balanced_webgpu.onnx', import.meta.url).href,
    detector,
  },
};
