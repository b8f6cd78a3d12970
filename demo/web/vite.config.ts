import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defaultClientConditions, defineConfig, type Plugin, type Rolldown, type UserConfig } from 'vite';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const ASSETS = here('../../handmesh/assets/');
const PUBLIC = here('public/');
const NETWORKS = here('networks/');
const WORKER = 'offline.js';
const KEPT = /\.(css|js|mjs)$/; // of the page, by its service worker

/** Puts the licence beside the page, which the bundler drops from the code. */
const licence: Plugin = {
  name: 'licence',
  generateBundle() {
    const source = readFileSync(here('node_modules/three/LICENSE'));
    this.emitFile({ type: 'asset', fileName: 'three.LICENSE.txt', source });
  },
};

/** Puts the package's networks and clip where the pages find them. */
const packagedFiles: Plugin = {
  name: 'packaged-files',
  config() {
    [PUBLIC, NETWORKS].forEach((folder) => mkdirSync(folder, { recursive: true }));
    copyFileSync(`${ASSETS}demo.mp4`, `${PUBLIC}demo.mp4`);
    const written = spawnSync(python(), [here('write_networks.py'), NETWORKS], { encoding: 'utf8' });
    if (written.status !== 0) {
      const reason = written.error?.message ?? written.stderr.trim().split('\n').at(-1);
      throw new Error(`the networks are made by a Python with \`pip install '.[web]'\`, $PYTHON or python3: ${reason}`);
    }
  },
};

/** Tells the service worker which files it keeps. */
const keptFiles: Plugin = {
  name: 'kept-files',
  apply: 'build',
  generateBundle: {
    order: 'post',
    handler(_, bundle) {
      const files = ['./', ...Object.keys(bundle).filter((name) => KEPT.test(name) && name !== WORKER)];
      const page = JSON.stringify(bundle['index.html']);
      const hash = createHash('sha256').update(files.join()).update(page).digest('hex').slice(0, 12);
      const worker = bundle[WORKER] as Rolldown.OutputChunk;
      worker.code = worker.code.replace('PAGE_FILES', JSON.stringify(files)).replace('PAGE_HASH', JSON.stringify(hash));
    },
  },
};

/** The Python that has handmesh: `PYTHON`, or that of `make`, or the first on the path. */
function python(): string {
  const ofMake = here('../../.venv/bin/python');
  return process.env['PYTHON'] ?? (existsSync(ofMake) ? ofMake : 'python3');
}

// Without these, browsers share no memory between threads, and WebAssembly has one.
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

const page = (name: string): UserConfig => ({
  base: './',
  root: here(`src/${name}`),
  cacheDir: here(`node_modules/.vite/${name}`),
});

/** Hands from the camera, computed on this device: `dist/` is a site of its own. */
const browser: UserConfig = {
  ...page('browser'),
  publicDir: PUBLIC,
  plugins: [licence, packagedFiles, keptFiles],
  resolve: { conditions: ['onnxruntime-web-use-extern-wasm', ...defaultClientConditions] },
  optimizeDeps: { exclude: ['onnxruntime-web'] },
  worker: { format: 'es' },
  build: {
    outDir: here('dist'),
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 1000,
    modulePreload: false,
    rollupOptions: {
      input: { index: here('src/browser/index.html'), offline: here('src/browser/offline.ts') },
      output: { entryFileNames: ({ name }) => (name === 'offline' ? WORKER : 'assets/[name]-[hash].js') },
    },
  },
  server: { headers, fs: { allow: [here('.')] } },
  preview: { headers },
};

/** The npm package: modules as they are, so that bundlers drop what is not used, and a worker with all that it needs. */
const npmPackage: UserConfig = {
  ...page('package'),
  publicDir: false,
  plugins: [packagedFiles],
  resolve: browser.resolve,
  worker: { format: 'es' },
  build: {
    emptyOutDir: true,
    target: 'es2022',
    minify: false,
    assetsInlineLimit: 0,
    modulePreload: false,
    rollupOptions: {
      input: Object.fromEntries(['index', 'three', 'iwer'].map((name) => [name, here(`src/package/${name}.ts`)])),
      external: ['three', 'iwer'],
      preserveEntrySignatures: 'strict',
      output: { preserveModules: true, preserveModulesRoot: here('src'), entryFileNames: '[name].js' },
    },
  },
};

/** Hands from a stream: the Python package has the built page and serves it. */
const viewer: UserConfig = {
  ...page('viewer'),
  plugins: [licence],
  build: {
    outDir: `${ASSETS}viewer`,
    emptyOutDir: true,
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 800,
    modulePreload: false,
    rollupOptions: { output: { entryFileNames: 'viewer.js', assetFileNames: '[name][extname]' } },
  },
  server: {
    fs: { allow: [here('.')] },
    proxy: {
      '/bind.json': 'http://127.0.0.1:8765',
      '/stream': { target: 'ws://127.0.0.1:8765', ws: true },
    },
  },
};

export default defineConfig(({ mode }) => ({ viewer, package: npmPackage })[mode] ?? browser);
