// The room the hands are in: light, a floor to judge places by, and a camera that is turned by hand.

import {
  AxesHelper,
  BufferGeometry,
  DirectionalLight,
  Fog,
  GridHelper,
  Group,
  HemisphereLight,
  LineBasicMaterial,
  LineSegments,
  PerspectiveCamera,
  Scene,
  Vector3,
  WebGLRenderer,
} from 'three';
import { OrbitControls } from 'three/examples/jsm/controls/OrbitControls.js';

const FLOOR_M = -0.28;
const FIRST_PLACE = new Vector3(0, 0, -0.5);
const SECONDS_TO_FOLLOW = 0.35;
const SECONDS_TO_FIT = 0.9;
const MARGIN_M = 0.03;

export class Stage {
  constructor(canvas) {
    this.renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.scene = new Scene();
    this.scene.fog = new Fog(0x161d27, 0.7, 2.4);
    this.camera = new PerspectiveCamera(40, 1, 0.01, 20);
    this.camera.position.set(0.1, 0.1, 0.08);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.target.copy(FIRST_PLACE);
    this.controls.enableDamping = true;
    this.controls.minDistance = 0.12;
    this.controls.maxDistance = 3;
    this.#light();
    this.#addFloor();
    this.origin = this.#createOrigin();
    this.controls.addEventListener('start', () => (this.fits = false));
    this.refit();
    addEventListener('resize', () => this.#fit());
    this.#fit();
  }

  #light() {
    const key = new DirectionalLight(0xffffff, 2.1);
    key.position.set(-0.5, 1, 0.9);
    const rim = new DirectionalLight(0xbfd8ff, 1.0);
    rim.position.set(0.9, 0.2, -1);
    this.scene.add(new HemisphereLight(0xf2f7ff, 0x46506a, 1.15), key, rim);
  }

  #addFloor() {
    const floor = new GridHelper(4, 40, 0x5b6b80, 0x3b4858);
    floor.position.set(0, FLOOR_M, FIRST_PLACE.z);
    floor.material.transparent = true;
    floor.material.opacity = 0.5;
    this.scene.add(floor);
  }

  /** The camera that sees the hands: its axes, and the pyramid of its view once that is known. */
  #createOrigin() {
    const origin = new Group();
    origin.add(new AxesHelper(0.06));
    origin.visible = false;
    this.scene.add(origin);
    return origin;
  }

  /** Show where the camera that sees the hands stands, and what it sees. */
  showOrigin(visible, { width, height, fx, fy }) {
    this.origin.visible = visible;
    if (!visible || this.pyramid) return;
    const depth = 0.1;
    const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(
      ([x, y]) => new Vector3((x * depth * width) / fx / 2, (y * depth * height) / fy / 2, -depth),
    );
    const ends = corners.flatMap((corner, k) => [new Vector3(), corner, corner, corners[(k + 1) % 4]]);
    const look = new LineBasicMaterial({ color: 0x93a1b1, transparent: true, opacity: 0.7 });
    this.pyramid = new LineSegments(new BufferGeometry().setFromPoints(ends), look);
    this.origin.add(this.pyramid);
  }

  /** Choose the distance anew, until the user does. */
  refit() {
    this.fits = true;
    this.arrived = false;
  }

  /** Bring what lies within `radius` of `place` to the middle, gently; at once the first time. */
  follow(place, radius, seconds) {
    const share = (slowness) => (this.arrived ? 1 - Math.exp(-seconds / slowness) : 1);
    const { target } = this.controls;
    const step = place.clone().sub(target).multiplyScalar(share(SECONDS_TO_FOLLOW));
    target.add(step);
    this.camera.position.add(step);
    if (this.fits) {
      const away = this.camera.position.clone().sub(target);
      const wanted = this.#distanceFor(radius + MARGIN_M);
      away.setLength(away.length() + (wanted - away.length()) * share(SECONDS_TO_FIT));
      this.camera.position.copy(target).add(away);
    }
    this.arrived = true;
  }

  /** From how far a ball is seen whole. */
  #distanceFor(radius) {
    const halfHeight = (this.camera.fov * Math.PI) / 360;
    const halfWidth = Math.atan(Math.tan(halfHeight) * this.camera.aspect);
    return radius / Math.sin(Math.min(halfHeight, halfWidth));
  }

  draw() {
    this.controls.update();
    this.renderer.render(this.scene, this.camera);
  }

  #fit() {
    const { innerWidth: width, innerHeight: height } = window;
    this.camera.aspect = width / height;
    this.camera.fov = width < height ? 58 : 40; // a phone held upright is narrow
    this.camera.updateProjectionMatrix();
    this.renderer.setSize(width, height, false);
  }
}
