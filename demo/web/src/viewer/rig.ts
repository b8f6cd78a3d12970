/** A skinned hand that 25 WebXR joint poses move, as the generic-hand model of the WebXR input profiles is moved. */

import {
  Bone, BufferAttribute, BufferGeometry, Matrix4, Quaternion, Skeleton, SkinnedMesh, Vector3, type Material,
} from 'three';

import type { Side } from '../tracker/types.ts';
import type { Bind } from './protocol.ts';

/**
 * The rig of one side. Its bones bear the names of WebXR's joints and lie side by side below the mesh, so that
 * each takes the pose of its joint as it comes, from this stream or from `XRFrame.fillPoses` alike.
 */
export function createRig(bind: Bind, side: Side, material: Material): SkinnedMesh {
  const hand = bind.hands[side];
  const geometry = new BufferGeometry();
  geometry.setAttribute('position', new BufferAttribute(Float32Array.from(hand.vertices_m), 3));
  geometry.setAttribute('skinIndex', new BufferAttribute(Uint16Array.from(bind.weight_joints), 4));
  geometry.setAttribute('skinWeight', new BufferAttribute(Float32Array.from(bind.weights), 4));
  geometry.setIndex(new BufferAttribute(Uint16Array.from(hand.faces), 1));
  geometry.computeVertexNormals();
  const bones = bind.joints.map((name) => Object.assign(new Bone(), { name }));
  const inverses = bones.map((_, joint) => pose(hand.positions_m, hand.orientations_xyzw, joint).invert());
  const rig = new SkinnedMesh(geometry, material);
  rig.add(...bones);
  rig.bind(new Skeleton(bones, inverses), new Matrix4());
  rig.frustumCulled = false; // its bounds are those of the bind pose
  return rig;
}

/** Move the rig's bones to the poses of a frame. */
export function poseRig(rig: SkinnedMesh, hand: { positions: Float32Array; orientations: Float32Array }): void {
  rig.skeleton.bones.forEach((bone, joint) => {
    bone.position.fromArray(hand.positions, 3 * joint);
    bone.quaternion.fromArray(hand.orientations, 4 * joint);
  });
}

function pose(positions: readonly number[], orientations: readonly number[], joint: number): Matrix4 {
  const position = new Vector3().fromArray(positions, 3 * joint);
  const rotation = new Quaternion().fromArray(orientations, 4 * joint);
  return new Matrix4().compose(position, rotation, new Vector3(1, 1, 1));
}
