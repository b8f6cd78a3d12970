// The page: frames from the connection to hands on the stage.

import { Box3, Vector3 } from 'three';
import { Connection } from './connection.js';
import { HandView } from './hand.js';
import { Meter } from './meter.js';
import { Stage } from './stage.js';

const STATES = {
  connecting: ['connecting', ''],
  live: ['live', ''],
  waiting: ['connected, no frames', 'Connected. The stream has not begun, or has ended.'],
  lost: ['reconnecting', 'No stream here. Is demo/stream.py running? If it has a token, open the address it printed.'],
};

const element = (id) => document.getElementById(id);

const stage = new Stage(element('scene'));
const meter = new Meter({ fps: element('fps'), latency: element('latency'), rate: element('rate') });
const connection = new Connection(showState, setBind);
const shown = { mesh: true, rig: false, joints: false, axes: false, follow: true };
const views = new Map(); // by the hand's id and side
let bind = null;
let newest = null;
let lastMs = performance.now();

function showState(state) {
  const [text, hint] = STATES[state];
  const line = element('state');
  if (line.dataset.state === state) return;
  line.dataset.state = state;
  line.textContent = text;
  element('hint').textContent = hint;
  element('hint').hidden = !hint;
  if (state !== 'live') {
    newest = null;
    removeViews(() => true);
  }
}

function setBind(message) {
  bind = message;
  removeViews(() => true);
}

function removeViews(isGone) {
  for (const [key, view] of views) {
    if (!isGone(key)) continue;
    stage.scene.remove(view);
    view.dispose();
    views.delete(key);
  }
}

function viewOf(hand) {
  const key = `${hand.side} ${hand.id}`;
  if (!views.has(key)) {
    const view = new HandView(bind, hand.side);
    stage.scene.add(view);
    views.set(key, view);
  }
  return [key, views.get(key)];
}

function showHands({ hands, camera }) {
  const present = new Set();
  for (const hand of hands) {
    const [key, view] = viewOf(hand);
    view.update(hand, shown);
    present.add(key);
  }
  removeViews((key) => !present.has(key));
  stage.showOrigin(shown.axes, camera);
}

/** The middle of all joints that are seen, and how far they reach from it; null where there are none. */
function extent({ hands }) {
  const joints = hands.flatMap(({ positions }) =>
    Array.from({ length: positions.length / 3 }, (_, joint) => new Vector3().fromArray(positions, 3 * joint)),
  );
  if (!joints.length) return null;
  const centre = new Box3().setFromPoints(joints).getCenter(new Vector3());
  return [centre, Math.max(...joints.map((joint) => joint.distanceTo(centre)))];
}

function draw(ms) {
  const frame = connection.take();
  newest = frame ?? newest;
  if (newest && bind) {
    if (frame) showHands(frame);
    const found = shown.follow ? extent(newest) : null;
    if (found) stage.follow(...found, (ms - lastMs) / 1000);
  }
  lastMs = ms;
  stage.draw();
  if (frame) meter.add(connection.age(frame));
  meter.tell(connection);
}

function toggle(name) {
  shown[name] = !shown[name];
  if (name === 'rig' || name === 'mesh') {
    if (name === 'mesh' && shown.mesh) shown.rig = false;
    if (name === 'rig') shown.mesh = !shown.rig;
    const format = shown.rig || !shown.mesh ? 'json' : 'binary'; // joints are enough where no vertices are drawn
    if (format !== connection.format) connection.open(format);
  }
  if (name === 'follow' && shown.follow) stage.refit();
  for (const key of Object.keys(shown)) element(key).ariaPressed = String(shown[key]);
  if (newest && bind) showHands(newest);
}

for (const name of Object.keys(shown)) element(name).addEventListener('click', () => toggle(name));
for (const name of new URLSearchParams(location.search).get('show')?.split(',') ?? []) {
  if (name in shown && !shown[name]) toggle(name);
}
connection.fetchBind().catch(() => {});
connection.open(connection.format);
stage.renderer.setAnimationLoop(draw);

globalThis.handmesh = { stage, connection, views }; // for the browser's console, and for tests
