// Poses our files in three.js, says how far its vertices are from handmesh's own, and draws them.
// Served by tests/test_gltf_browser.py, which writes cases.json and takes the result.
import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
import { XRHandMeshModel } from "three/addons/webxr/XRHandMeshModel.js";

const SIZE = 480;
const VIEW_FROM_CAMERA = new THREE.Quaternion(1, 0, 0, 0);
const loader = new GLTFLoader();

/** Metres by which each vertex of a skinned mesh misses `expected`, a flat list in the scene's frame. */
function distances(mesh, expected) {
  mesh.updateWorldMatrix(true, false);
  const vertex = new THREE.Vector3();
  const found = [];
  for (let k = 0; 3 * k < expected.length; k++) {
    mesh.getVertexPosition(k, vertex).applyMatrix4(mesh.matrixWorld);
    found.push(vertex.distanceTo(new THREE.Vector3().fromArray(expected, 3 * k)));
  }
  return found;
}

function summary(errors) {
  return { mean: errors.reduce((sum, e) => sum + e, 0) / errors.length, max: Math.max(...errors) };
}

/** Pose a rigged hand as a record of clip.json has it: see docs/exports.md. */
function pose(scene, record) {
  scene.traverse((node) => {
    const { joint, axes_xyzw } = node.userData;
    if (!joint) return;
    node.userData.rest ??= node.quaternion.clone();
    const axes = new THREE.Quaternion().fromArray(axes_xyzw);
    const rotation = new THREE.Quaternion().fromArray(record.pose_xyzw[record.joints.indexOf(joint)]);
    if (joint === "wrist") node.quaternion.copy(VIEW_FROM_CAMERA).multiply(rotation).multiply(axes);
    else node.quaternion.copy(node.userData.rest).multiply(axes.clone().invert()).multiply(rotation).multiply(axes);
  });
  // The middle knuckle is the point that handmesh places best; the wrist follows from it.
  const knuckle = scene.getObjectByName("middle-finger-phalanx-proximal");
  const wrist = scene.getObjectByName("wrist");
  scene.updateMatrixWorld(true);
  const [x, y, z] = record.middle_knuckle_m;
  wrist.position.add(new THREE.Vector3(x, -y, -z).sub(knuckle.getWorldPosition(new THREE.Vector3())));
  scene.updateMatrixWorld(true);
}

async function checkRigged(shown, { file, record, vertices }) {
  const { scene } = await loader.loadAsync(file);
  pose(scene, record);
  shown.add(scene);
  return summary(distances(scene.getObjectByProperty("isSkinnedMesh", true), vertices));
}

/** Have three.js' own WebXR hand load our flat file and move it as a headset would. */
async function checkWebXR(shown, { folder, side, joints, vertices }) {
  const controller = { joints: {} };
  for (const [name, { position, quaternion }] of Object.entries(joints)) {
    controller.joints[name] = {
      visible: true,
      position: new THREE.Vector3().fromArray(position),
      quaternion: new THREE.Quaternion().fromArray(quaternion),
    };
  }
  const parent = new THREE.Group();
  let hand;
  await new Promise((resolve) => {
    hand = new XRHandMeshModel(parent, controller, folder, side, null, resolve);
  });
  hand.updateMesh();
  parent.updateMatrixWorld(true);
  shown.add(parent);
  return summary(distances(parent.getObjectByProperty("isSkinnedMesh", true), vertices));
}

async function checkAnimated(shown, { file, keys }) {
  const { scene, animations } = await loader.loadAsync(file);
  const meshes = new Map();
  scene.traverse((node) => node.isSkinnedMesh && meshes.set(node.name, node));
  const mixer = new THREE.AnimationMixer(scene);
  mixer.clipAction(animations[0]).setLoop(THREE.LoopOnce).play();
  mixer.clipAction(animations[0]).clampWhenFinished = true;
  const errors = [];
  for (const { time_s, hands } of keys) {
    mixer.setTime(Math.fround(time_s)); // as exactly as key times are stored
    scene.updateMatrixWorld(true);
    for (const [name, mesh] of meshes) {
      if (hands[name]) errors.push(summary(distances(mesh, hands[name])).max);
      else errors.push(extent(mesh)); // hidden: all in one point
    }
  }
  shown.add(scene);
  return { duration_s: animations[0].duration, meshes: [...meshes.keys()], ...summary(errors) };
}

function extent(mesh) {
  const box = new THREE.Box3();
  for (let k = 0; k < mesh.geometry.attributes.position.count; k++) {
    box.expandByPoint(mesh.getVertexPosition(k, new THREE.Vector3()));
  }
  return box.getSize(new THREE.Vector3()).length();
}

/** A PNG of what is shown, from the place that the recording's camera was at. */
function image(renderer, shown) {
  const box = new THREE.Box3();
  shown.updateMatrixWorld(true);
  shown.traverse((node) => {
    if (!node.isSkinnedMesh) return;
    node.frustumCulled = false;
    node.computeBoundingBox();
    box.union(node.boundingBox.clone().applyMatrix4(node.matrixWorld));
  });
  const scene = new THREE.Scene();
  scene.background = new THREE.Color(0x22262b);
  scene.add(shown, new THREE.HemisphereLight(0xffffff, 0x444444, 2));
  const lamp = new THREE.DirectionalLight(0xffffff, 2);
  lamp.position.set(-1, 2, 1);
  scene.add(lamp);
  const middle = box.getCenter(new THREE.Vector3());
  const radius = box.getSize(new THREE.Vector3()).length() / 2;
  const fov = (2 * Math.asin(Math.min(0.9, radius / middle.length())) * 180) / Math.PI;
  const camera = new THREE.PerspectiveCamera(fov, 1, 0.01, 10);
  camera.lookAt(middle);
  renderer.render(scene, camera);
  return renderer.domElement.toDataURL("image/png");
}

async function main() {
  const cases = await (await fetch("cases.json")).json();
  const renderer = new THREE.WebGLRenderer({ antialias: true, preserveDrawingBuffer: true });
  renderer.setSize(SIZE, SIZE);
  document.body.append(renderer.domElement);
  const checks = { rigged: checkRigged, webxr: checkWebXR, animated: checkAnimated };
  const results = [];
  for (const given of cases) {
    const shown = new THREE.Group();
    const result = await checks[given.kind](shown, given);
    results.push({ kind: given.kind, name: given.name, ...result, image: image(renderer, shown) });
  }
  return results;
}

main()
  .then((results) => ({ results }))
  .catch((error) => ({ error: String(error.stack ?? error) }))
  .then((body) => fetch("result", { method: "POST", body: JSON.stringify(body) }));
