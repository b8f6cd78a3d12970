import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join, sep } from 'node:path';
import { defineConfig } from 'vite';

const SOURCES = ['index.html', 'package.json', 'package-lock.json', 'vite.config.js', 'public', 'src'];

/** SHA-256 over the names and contents of all sources: a test compares it with the committed sources. */
function digest() {
  const hash = createHash('sha256');
  const files = SOURCES.flatMap((name) =>
    name.includes('.') ? [name] : readdirSync(name, { recursive: true }).map((file) => join(name, file)),
  );
  for (const file of files.map((name) => name.split(sep).join('/')).sort()) {
    hash.update(`${file}\0`).update(readFileSync(file)).update('\0');
  }
  return hash.digest('hex');
}

/** Adds to the built page what it was built from, and the licence of the library inside. */
const provenance = {
  name: 'provenance',
  generateBundle() {
    this.emitFile({ type: 'asset', fileName: 'sources.sha256.txt', source: `${digest()}\n` });
    this.emitFile({
      type: 'asset',
      fileName: 'three.LICENSE.txt',
      source: readFileSync('node_modules/three/LICENSE'),
    });
  },
};

export default defineConfig({
  base: './',
  plugins: [provenance],
  build: {
    outDir: '../../../handmesh/assets/viewer',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 800,
    modulePreload: false,
    rollupOptions: {
      output: { entryFileNames: 'viewer.js', assetFileNames: '[name][extname]' },
    },
  },
  server: {
    proxy: {
      '/bind.json': 'http://127.0.0.1:8765',
      '/stream': { target: 'ws://127.0.0.1:8765', ws: true },
    },
  },
});
