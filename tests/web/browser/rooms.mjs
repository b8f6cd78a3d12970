/** Runs the page's rooms on cases from Python: `node rooms.mjs FOLDER < cases.json`; FOLDER: compiled modules. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const room = (name) => import(pathToFileURL(join(process.argv[2], `${name}.js`)));
const [alignment, crop, detection, following, lifting, skinning, smoothing, structs] = await Promise.all(
  ['alignment', 'crop', 'detection', 'following', 'lifting', 'skinning', 'smoothing', 'structs'].map(room),
);

const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'));
const doubles = (values) => Float64Array.from(values);
const floats = (named) => Object.fromEntries(Object.entries(named).map(([k, v]) => [k, Float32Array.from(v)]));
const picture = ({ width, height, rgba }) => ({ width, height, data: bytes(rgba) });

const answers = {
  warp: ({ image, box, size, mirror }) => [...crop.warp(picture(image), crop.cropAffine(box, size, mirror), size)],
  letterbox: ({ image, height, width }) => {
    const boxed = detection.letterbox(picture(image), height, width);
    return { ...boxed, image: [...boxed.image] };
  },
  root: ({ joints, pixels, camera }) => lifting.placeRoot(doubles(joints), doubles(pixels), camera),
  box: ({ pixels }) => structs.boxAround(doubles(pixels)),
  posed: ({ constants, rotations, shape }) => {
    const hand = new skinning.SkinnedHand(floats(constants));
    const { vertices, joints } = hand.posed(doubles(rotations), hand.rest(doubles(shape)));
    return { vertices: [...vertices], joints: [...joints] };
  },
  lift: ({ constants, outputs, box, side, size, camera }) => {
    const bending = constants && new alignment.Alignment(new skinning.SkinnedHand(floats(constants)));
    const hand = lifting.lift(floats(outputs), { box, side, size }, camera, bending);
    return Object.fromEntries(['verticesM', 'jointsM', 'jointsPx', 'pose'].map((name) => [name, [...hand[name]]]));
  },
  rules: () => following.RULES,
  turns: ({ rotations, steps }) => {
    const filter = new smoothing.RotationOneEuro({ stillHz: 2, perSpeed: 3, jump: 1 });
    return rotations.map((rotation, k) => [...filter.step(doubles(rotation), steps[k])]);
  },
};

const cases = JSON.parse(readFileSync(0, 'utf8'));
process.stdout.write(JSON.stringify(cases.map(({ room: name, ...given }) => answers[name](given))));
