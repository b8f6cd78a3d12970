/** The npm package `handmesh`: 3D hands from a camera or a video, computed in the browser. */

export { listCameras, openCamera, openVideo, type CameraChoice, type Source } from '../browser/sources.ts';
export { KEYPOINTS, WEBXR_JOINTS } from '../common/constants.ts';
export { Engine, type Tracked } from '../tracker/engine.ts';
export type { Progress } from '../tracker/files.ts';
export type { Faces, Settings } from '../tracker/messages.ts';
export { cameraFromFov, type Camera, type Hand, type Side } from '../tracker/types.ts';
export { toWebXR, type XRHandPoses } from '../tracker/webxr.ts';
