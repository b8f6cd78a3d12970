/** The messages of docs/stream.md, as the page wants them. */

import {
  HAND_BYTES, HEADER_BYTES, JOINT_FLOATS, KEYPOINTS, SIDES, STREAM_MAGIC, STREAM_VERSION, WEBXR_JOINTS,
} from '../common/constants.ts';
import type { Side } from '../tracker/types.ts';

const JOINTS = WEBXR_JOINTS.length;

/** One hand in the frame of an OpenXR view: x right, y up, z towards the viewer, metres. */
export interface StreamHand {
  readonly id: number; // stable while the hand is followed
  readonly side: Side;
  readonly predicted: boolean;
  readonly positions: Float32Array; // 25 x 3
  readonly orientations: Float32Array; // 25 x 4, quaternions xyzw
  readonly radii: Float32Array; // 25
  readonly vertices: Float32Array | null; // V x 3; null where the stream carries joints only
}

export interface StreamCamera {
  readonly width: number;
  readonly height: number;
  readonly fx: number;
  readonly fy: number;
}

export interface Frame {
  readonly sequence: number;
  readonly capturedMs: number; // on the server's clock, since 1970
  readonly camera: StreamCamera;
  readonly hands: StreamHand[];
}

/** What is told once: the mesh of each side and its pose at rest. */
export interface Bind {
  readonly joints: readonly string[];
  readonly parents: readonly number[];
  readonly weight_joints: readonly number[];
  readonly weights: readonly number[];
  readonly hands: Readonly<Record<Side, BindHand>>;
}

export interface BindHand {
  readonly colour_rgb: readonly [number, number, number];
  readonly vertices_m: readonly number[];
  readonly faces: readonly number[];
  readonly positions_m: readonly number[];
  readonly orientations_xyzw: readonly number[];
}

/** A frame as JSON, read already, with the fields that the page looks at. */
export interface FrameFields {
  readonly version: number;
  readonly sequence: number;
  readonly captured_unix_ms: number;
  readonly camera: StreamCamera;
  readonly hands: readonly {
    readonly id: number;
    readonly side: Side;
    readonly predicted: boolean;
    readonly positions_m: readonly number[];
    readonly orientations_xyzw: readonly number[];
    readonly radii_m: readonly number[];
  }[];
}

/** A frame of either format; throws RangeError or Error where it is not one. */
export function readFrame(data: ArrayBuffer | FrameFields): Frame {
  return data instanceof ArrayBuffer ? readBinary(data) : readJson(data);
}

function readJson(fields: FrameFields): Frame {
  if (fields.version !== STREAM_VERSION) {
    throw new Error(`this page reads version ${STREAM_VERSION}, not ${fields.version}`);
  }
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

function readBinary(buffer: ArrayBuffer): Frame {
  const view = new DataView(buffer);
  if (!STREAM_MAGIC.every((byte, i) => view.getUint8(i) === byte)) {
    throw new Error(`this page reads frames of version ${STREAM_VERSION}`);
  }
  const hands: StreamHand[] = [];
  let offset: number = HEADER_BYTES;
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

/** A hand, and where the next one begins. */
function readHand(buffer: ArrayBuffer, view: DataView, offset: number): [StreamHand, number] {
  const vertexCount = view.getUint16(offset + 6, true);
  const joints = new Float32Array(buffer, offset + HAND_BYTES, JOINTS * JOINT_FLOATS);
  const positions = new Float32Array(JOINTS * 3);
  const orientations = new Float32Array(JOINTS * 4);
  const radii = new Float32Array(JOINTS);
  for (let joint = 0; joint < JOINTS; joint += 1) {
    const at = JOINT_FLOATS * joint;
    positions.set(joints.subarray(at, at + 3), 3 * joint);
    orientations.set(joints.subarray(at + 3, at + 7), 4 * joint);
    radii[joint] = joints[at + 7]!;
  }
  const start = offset + HAND_BYTES + joints.byteLength + KEYPOINTS.length * 8;
  const hand = {
    id: view.getUint32(offset, true),
    side: SIDES[view.getUint8(offset + 4)]!,
    predicted: (view.getUint8(offset + 5) & 1) === 1,
    positions,
    orientations,
    radii,
    vertices: fromHalves(new Uint16Array(buffer, start, 3 * vertexCount), positions),
  };
  return [hand, start + 4 * Math.ceil((6 * vertexCount) / 4)];
}

/** Half-precision offsets from the wrist to positions. */
function fromHalves(halves: Uint16Array, wrist: Float32Array): Float32Array {
  return Float32Array.from(halves, (half, i) => FLOAT_OF_HALF[half]! + wrist[i % 3]!);
}

const FLOAT_OF_HALF = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
});
