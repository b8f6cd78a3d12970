// The messages of docs/stream.md, version 1, as the page wants them.

export const VERSION = 1;
const MAGIC = 0x46_4d_48 | (VERSION << 24); // 'HMF' and the version, little-endian
const HEADER_BYTES = 64;
const HAND_BYTES = 20;
const JOINTS = 25;
const KEYPOINTS = 21;

/**
 * @typedef {object} Hand one hand in the frame of an OpenXR view: x right, y up, z towards the viewer, metres
 * @property {number} id stable while the hand is followed
 * @property {'left' | 'right'} side
 * @property {boolean} predicted
 * @property {Float32Array} positions 25 x 3
 * @property {Float32Array} orientations 25 x 4, quaternions xyzw
 * @property {Float32Array} radii 25
 * @property {Float32Array | null} vertices V x 3; null where the stream carries joints only
 *
 * @typedef {object} Frame
 * @property {number} sequence
 * @property {number} capturedMs on the server's clock, since 1970
 * @property {{width: number, height: number, fx: number, fy: number}} camera
 * @property {Hand[]} hands
 */

/** A frame of either format; throws RangeError or Error where it is not one. @returns {Frame} */
export function readFrame(data) {
  return data instanceof ArrayBuffer ? readBinary(data) : readJson(data);
}

function readJson(fields) {
  if (fields.version !== VERSION) throw new Error(`this page reads version ${VERSION}, not ${fields.version}`);
  const hands = fields.hands.map((hand) => ({
    id: hand.id,
    side: hand.side,
    predicted: hand.predicted,
    positions: Float32Array.from(hand.positions_m),
    orientations: Float32Array.from(hand.orientations_xyzw),
    radii: Float32Array.from(hand.radii_m),
    vertices: null,
  }));
  return { sequence: fields.sequence, capturedMs: fields.captured_unix_ms, camera: fields.camera, hands };
}

function readBinary(buffer) {
  const view = new DataView(buffer);
  if (view.getUint32(0, true) !== MAGIC) throw new Error(`this page reads frames of version ${VERSION}`);
  const hands = [];
  let offset = HEADER_BYTES;
  for (let count = view.getUint8(60); count > 0; count -= 1) {
    const [hand, end] = readHand(buffer, view, offset);
    hands.push(hand);
    offset = end;
  }
  const camera = {
    fx: view.getFloat32(40, true),
    fy: view.getFloat32(44, true),
    width: view.getUint16(56, true),
    height: view.getUint16(58, true),
  };
  return { sequence: view.getUint32(4, true), capturedMs: view.getFloat64(16, true), camera, hands };
}

function readHand(buffer, view, offset) {
  const vertexCount = view.getUint16(offset + 6, true);
  const joints = new Float32Array(buffer, offset + HAND_BYTES, JOINTS * 8);
  const positions = new Float32Array(JOINTS * 3);
  const orientations = new Float32Array(JOINTS * 4);
  const radii = new Float32Array(JOINTS);
  for (let joint = 0; joint < JOINTS; joint += 1) {
    positions.set(joints.subarray(8 * joint, 8 * joint + 3), 3 * joint);
    orientations.set(joints.subarray(8 * joint + 3, 8 * joint + 7), 4 * joint);
    radii[joint] = joints[8 * joint + 7];
  }
  const start = offset + HAND_BYTES + joints.byteLength + KEYPOINTS * 8;
  const vertices = fromHalves(new Uint16Array(buffer, start, 3 * vertexCount), positions);
  const hand = {
    id: view.getUint32(offset, true),
    side: view.getUint8(offset + 4) === 0 ? 'left' : 'right',
    predicted: (view.getUint8(offset + 5) & 1) === 1,
    positions,
    orientations,
    radii,
    vertices,
  };
  return [hand, start + 4 * Math.ceil((6 * vertexCount) / 4)];
}

/** Half-precision offsets from the wrist to places. */
function fromHalves(halves, wrist) {
  const places = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i += 3) {
    places[i] = FLOAT_OF_HALF[halves[i]] + wrist[0];
    places[i + 1] = FLOAT_OF_HALF[halves[i + 1]] + wrist[1];
    places[i + 2] = FLOAT_OF_HALF[halves[i + 2]] + wrist[2];
  }
  return places;
}

const FLOAT_OF_HALF = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
});
