/**
 * Gives the web page's answers to cases from Python: `node twins.mjs FOLDER < cases.json`; FOLDER: compiled modules.
 * tests/test_web_twins.py asks, and compares with what Python answers to the same cases.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const load = (name) => import(pathToFileURL(join(process.argv[2], `${name}.js`)));
const [
  alignment, association, cameraFrame, confidence, crop, detection, estimator, geometry, gestures, lbs, smoothing, trackers,
  types, webxr,
] = await Promise.all(
    [
      'alignment', 'association', 'camera_frame', 'confidence', 'crop', 'detection', 'estimator', 'geometry', 'gestures',
      'lbs', 'smoothing', 'tracker', 'types', 'webxr',
    ].map((name) => load(`tracker/${name}`)),
  );
const protocol = await load('viewer/protocol');

const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'));
const doubles = (values) => Float64Array.from(values);
const mapped = (named, make) => Object.fromEntries(Object.entries(named).map(([name, value]) => [name, make(value)]));
const floats = (named) => mapped(named, (values) => Float32Array.from(values));
/** Arrays instead of typed arrays, as JSON has no others. */
const plain = (named) => mapped(named, (value) => (ArrayBuffer.isView(value) ? [...value] : value));
const imageOf = ({ width, height, rgba }) => ({ width, height, data: bytes(rgba) });
const model = (constants) => new lbs.SkinnedHand(floats(constants));
const handOf = (hand) => mapped(hand, (value) => (Array.isArray(value) ? doubles(value) : value));
const estimateOf = (estimate) => ({ ...estimate, hand: handOf(estimate.hand) });

/** A network that gives what was recorded, in that order. */
function recorded({ runs, ...session }) {
  const rest = runs.map(floats);
  return { ...session, run: async () => rest.shift() };
}

const answers = {
  warp: ({ image, box, size, mirror }) => [...crop.warp(imageOf(image), crop.cropAffine(box, size, mirror), size)],
  letterbox: ({ image, height, width }) => plain(detection.letterbox(imageOf(image), height, width)),
  maps: ({ maps, columns, boxed, threshold }) => detection.readMaps(floats(maps), columns, boxed, threshold),
  root: ({ joints, pixels, camera }) => geometry.solveTranslation(doubles(joints), doubles(pixels), camera),
  box: ({ pixels }) => types.boxAround(doubles(pixels)),
  usable: ({ box, size }) => estimator.isUsable(box, size),
  plausible: ({ outputs }) => cameraFrame.isPlausible(floats(outputs)),
  logistic: ({ logits }) => logits.map(geometry.logistic),
  confidence: ({ metadata, given }) => {
    const { found, followed, proposed } = confidence.confidenceOf(metadata);
    return [confidence.probability(found, given), confidence.probability(followed, given), proposed];
  },
  posed: ({ constants, rotations, shape }) => {
    const hand = model(constants);
    return plain(hand.posed(doubles(rotations), hand.rest(doubles(shape))));
  },
  lift: ({ constants, outputs, box, side, size, camera }) => {
    const bending = constants && new alignment.Alignment(model(constants));
    return plain(cameraFrame.toCameraFrame(floats(outputs), { box, side, size }, camera, bending));
  },
  pinches: ({ hands }) => {
    let before = [];
    return hands.map(({ jointsM, contact }) => {
      before = gestures.pinches({ jointsM: doubles(jointsM), contact: contact && Float32Array.from(contact) }, before);
      return before;
    });
  },
  same: ({ a, b }) => [
    association.isSameHand(estimateOf(a), estimateOf(b)),
    association.isCovered(a.box, [estimateOf(b)]),
    association.overlap(a.box, b.box),
  ],
  associate: ({ tracks, seen, camera, timeS }) => {
    const smoother = { step: (hand) => hand };
    const followed = tracks.map(({ estimate, timeS: begunS, misses }, id) =>
      Object.assign(new association.Track(id, smoother, estimateOf(estimate), camera, begunS), { misses }));
    const estimates = seen.map(estimateOf);
    const looks = new Map(followed.map((track, k) => [track, estimates[k]]));
    return {
      kept: [...association.deduplicate(looks, timeS).keys()].map(({ id }) => id).sort(),
      nearest: estimates.map((estimate) => association.trackOf(followed, estimate, timeS)?.id ?? null),
    };
  },
  turns: ({ cutoff, rotations, steps }) => {
    const filter = new smoothing.RotationOneEuro(cutoff);
    return rotations.map((rotation, k) => [...filter.step(doubles(rotation), steps[k])]);
  },
  smooth: ({ constants, preset, hands, camera, steps }) => {
    const smoother = new smoothing.HandSmoother(preset, model(constants));
    return hands.map((hand, k) => plain(smoother.step(handOf(hand), camera, steps[k])));
  },
  track: async ({ constants, mesh, detector, preset, camera, times }) => {
    const tracker = new trackers.HandTracker(recorded(mesh), recorded(detector), model(constants), preset);
    const { width, height } = camera;
    const view = { image: { width, height, data: new Uint8Array(4 * width * height) }, camera };
    const frames = [];
    for (const timeS of times) {
      frames.push((await tracker.track(view, timeS)).map(plain));
      await tracker.searchAhead();
    }
    return frames;
  },
  webxr: ({ hand, radii }) => plain(webxr.toWebXR(handOf(hand), radii && Float32Array.from(radii))),
  frame: ({ binary, text }) => {
    const { hands, ...rest } = protocol.readFrame(binary ? bytes(binary).buffer : JSON.parse(text));
    return { ...rest, hands: hands.map(plain) };
  },
};

const cases = JSON.parse(readFileSync(0, 'utf8'));
const given = [];
for (const { twin, ...rest } of cases) {
  given.push(await answers[twin](rest));
}
process.stdout.write(JSON.stringify(given));
