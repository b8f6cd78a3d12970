/**
 * A page of an AR maker: three.js' own hand models, moved by hands that Python gives, directly and through WebXR.
 * tests/web/test_web_package.py drives it.
 */

import * as THREE from 'three';
import { XRHandModelFactory } from 'three/addons/webxr/XRHandModelFactory.js';
import { XRDevice, metaQuest3 } from 'iwer';
import { HandSpace } from 'handmesh/three';
import { CameraHands } from 'handmesh/iwer';

const PROFILE = '/node_modules/@webxr-input-profiles/assets/dist/profiles/generic-hand/';
const SIDES = ['left', 'right'];

const typed = (hand) => ({
  ...hand,
  jointsM: Float64Array.from(hand.jointsM),
  verticesM: Float32Array.from(hand.verticesM),
  pose: Float64Array.from(hand.pose),
});

function sceneOn(canvas) {
  const renderer = new THREE.WebGLRenderer({ antialias: true, preserveDrawingBuffer: true, canvas });
  const scene = new THREE.Scene();
  scene.background = new THREE.Color(0x1b2430);
  const lamp = new THREE.DirectionalLight(0xffffff, 2.5);
  lamp.position.set(-1, 2, 2);
  scene.add(new THREE.HemisphereLight(0xdfeaff, 0x404050, 1.6), lamp);
  return { renderer, scene };
}

/** All models that are loaded, once those of both sides are. */
function loading(scene, spaces, place = (object) => object) {
  return new Promise((resolve) => {
    const models = [];
    const factory = new XRHandModelFactory(null, () => models.length === spaces.length && resolve(models)).setPath(PROFILE);
    const loaded = factory.onLoad;
    factory.onLoad = (object) => (models.push(object), loaded(object));
    spaces.forEach((space) => scene.add(place(space)) && space.add(factory.createHandModel(space, 'mesh')));
  });
}

/** Where the bones of three's models lie, by side and joint, when `handmesh/three` moves them. */
window.withThree = async (given) => {
  const hands = given.map(typed);
  const { renderer, scene } = sceneOn(document.body.appendChild(document.createElement('canvas')));
  renderer.setSize(innerWidth, innerHeight);
  const spaces = SIDES.map((side) => new HandSpace(side));
  const models = loading(scene, spaces);
  spaces.forEach((space) => space.update(hands));
  await models;
  const camera = new THREE.PerspectiveCamera(50, innerWidth / innerHeight, 0.01, 10); // where the hands' camera is
  [0, 1].forEach(() => renderer.render(scene, camera)); // three's model moves its bones after a frame's matrices
  const places = spaces.map((space) => {
    const mesh = space.getObjectByProperty('type', 'SkinnedMesh');
    return Object.fromEntries(mesh.skeleton.bones.map((bone) => [bone.name, bone.getWorldPosition(new THREE.Vector3()).toArray()]));
  });
  spaces.forEach((space) => space.update([]));
  return { places: Object.fromEntries(SIDES.map((side, k) => [side, places[k]])), isHidden: spaces.every((s) => !s.visible) };
};

/** The same through an emulated Quest: what `XRFrame` says, and what `renderer.xr` makes of it. */
window.withIwer = async (given) => {
  const hands = given.map(typed);
  const device = new XRDevice(metaQuest3);
  device.installRuntime({ forceInstall: true });
  device.stereoEnabled = false;
  device.position.set(0.1, 1.5, 0.2);
  document.body.replaceChildren();
  const xrHands = new CameraHands(device, { distanceM: 0.7 });
  const { renderer, scene } = sceneOn(document.createElement('canvas'));
  renderer.xr.enabled = true;
  renderer.xr.setReferenceSpaceType('local-floor');
  const models = loading(scene, [0, 1].map((k) => renderer.xr.getHand(k)));
  const session = await navigator.xr.requestSession('immersive-vr', { requiredFeatures: ['local-floor', 'hand-tracking'] });
  const selected = [];
  session.addEventListener('select', ({ inputSource }) => selected.push(inputSource.handedness));
  let seen = null;
  renderer.setAnimationLoop((_, frame) => {
    const sources = [...(frame?.session.inputSources ?? [])].filter(({ hand }) => hand);
    seen = sources.map(({ handedness, hand }) => {
      const poses = [...hand.values()].map((joint) => frame.getJointPose(joint, renderer.xr.getReferenceSpace()));
      const points = poses.map(({ transform: { position: { x, y, z } } }) => [x, y, z]);
      const turns = poses.map(({ transform: { orientation: { x, y, z, w } } }) => [x, y, z, w]);
      return { handedness, points, turns, radii: poses.map(({ radius }) => radius) };
    });
    renderer.render(scene, new THREE.PerspectiveCamera());
  });
  await renderer.xr.setSession(session);
  const none = await until(() => seen && { sources: seen.length });
  xrHands.update(hands);
  await models;
  const frame = await until(() => seen.length === given.length && selected.length && seen);
  await new Promise((resolve) => setTimeout(resolve, 300)); // some frames more, to be looked at
  return { before: none.sources, frame, selected };
};

const until = async (condition) => {
  for (;;) {
    const value = condition();
    if (value) {
      return value;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

window.isLoaded = true;
