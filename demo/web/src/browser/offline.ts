/**
 * The service worker: keeps the page itself, so that it opens at once and without a network the next time.
 *
 * What tracking needs, the networks and ONNX Runtime, is kept by `tracker/files`, which also tells how much has come.
 */

declare const self: ServiceWorkerGlobalScope;

/** What the build wrote, by `vite.config.ts`: the page's files, whose names but the first's tell their content. */
declare const PAGE_FILES: readonly string[];
declare const PAGE_HASH: string;

const PREFIX = 'handmesh-page-';
const CACHE = PREFIX + PAGE_HASH;
const FILES = [...PAGE_FILES].map((file) => new URL(file, location.href).href);

self.addEventListener('install', (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
});

self.addEventListener('activate', (event) => event.waitUntil(takeOver()));

async function takeOver(): Promise<void> {
  const outdated = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(outdated.map((name) => caches.delete(name)));
  await self.clients.claim();
}

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.mode === 'navigate') {
    event.respondWith(fetch(request).catch(async () => (await kept('./')) ?? Response.error())); // newest first
  } else if (FILES.includes(request.url)) {
    event.respondWith(kept(request).then((response) => response ?? fetch(request)));
  }
});

const kept = (request: Request | string) => caches.open(CACHE).then((cache) => cache.match(request));

export {};
