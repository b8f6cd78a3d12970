/** One WebSocket that comes back by itself, keeps the newest frame only, and knows the server's clock. */

import { readFrame, type Bind, type Frame, type FrameFields } from './protocol.ts';

const PING_EVERY_MS = 2000;
const QUIET_AFTER_MS = 1500;
const RETRY_MS = [500, 1000, 2000, 4000];
const TRY_AGAIN_LATER = 1013; // a WebSocket's close code: there are as many clients as the server takes

export type State = 'connecting' | 'live' | 'waiting' | 'lost' | 'full';
export type Format = 'binary' | 'json';

type Message = ({ type: 'bind' } & Bind) | Pong | ({ type: 'frame' } & FrameFields);

interface Pong {
  readonly type: 'pong';
  readonly client_ms: number;
  readonly server_unix_ms: number;
}

const nowMs = () => performance.timeOrigin + performance.now();

export class Connection {
  format: Format = 'binary';
  frames = 0;
  bytes = 0;
  private readonly onState: (state: State) => void;
  private readonly onBind: (bind: Bind) => void;
  private readonly token = new URLSearchParams(location.hash.slice(1)).get('token');
  private socket: WebSocket | null = null;
  private retry: number | undefined;
  private newest: Frame | null = null; // of the frames not yet taken
  private clockAheadMs = 0; // of the server, against this page's
  private bestTripMs = Infinity;
  private failures = 0;
  private lastFrameMs = -Infinity;

  constructor(onState: (state: State) => void, onBind: (bind: Bind) => void) {
    [this.onState, this.onBind] = [onState, onBind];
    setInterval(() => this.ping(), PING_EVERY_MS);
    setInterval(() => this.watch(), 500);
  }

  /** Connect for frames with vertices ('binary') or with joints alone ('json'); again, if it was otherwise before. */
  open(format: Format): void {
    this.format = format;
    clearTimeout(this.retry);
    this.socket?.close();
    const query = new URLSearchParams({ format });
    if (this.token) query.set('token', this.token);
    const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/stream?${query}`);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      this.bestTripMs = Infinity;
      this.ping();
    };
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => this.receive(data);
    socket.onclose = ({ code }) => socket === this.socket && this.comeBack(code === TRY_AGAIN_LATER ? 'full' : 'lost');
    this.socket = socket;
  }

  /** The newest frame, once; null where none has come since. */
  take(): Frame | null {
    const frame = this.newest;
    this.newest = null;
    return frame;
  }

  /** Milliseconds from a frame's capture to now. */
  age(frame: Frame): number {
    return nowMs() + this.clockAheadMs - frame.capturedMs;
  }

  /** What the data of the mesh is fetched with, where the stream itself does not bring it. */
  async fetchBind(): Promise<void> {
    const headers: HeadersInit = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const answer = await fetch('/bind.json', { headers });
    if (answer.ok) this.onBind(await answer.json());
  }

  private receive(data: ArrayBuffer | string): void {
    this.bytes += typeof data === 'string' ? data.length : data.byteLength;
    const message = typeof data === 'string' ? (JSON.parse(data) as Message) : data;
    if ('type' in message && message.type === 'bind') return this.onBind(message);
    if ('type' in message && message.type === 'pong') return this.setClock(message);
    this.newest = readFrame(message);
    this.failures = 0;
    this.frames += 1;
    this.lastFrameMs = nowMs();
    return this.onState('live');
  }

  private setClock({ client_ms: sentMs, server_unix_ms: serverMs }: Pong): void {
    const tripMs = nowMs() - sentMs;
    this.bestTripMs += 0.5; // clocks drift: believe an old short trip a little less each time
    if (tripMs > this.bestTripMs) return;
    this.bestTripMs = tripMs;
    this.clockAheadMs = serverMs - (sentMs + tripMs / 2);
  }

  private get isOpen(): boolean {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  private ping(): void {
    if (this.isOpen) this.socket!.send(JSON.stringify({ type: 'ping', client_ms: nowMs() }));
  }

  private watch(): void {
    if (this.isOpen && nowMs() - this.lastFrameMs > QUIET_AFTER_MS) this.onState('waiting');
  }

  private comeBack(state: State): void {
    this.newest = null;
    this.onState(state);
    const wait = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)];
    this.failures += 1;
    this.retry = setTimeout(() => this.open(this.format), wait);
  }
}
