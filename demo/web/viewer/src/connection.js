// One WebSocket that comes back by itself, keeps the newest frame only, and knows the server's clock.

import { readFrame } from './protocol.js';

const PING_EVERY_MS = 2000;
const QUIET_AFTER_MS = 1500;
const RETRY_MS = [500, 1000, 2000, 4000];

const nowMs = () => performance.timeOrigin + performance.now();

export class Connection {
  /** @param {(state: 'connecting' | 'live' | 'waiting' | 'lost') => void} onState @param {(bind: object) => void} onBind */
  constructor(onState, onBind) {
    this.onState = onState;
    this.onBind = onBind;
    this.format = 'binary';
    this.newest = null; // of the frames not yet taken
    this.clockAheadMs = 0; // of the server, against this page's
    this.bestTripMs = Infinity;
    this.frames = 0;
    this.bytes = 0;
    this.failures = 0;
    this.lastFrameMs = -Infinity;
    this.token = new URLSearchParams(location.hash.slice(1)).get('token');
    setInterval(() => this.#ping(), PING_EVERY_MS);
    setInterval(() => this.#watch(), 500);
  }

  /** Connect for frames with vertices ('binary') or with joints alone ('json'); again, if it was otherwise before. */
  open(format) {
    this.format = format;
    clearTimeout(this.retry);
    this.socket?.close();
    const query = new URLSearchParams({ format });
    if (this.token) query.set('token', this.token);
    const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/stream?${query}`);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      this.failures = 0;
      this.bestTripMs = Infinity;
      this.onState('waiting');
      this.#ping();
    };
    socket.onmessage = ({ data }) => this.#take(data);
    socket.onclose = () => socket === this.socket && this.#comeBack();
    this.socket = socket;
  }

  /** The newest frame, once; null where none has come since. */
  take() {
    const frame = this.newest;
    this.newest = null;
    return frame;
  }

  /** Milliseconds from a frame's capture to now. */
  age(frame) {
    return nowMs() + this.clockAheadMs - frame.capturedMs;
  }

  /** What the data of the mesh is fetched with, where the stream itself does not bring it. */
  async fetchBind() {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const answer = await fetch('/bind.json', { headers });
    if (answer.ok) this.onBind(await answer.json());
  }

  #take(data) {
    this.bytes += data.byteLength ?? data.length;
    const message = typeof data === 'string' ? JSON.parse(data) : data;
    if (message.type === 'bind') return this.onBind(message);
    if (message.type === 'pong') return this.#setClock(message);
    this.newest = readFrame(message);
    this.frames += 1;
    this.lastFrameMs = nowMs();
    return this.onState('live');
  }

  #setClock({ client_ms: sentMs, server_unix_ms: serverMs }) {
    const tripMs = nowMs() - sentMs;
    this.bestTripMs += 0.5; // clocks drift: believe an old short trip a little less each time
    if (tripMs > this.bestTripMs) return;
    this.bestTripMs = tripMs;
    this.clockAheadMs = serverMs - (sentMs + tripMs / 2);
  }

  #ping() {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(JSON.stringify({ type: 'ping', client_ms: nowMs() }));
  }

  #watch() {
    const open = this.socket?.readyState === WebSocket.OPEN;
    if (open && nowMs() - this.lastFrameMs > QUIET_AFTER_MS) this.onState('waiting');
  }

  #comeBack() {
    this.newest = null;
    this.onState('lost');
    const wait = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)];
    this.failures += 1;
    this.retry = setTimeout(() => this.open(this.format), wait);
  }
}
