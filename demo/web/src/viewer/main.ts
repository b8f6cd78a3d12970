/** The page: frames from the connection to hands on the stage. */

import { Box3, Vector3 } from 'three';

import { SIDES } from '../common/constants.ts';
import { element } from '../common/dom.ts';
import { Connection, type State } from './connection.ts';
import { HandView } from './hand.ts';
import { Meter } from './meter.ts';
import type { Bind, Frame, StreamHand } from './protocol.ts';
import { Stage } from './stage.ts';

/** What the page says in each state: in its corner, and in its middle. */
const STATES: Readonly<Record<State, readonly [string, string]>> = {
  connecting: ['connecting', ''],
  live: ['live', ''],
  waiting: ['connected, no frames', 'Connected. The stream has not begun, or has ended.'],
  lost: ['reconnecting', 'No stream here. Is demo/stream.py running? If it has a token, open the address it printed.'],
  full: ['full', 'The stream has as many listeners as it takes. Close another page, or start it with more: --max-clients.'],
};
const NO_HAND = 'No hand in view. Hold one before the camera.';
const NO_HAND_AFTER_MS = 1000;

const stage = new Stage(element('scene'));
const meter = new Meter({ fps: element('fps'), latency: element('latency'), rate: element('rate') });
const connection = new Connection(showState, setBind);
const shown = { mesh: true, rig: false, joints: false, axes: false, follow: true };
const switches = Object.keys(shown) as (keyof typeof shown)[];
const views = new Map<string, HandView>(); // by the hand's id and side
let bind: Bind | null = null;
let newest: Frame | null = null;
let lastMs = performance.now();
let lastHandMs = lastMs;

function showState(state: State): void {
  const [text, hint] = STATES[state];
  const line = element('state');
  if (line.dataset['state'] === state) return;
  line.dataset['state'] = state;
  line.textContent = text;
  showHint(hint);
  lastHandMs = performance.now();
  if (state !== 'live') {
    newest = null;
    removeViews(() => true);
    for (const side of SIDES) element(side).dataset['seen'] = 'false';
  }
}

function showHint(text: string): void {
  const hint = element('hint');
  if (hint.textContent !== text) hint.textContent = text;
  hint.hidden = !text;
}

function setBind(message: Bind): void {
  bind = message;
  removeViews(() => true);
}

function removeViews(isGone: (key: string) => boolean): void {
  for (const [key, view] of views) {
    if (!isGone(key)) continue;
    stage.scene.remove(view);
    view.dispose();
    views.delete(key);
  }
}

function viewOf(hand: StreamHand, bound: Bind): [string, HandView] {
  const key = `${hand.side} ${hand.id}`;
  let view = views.get(key);
  if (!view) {
    view = new HandView(bound, hand.side);
    stage.scene.add(view);
    views.set(key, view);
  }
  return [key, view];
}

function showHands({ hands, camera }: Frame, bound: Bind): void {
  const present = new Set<string>();
  for (const hand of hands) {
    const [key, view] = viewOf(hand, bound);
    view.update(hand, shown);
    present.add(key);
  }
  removeViews((key) => !present.has(key));
  for (const side of SIDES) element(side).dataset['seen'] = String(hands.some((hand) => hand.side === side));
  if (hands.length) lastHandMs = performance.now();
  showHint(performance.now() - lastHandMs > NO_HAND_AFTER_MS ? NO_HAND : '');
  stage.showOrigin(shown.axes, camera);
}

/** The middle of all joints that are seen, and how far they reach from it; null where there are none. */
function extent({ hands }: Frame): [Vector3, number] | null {
  const joints = hands.flatMap(({ positions }) =>
    Array.from({ length: positions.length / 3 }, (_, joint) => new Vector3().fromArray(positions, 3 * joint)),
  );
  if (!joints.length) return null;
  const centre = new Box3().setFromPoints(joints).getCenter(new Vector3());
  return [centre, Math.max(...joints.map((joint) => joint.distanceTo(centre)))];
}

function draw(ms: number): void {
  const frame = connection.take();
  newest = frame ?? newest;
  if (newest && bind) {
    if (frame) showHands(frame, bind);
    const found = shown.follow ? extent(newest) : null;
    if (found) stage.follow(...found, (ms - lastMs) / 1000);
  }
  lastMs = ms;
  stage.draw();
  if (frame) meter.add(connection.age(frame));
  meter.tell(connection);
}

function toggle(name: keyof typeof shown): void {
  shown[name] = !shown[name];
  if (name === 'rig' || name === 'mesh') {
    if (name === 'mesh' && shown.mesh) shown.rig = false;
    if (name === 'rig') shown.mesh = !shown.rig;
    const format = shown.rig || !shown.mesh ? 'json' : 'binary'; // joints are enough where no vertices are drawn
    if (format !== connection.format) connection.open(format);
  }
  if (name === 'follow' && shown.follow) stage.refit();
  for (const key of switches) element(key).ariaPressed = String(shown[key]);
  if (newest && bind) showHands(newest, bind);
}

for (const name of switches) element(name).addEventListener('click', () => toggle(name));
const wanted = new URLSearchParams(location.search).get('show')?.split(',') ?? [];
switches.filter((name) => wanted.includes(name) && !shown[name]).forEach(toggle);
connection.fetchBind().catch(() => {});
connection.open(connection.format);
stage.renderer.setAnimationLoop(draw);

Object.assign(globalThis, { handmesh: { stage, connection, views } }); // for the browser's console, and for tests
