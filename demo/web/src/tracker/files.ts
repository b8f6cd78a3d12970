/** Fetches what tracking needs: side by side, with progress, again where a connection broke, kept for the next visit. */

const CACHE = 'handmesh-files';
const PAUSES_MS = [500, 2000]; // before the second and the third try
const TOLD_EVERY_MS = 100;

/** How much has come of all that was asked for; the total grows while servers have yet to say sizes. */
export interface Progress {
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

/** A file, and whether the browser's own cache has it now. */
export interface Fetched {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly isInBrowser: boolean;
}

/** How to fetch a file whose name tells its content: without asking the server whether it is still the same. */
export const FROM_BROWSER: RequestInit = { cache: 'force-cache' };

/** A file could not be had: the network's fault, not the file's. */
export class DownloadError extends Error {}

/** Files that come at the same time, told of together. */
export class Downloads {
  private readonly report: (progress: Progress) => void;
  private readonly files = new Map<string, Progress>();
  private readonly fresh = new Map<string, Uint8Array<ArrayBuffer>>();
  private toldMs = -Infinity;

  constructor(report: (progress: Progress) => void = () => {}) {
    this.report = report;
  }

  /**
   * The file at `url`, whose name tells its content apart from other versions; DownloadError after three tries.
   *
   * What the browser has of it is right, however old; where neither it nor the network has it, what `keep` kept is taken.
   */
  async get(url: string): Promise<Fetched> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.fetched(url);
      } catch (error) {
        const pause = PAUSES_MS[attempt];
        const kept = await (await cache())?.match(url);
        if (kept) {
          const bytes = new Uint8Array(await kept.arrayBuffer());
          this.tell(url, bytes.length, bytes.length);
          return { bytes, isInBrowser: false };
        }
        if (pause === undefined || (error as { isFinal?: boolean }).isFinal) {
          throw error instanceof DownloadError ? error : new DownloadError(`${url} does not come: ${(error as Error).message}`);
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  /** Keep what has come for the next visit: once it is in use, as this takes time; without room it comes anew. */
  keep(): void {
    this.fresh.forEach((bytes, url) => keep(url, bytes).catch(() => {}));
    this.fresh.clear();
  }

  private async fetched(url: string): Promise<Fetched> {
    const response = await fetch(url, FROM_BROWSER);
    if (!response.ok || !response.body) {
      const error = new DownloadError(`${url} does not come: the server answers ${response.status}`);
      throw Object.assign(error, { isFinal: response.status < 500 });
    }
    const length = Number(response.headers.get('content-length'));
    const parts: Uint8Array[] = [];
    let loaded = 0;
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) {
        break;
      }
      parts.push(value);
      loaded += value.length;
      this.tell(url, loaded, length); // compressed on the way, more comes than was said
    }
    const bytes = new Uint8Array(loaded);
    parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
    this.fresh.set(url, bytes);
    return { bytes, isInBrowser: !response.headers.get('cache-control')?.includes('no-store') };
  }

  private tell(url: string, loadedBytes: number, totalBytes: number): void {
    this.files.set(url, { loadedBytes: Math.min(loadedBytes, totalBytes), totalBytes });
    const now = performance.now();
    if (now - this.toldMs < TOLD_EVERY_MS && loadedBytes < totalBytes) {
      return;
    }
    this.toldMs = now;
    const sum = (of: keyof Progress) => [...this.files.values()].reduce((total, file) => total + file[of], 0);
    this.report({ loadedBytes: sum('loadedBytes'), totalBytes: sum('totalBytes') });
  }
}

/** Where files are kept; null where the browser keeps none, as in private windows and on pages without https. */
async function cache(): Promise<Cache | null> {
  return (await globalThis.caches?.open(CACHE).catch(() => null)) ?? null;
}

/** Store a file in place of its other versions, if its name tells them apart. */
async function keep(url: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const files = await cache();
  const stem = stemOf(url);
  if (files === null || stem === url || (await files.match(url))) {
    return;
  }
  const outdated = (await files.keys()).filter((request) => request.url !== url && stemOf(request.url) === stem);
  await Promise.all(outdated.map((request) => files.delete(request)));
  await files.put(url, new Response(bytes));
}

/** The address without the part of the name that tells versions apart: `.../fast-1a2b3c4d.onnx` is `.../fast.onnx`. */
const stemOf = (url: string): string => url.replace(/-[\w-]{8}(?=\.\w+$)/, '');
