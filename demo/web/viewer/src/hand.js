// One hand on the screen: its mesh or its rig, its joints, its axes.

import {
  BufferAttribute,
  BufferGeometry,
  Color,
  DoubleSide,
  Group,
  InstancedMesh,
  Matrix4,
  Mesh,
  MeshBasicMaterial,
  MeshStandardMaterial,
  Quaternion,
  SphereGeometry,
  Vector3,
} from 'three';
import { LineMaterial } from 'three/examples/jsm/lines/LineMaterial.js';
import { LineSegments2 } from 'three/examples/jsm/lines/LineSegments2.js';
import { LineSegmentsGeometry } from 'three/examples/jsm/lines/LineSegmentsGeometry.js';
import { createRig, poseRig } from './rig.js';

const AXIS_M = 0.014;
const LARGEST_BALL_M = 0.0036;
const AXIS_COLOURS = [0xff6b6b, 0x6fdc8c, 0x5b9dff];

export class HandView extends Group {
  constructor(bind, side) {
    super();
    const colour = new Color(...bind.hands[side].colour_rgb).convertSRGBToLinear();
    this.material = new MeshStandardMaterial({ color: colour, roughness: 0.62, side: DoubleSide });
    this.surface = this.#createSurface(bind.hands[side]);
    this.rig = createRig(bind, side, this.material);
    this.joints = this.#createJoints(bind);
    this.axes = createAxes(bind.joints.length);
    this.add(this.surface, this.rig, this.joints, this.axes);
  }

  #createSurface({ vertices_m: vertices, faces }) {
    const geometry = new BufferGeometry();
    geometry.setAttribute('position', new BufferAttribute(Float32Array.from(vertices), 3));
    geometry.setIndex(new BufferAttribute(Uint16Array.from(faces), 1));
    const surface = new Mesh(geometry, this.material);
    surface.frustumCulled = false;
    return surface;
  }

  #createJoints(bind) {
    const group = new Group();
    const look = new MeshBasicMaterial({ color: this.material.color, depthTest: false, transparent: true });
    this.balls = new InstancedMesh(new SphereGeometry(1, 16, 12), look, bind.joints.length);
    this.balls.frustumCulled = false;
    this.balls.renderOrder = 3;
    this.bonePairs = bind.parents.flatMap((parent, joint) => (parent < 0 ? [] : [[parent, joint]]));
    this.bones = createLines(this.bonePairs.length, { color: 0xffffff, opacity: 0.85 });
    group.add(this.bones, this.balls);
    return group;
  }

  /** Show a hand of a frame as `shown` says: {mesh, rig, joints, axes}. */
  update(hand, shown) {
    const streamed = shown.mesh && !shown.rig && hand.vertices !== null;
    this.surface.visible = streamed;
    this.rig.visible = shown.rig;
    this.joints.visible = shown.joints;
    this.axes.visible = shown.axes;
    this.#setClear(shown.joints || shown.axes, hand.predicted);
    if (streamed) this.#moveSurface(hand.vertices);
    if (shown.rig) poseRig(this.rig, hand);
    if (shown.joints) this.#moveJoints(hand);
    if (shown.axes) moveAxes(this.axes, hand);
  }

  /** See-through where something inside is shown, and fainter where the hand itself was not seen. */
  #setClear(clear, predicted) {
    const opacity = (clear ? 0.3 : 1) * (predicted ? 0.5 : 1);
    this.material.needsUpdate ||= this.material.transparent !== opacity < 1;
    this.material.transparent = opacity < 1;
    this.material.opacity = opacity;
    this.material.depthWrite = !clear;
  }

  #moveSurface(vertices) {
    const { position } = this.surface.geometry.attributes;
    position.copyArray(vertices);
    position.needsUpdate = true;
    this.surface.geometry.computeVertexNormals();
  }

  #moveJoints({ positions, radii }) {
    radii.forEach((radius, joint) => {
      const size = Math.min(0.3 * radius, LARGEST_BALL_M);
      SCRATCH.makeScale(size, size, size);
      SCRATCH.setPosition(positions[3 * joint], positions[3 * joint + 1], positions[3 * joint + 2]);
      this.balls.setMatrixAt(joint, SCRATCH);
    });
    this.balls.instanceMatrix.needsUpdate = true;
    moveLines(this.bones, (ends) => {
      this.bonePairs.forEach(([from, to], bone) => {
        ends.set(positions.subarray(3 * from, 3 * from + 3), 6 * bone);
        ends.set(positions.subarray(3 * to, 3 * to + 3), 6 * bone + 3);
      });
    });
  }

  /** Give the GPU's memory back. */
  dispose() {
    for (const part of [this.surface, this.rig, this.balls, this.bones, this.axes]) {
      part.geometry.dispose();
      part.material.dispose();
    }
    this.rig.skeleton.dispose();
    this.balls.dispose();
  }
}

const SCRATCH = new Matrix4();
const TIP = new Vector3();
const TURN = new Quaternion();

/** Lines two pixels wide that nothing hides. */
function createLines(count, look) {
  const geometry = new LineSegmentsGeometry().setPositions(new Float32Array(6 * count));
  const lines = new LineSegments2(
    geometry,
    new LineMaterial({ linewidth: 2, depthTest: false, transparent: true, ...look }),
  );
  lines.frustumCulled = false;
  lines.renderOrder = 2;
  return lines;
}

/** Let `write` fill in the lines' ends, six numbers a line. */
function moveLines(lines, write) {
  const { data } = lines.geometry.attributes.instanceStart;
  write(data.array);
  data.needsUpdate = true;
}

function createAxes(joints) {
  const axes = createLines(joints * 3, { vertexColors: true });
  const colours = AXIS_COLOURS.map((hex) => new Color(hex));
  const ends = Array.from({ length: joints }, () => colours.flatMap(({ r, g, b }) => [r, g, b, r, g, b])).flat();
  axes.geometry.setColors(ends);
  axes.renderOrder = 4;
  return axes;
}

function moveAxes(axes, { positions, orientations, radii }) {
  moveLines(axes, (ends) => {
    radii.forEach((_, joint) => {
      const place = positions.subarray(3 * joint, 3 * joint + 3);
      TURN.fromArray(orientations, 4 * joint);
      for (let axis = 0; axis < 3; axis += 1) {
        TIP.setScalar(0).setComponent(axis, AXIS_M).applyQuaternion(TURN);
        const start = 18 * joint + 6 * axis;
        ends.set(place, start);
        ends.set([place[0] + TIP.x, place[1] + TIP.y, place[2] + TIP.z], start + 3);
      }
    });
  });
}
