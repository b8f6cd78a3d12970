/** Hands for three.js: what its XR hand models take a headset's for. */

import { Group, type Object3DEventMap } from 'three';

import { WEBXR_JOINTS } from '../common/constants.ts';
import { surest } from '../tracker/hands.ts';
import type { Hand, Side } from '../tracker/types.ts';
import { toWebXR } from '../tracker/webxr.ts';

/** A joint as `WebXRManager` gives it: `jointRadius` in metres, `visible` while it is tracked. */
export type XRJoint = Group & { jointRadius: number };

type ConnectionEvents = Object3DEventMap & { connected: { data: { hand: true; handedness: Side } } };

/**
 * One hand like that of `renderer.xr.getHand(k)`, for `XRHandModelFactory.createHandModel`, `XRHandMeshModel` and
 * `XRHandPrimitiveModel`. Its frame is the camera's as an XR view: x right, y up, z to the viewer, metres.
 */
export class HandSpace extends Group<ConnectionEvents> {
  readonly joints: Record<string, XRJoint> = {};
  private readonly side: Side;
  private isConnected = false;

  constructor(side: Side) {
    super();
    this.side = side;
    this.visible = false;
    for (const name of WEBXR_JOINTS) {
      this.joints[name] = Object.assign(new Group(), { name, jointRadius: 0, visible: false });
      this.add(this.joints[name]);
    }
  }

  /** Take on the pose of the surest hand of this side; without one it is hidden. */
  update(hands: readonly Hand[]): void {
    const hand = surest(hands, this.side);
    this.visible = hand !== null;
    for (const joint of Object.values(this.joints)) {
      joint.visible = this.visible;
    }
    if (!hand) {
      return;
    }
    const { positionsM, orientationsXyzw, radiiM } = toWebXR(hand);
    WEBXR_JOINTS.forEach((name, k) => {
      const joint = this.joints[name]!;
      joint.position.fromArray(positionsM, 3 * k);
      joint.quaternion.fromArray(orientationsXyzw, 4 * k);
      joint.jointRadius = radiiM[k]!;
    });
    if (!this.isConnected) {
      this.isConnected = true;
      this.dispatchEvent({ type: 'connected', data: { hand: true, handedness: this.side } });
    }
  }
}
