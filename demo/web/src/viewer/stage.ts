/** Where the hands are shown: light, a floor to judge places by, and a camera that is turned by hand. */

import {
  AxesHelper, BufferGeometry, DirectionalLight, Fog, GridHelper, Group, HemisphereLight, LineBasicMaterial,
  LineSegments, PerspectiveCamera, Scene, Vector3, WebGLRenderer,
} from 'three';
import { OrbitControls } from 'three/examples/jsm/controls/OrbitControls.js';

import type { StreamCamera } from './protocol.ts';

const FLOOR_M = -0.28;
const FIRST_POSITION = new Vector3(0, 0, -0.5);
const SECONDS_TO_FOLLOW = 0.35;
const SECONDS_TO_FIT = 0.9;
const MARGIN_M = 0.03;

export class Stage {
  readonly renderer: WebGLRenderer;
  readonly scene = new Scene();
  readonly camera = new PerspectiveCamera(40, 1, 0.01, 20);
  private readonly controls: OrbitControls;
  private readonly origin = new Group(); // the camera that sees the hands: its axes, and its view once that is known
  private pyramid: LineSegments | null = null;
  private fits = true;
  private arrived = false;

  constructor(canvas: HTMLCanvasElement) {
    this.renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.scene.fog = new Fog(0x161d27, 0.7, 2.4);
    this.camera.position.set(0.1, 0.1, 0.08);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.target.copy(FIRST_POSITION);
    this.controls.enableDamping = true;
    this.controls.minDistance = 0.12;
    this.controls.maxDistance = 3;
    this.light();
    this.addFloor();
    this.origin.add(new AxesHelper(0.06));
    this.origin.visible = false;
    this.scene.add(this.origin);
    this.controls.addEventListener('start', () => (this.fits = false));
    addEventListener('resize', () => this.fit());
    this.fit();
  }

  private light(): void {
    const key = new DirectionalLight(0xffffff, 2.1);
    key.position.set(-0.5, 1, 0.9);
    const rim = new DirectionalLight(0xbfd8ff, 1.0);
    rim.position.set(0.9, 0.2, -1);
    this.scene.add(new HemisphereLight(0xf2f7ff, 0x46506a, 1.15), key, rim);
  }

  private addFloor(): void {
    const floor = new GridHelper(4, 40, 0x5b6b80, 0x3b4858);
    floor.position.set(0, FLOOR_M, FIRST_POSITION.z);
    floor.material.transparent = true;
    floor.material.opacity = 0.5;
    this.scene.add(floor);
  }

  /** Show where the camera that sees the hands stands, and what it sees. */
  showOrigin(visible: boolean, { width, height, fx, fy }: StreamCamera): void {
    this.origin.visible = visible;
    if (!visible || this.pyramid) return;
    const depth = 0.1;
    const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(
      ([x, y]) => new Vector3((x! * depth * width) / fx / 2, (y! * depth * height) / fy / 2, -depth),
    );
    const ends = corners.flatMap((corner, k) => [new Vector3(), corner, corner, corners[(k + 1) % 4]!]);
    const look = new LineBasicMaterial({ color: 0x93a1b1, transparent: true, opacity: 0.7 });
    this.pyramid = new LineSegments(new BufferGeometry().setFromPoints(ends), look);
    this.origin.add(this.pyramid);
  }

  /** Choose the distance anew, until the user does. */
  refit(): void {
    this.fits = true;
    this.arrived = false;
  }

  /** Bring what lies within `radius` of `position` to the middle, gently; at once the first time. */
  follow(position: Vector3, radius: number, seconds: number): void {
    const fraction = (slowness: number) => (this.arrived ? 1 - Math.exp(-seconds / slowness) : 1);
    const { target } = this.controls;
    const step = position.clone().sub(target).multiplyScalar(fraction(SECONDS_TO_FOLLOW));
    target.add(step);
    this.camera.position.add(step);
    if (this.fits) {
      const away = this.camera.position.clone().sub(target);
      const wanted = this.distanceFor(radius + MARGIN_M);
      away.setLength(away.length() + (wanted - away.length()) * fraction(SECONDS_TO_FIT));
      this.camera.position.copy(target).add(away);
    }
    this.arrived = true;
  }

  /** From how far a ball is seen whole. */
  private distanceFor(radius: number): number {
    const halfHeight = (this.camera.fov * Math.PI) / 360;
    const halfWidth = Math.atan(Math.tan(halfHeight) * this.camera.aspect);
    return radius / Math.sin(Math.min(halfHeight, halfWidth));
  }

  draw(): void {
    this.controls.update();
    this.renderer.render(this.scene, this.camera);
  }

  private fit(): void {
    const { innerWidth: width, innerHeight: height } = window;
    this.camera.aspect = width / height;
    this.camera.fov = width < height ? 58 : 40; // a phone held upright is narrow
    this.camera.updateProjectionMatrix();
    this.renderer.setSize(width, height, false);
  }
}
