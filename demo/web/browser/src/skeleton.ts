/** Joint names of the two conventions, and every permutation between them. As handmesh/skeleton.py. */

const FINGERS = ['thumb', 'index', 'middle', 'ring', 'little'];
const MANO_FINGERS = ['index', 'middle', 'little', 'ring', 'thumb'];

/** The 16 rotating joints in MANO's order. */
export const MANO_JOINTS = ['wrist', ...MANO_FINGERS.flatMap((finger) => [1, 2, 3].map((k) => `${finger}${k}`))];

/** The 21 labelled points; `index4` is the fingertip. */
export const KEYPOINTS = ['wrist', ...FINGERS.flatMap((finger) => [1, 2, 3, 4].map((k) => `${finger}${k}`))];

const parentOf = (name: string) => (name.endsWith('1') ? 'wrist' : name.slice(0, -1) + (Number(name.at(-1)) - 1));

/** Where each of the 16 rotating joints stands in keypoint order. */
export const KEYPOINT_OF_MANO = MANO_JOINTS.map((name) => KEYPOINTS.indexOf(name));

/** Parent of each rotating joint, in MANO's order, parents before children; the wrist's is -1. */
export const PARENTS = MANO_JOINTS.map((name) => (name === 'wrist' ? -1 : MANO_JOINTS.indexOf(parentOf(name))));

/** The 20 bones as [parent, child] in keypoint order. */
export const BONES = KEYPOINTS.slice(1).map((name) => [KEYPOINTS.indexOf(parentOf(name)), KEYPOINTS.indexOf(name)]);

export const WRIST = KEYPOINTS.indexOf('wrist');

/** The point that root-relative coordinates are relative to. */
export const ROOT = KEYPOINTS.indexOf('middle1');

export const KNUCKLES = ['index1', 'middle1', 'ring1'].map((name) => KEYPOINTS.indexOf(name));
