import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { defaultClientConditions, defineConfig, type Plugin } from 'vite';

const ASSETS = new URL('../../../handmesh/assets/', import.meta.url);
const MODELS = ['detector', 'fast', 'balanced'];

/** Copies the package's networks and clip to where the page finds them, and a licence that the bundler drops. */
const packagedFiles: Plugin = {
  name: 'packaged-files',
  generateBundle() {
    const source = readFileSync(new URL('node_modules/three/LICENSE', import.meta.url));
    this.emitFile({ type: 'asset', fileName: 'three.LICENSE.txt', source });
  },
  config() {
    const to = new URL('public/', import.meta.url);
    mkdirSync(new URL('models/', to), { recursive: true });
    MODELS.forEach((name) => copyFileSync(new URL(`${name}.onnx`, ASSETS), new URL(`models/${name}.onnx`, to)));
    copyFileSync(new URL('demo.mp4', ASSETS), new URL('demo.mp4', to));
  },
};

// Without these, browsers share no memory between threads, and WebAssembly has one.
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

export default defineConfig({
  base: './',
  plugins: [packagedFiles],
  resolve: { conditions: ['onnxruntime-web-use-extern-wasm', ...defaultClientConditions] },
  optimizeDeps: { exclude: ['onnxruntime-web'] },
  worker: { format: 'es' },
  build: { target: 'es2022', assetsInlineLimit: 0, chunkSizeWarningLimit: 1000, modulePreload: false },
  server: { headers },
  preview: { headers },
});
