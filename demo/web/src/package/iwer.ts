/** A webcam's hands as those of an emulated headset: for any WebXR page that runs on IWER, Meta's WebXR runtime. */

import { lookRotation, P_JOINT_SPACE, P_SPACE, XRRigidTransform, type XRDevice } from 'iwer';

import { WEBXR_JOINTS } from '../common/constants.ts';
import { pinches } from '../tracker/gestures.ts';
import { surest } from '../tracker/hands.ts';
import type { Hand, Side } from '../tracker/types.ts';
import { toWebXR } from '../tracker/webxr.ts';

const SHOULDER_M = { right: 0.15, left: -0.15, down: 0.2 }; // from the head, where the pointing ray comes from
const PALM = WEBXR_JOINTS.indexOf('middle-finger-metacarpal');
const KNUCKLE = WEBXR_JOINTS.indexOf('index-finger-phalanx-proximal');

/** Where the camera is as seen from the head. */
export interface Placement {
  readonly isFacing: boolean; // it looks at the user, as a webcam does; otherwise it looks where the user looks
  readonly distanceM: number; // ahead of the head
}

/**
 * Moves the hands of an IWER `XRDevice` as a camera sees hands: make one after `device.installRuntime()`, and call
 * `update` with every frame's hands. A side without a hand is disconnected, a pinch is a `select`.
 */
export class CameraHands {
  private readonly device: XRDevice;
  private readonly headFromCamera: DOMMatrix;

  constructor(device: XRDevice, { isFacing = true, distanceM = isFacing ? 0.6 : 0 }: Partial<Placement> = {}) {
    this.device = device;
    this.headFromCamera = new DOMMatrix().translate(0, 0, -distanceM).rotateAxisAngle(0, 1, 0, isFacing ? 180 : 0);
    device.primaryInputMode = 'hand';
    for (const input of Object.values(device.hands)) {
      input.updateHandPose = () => {}; // or else each frame would begin with a pose of IWER's own
      input.connected = false;
    }
  }

  /** Take on the poses of a frame's hands, of each side the surest. */
  update(hands: readonly Hand[]): void {
    for (const side of ['left', 'right'] as const) {
      const hand = surest(hands, side);
      const input = this.device.hands[side]!;
      input.connected = hand !== null;
      if (hand) {
        input.updatePinchValue(pinches(hand, [input.pinchValue > 0])[0] ? 1 : 0);
        this.pose(side, hand);
      }
    }
  }

  private pose(side: Side, hand: Hand): void {
    const input = this.device.hands[side]!;
    const { positionsM, orientationsXyzw, radiiM } = toWebXR(hand);
    const head = matrixOf(this.device.position, this.device.quaternion);
    const fromCamera = head.multiply(this.headFromCamera);
    const joints = WEBXR_JOINTS.map((_, k) => {
      const [x, y, z] = positionsM.subarray(3 * k, 3 * k + 3);
      const [a, b, c, d] = orientationsXyzw.subarray(4 * k, 4 * k + 4);
      return fromCamera.multiply(matrixOf({ x: x!, y: y!, z: z! }, { x: a!, y: b!, z: c!, w: d! }));
    });
    const shoulder = head.transformPoint({ x: SHOULDER_M[side], y: -SHOULDER_M.down, z: 0 });
    const { m41: x, m42: y, m43: z } = joints[KNUCKLE]!;
    const ray = lookRotation({ x: x - shoulder.x, y: y - shoulder.y, z: z - shoulder.z });
    input.position.set(x, y, z);
    input.quaternion.set(ray.x, ray.y, ray.z, ray.w);
    const fromWorld = matrixOf({ x, y, z }, ray).inverse(); // joints hang on the ray
    const { hand: spaces, gripSpace } = input.inputSource;
    [...spaces!.values()].forEach((space, k) => {
      space[P_SPACE].offsetMatrix = fromWorld.multiply(joints[k]!).toFloat32Array();
      space[P_JOINT_SPACE].radius = radiiM[k]!;
    });
    gripSpace![P_SPACE].offsetMatrix = fromWorld.multiply(joints[PALM]!).toFloat32Array();
  }
}

interface Xyz { readonly x: number; readonly y: number; readonly z: number }

const matrixOf = ({ x, y, z }: Xyz, q: Xyz & { readonly w: number }): DOMMatrix =>
  new DOMMatrix([...new XRRigidTransform({ x, y, z }, { x: q.x, y: q.y, z: q.z, w: q.w }).matrix]);
