/** Fetches what tracking needs: side by side, with progress, again where a connection broke, kept for the next visit. */

const CACHE = 'handmesh-files';
const PAUSES_MS = [500, 2000]; // before the second and the third try

/** How much has come of all that was asked for; the total grows while servers have yet to say sizes. */
export interface Progress {
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

/** A file could not be had: the network's fault, not the file's. */
export class DownloadError extends Error {}

/** Files that come at the same time, told of together. */
export class Downloads {
  private readonly report: (progress: Progress) => void;
  private readonly files = new Map<string, Progress>();

  constructor(report: (progress: Progress) => void = () => {}) {
    this.report = report;
  }

  /** The file at `url`, whose name tells its content apart from other versions; DownloadError after three tries. */
  async get(url: string): Promise<Uint8Array<ArrayBuffer>> {
    const kept = await (await cache())?.match(url);
    if (kept) {
      const bytes = new Uint8Array(await kept.arrayBuffer());
      this.tell(url, bytes.length, bytes.length);
      return bytes;
    }
    for (let attempt = 0; ; attempt++) {
      try {
        const bytes = await this.fetched(url);
        keep(url, bytes).catch(() => {}); // without room for it, it comes anew the next time
        return bytes;
      } catch (error) {
        const pause = PAUSES_MS[attempt];
        if (pause === undefined || (error as { isFinal?: boolean }).isFinal) {
          throw error instanceof DownloadError ? error : new DownloadError(`${url} does not come: ${(error as Error).message}`);
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  private async fetched(url: string): Promise<Uint8Array<ArrayBuffer>> {
    const response = await fetch(url);
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
    return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
  }

  private tell(url: string, loadedBytes: number, totalBytes: number): void {
    this.files.set(url, { loadedBytes: Math.min(loadedBytes, totalBytes), totalBytes });
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
  if (files === null || stem === url) {
    return;
  }
  const outdated = (await files.keys()).filter((request) => request.url !== url && stemOf(request.url) === stem);
  await Promise.all(outdated.map((request) => files.delete(request)));
  await files.put(url, new Response(bytes));
}

/** The address without the part of the name that tells versions apart: `.../fast-1a2b3c4d.onnx` is `.../fast.onnx`. */
const stemOf = (url: string): string => url.replace(/-[\w-]{8}(?=\.\w+$)/, '');
