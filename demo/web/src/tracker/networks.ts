/** Where the networks lie: beside this module, under names that the build derives from their content. */

import { MODELS } from '../common/constants.ts';

export type Model = (typeof MODELS)[number];

// Literal, each of them: so that bundlers see the files and carry them along.
export const NETWORKS: Readonly<Record<Model | 'detector', string>> = {
  fast: new URL('../../networks/fast.onnx', import.meta.url).href,
  balanced: new URL('../../networks/balanced.onnx', import.meta.url).href,
  detector: new URL('../../networks/detector.onnx', import.meta.url).href,
};
