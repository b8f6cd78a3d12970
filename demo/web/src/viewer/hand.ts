/** One hand on the screen: its mesh or its rig, its joints, its axes. */

import {
  Color, DoubleSide, Group, InstancedMesh, Matrix4, MeshBasicMaterial, MeshStandardMaterial, Quaternion, SphereGeometry,
  Vector3, type InterleavedBufferAttribute, type SkinnedMesh,
} from 'three';
import { LineMaterial, type LineMaterialParameters } from 'three/examples/jsm/lines/LineMaterial.js';
import { LineSegments2 } from 'three/examples/jsm/lines/LineSegments2.js';
import { LineSegmentsGeometry } from 'three/examples/jsm/lines/LineSegmentsGeometry.js';

import { Surface } from '../common/surface.ts';
import type { Side } from '../tracker/types.ts';
import type { Bind, StreamHand } from './protocol.ts';
import { createRig, poseRig } from './rig.ts';

const AXIS_M = 0.014;
const LARGEST_BALL_M = 0.0036;
const AXIS_COLOURS = [0xff6b6b, 0x6fdc8c, 0x5b9dff];

/** What of a hand is drawn. */
export type Shown = Readonly<Record<'mesh' | 'rig' | 'joints' | 'axes', boolean>>;

export class HandView extends Group {
  private readonly material: MeshStandardMaterial;
  private readonly surface: Surface<MeshStandardMaterial>;
  private readonly faces: Uint16Array;
  private readonly rig: SkinnedMesh;
  private readonly joints = new Group();
  private readonly balls: InstancedMesh<SphereGeometry, MeshBasicMaterial>;
  private readonly bonePairs: (readonly [number, number])[];
  private readonly bones: LineSegments2;
  private readonly axes: LineSegments2;

  constructor(bind: Bind, side: Side) {
    super();
    const { colour_rgb: colour, faces } = bind.hands[side];
    const color = new Color(...colour).convertSRGBToLinear();
    this.material = new MeshStandardMaterial({ color, roughness: 0.62, side: DoubleSide });
    this.surface = new Surface(this.material);
    this.faces = Uint16Array.from(faces);
    this.rig = createRig(bind, side, this.material);
    const inside = new MeshBasicMaterial({ color, depthTest: false, transparent: true });
    this.balls = new InstancedMesh(new SphereGeometry(1, 16, 12), inside, bind.joints.length);
    this.balls.frustumCulled = false;
    this.balls.renderOrder = 3;
    this.bonePairs = bind.parents.flatMap((parent, joint) => (parent < 0 ? [] : [[parent, joint] as const]));
    this.bones = createLines(this.bonePairs.length, { color: 0xffffff, opacity: 0.85 });
    this.joints.add(this.bones, this.balls);
    this.axes = createAxes(bind.joints.length);
    this.add(this.surface, this.rig, this.joints, this.axes);
  }

  /** Show a hand of a frame. */
  update(hand: StreamHand, shown: Shown): void {
    const vertices = shown.mesh && !shown.rig ? hand.vertices : null;
    this.surface.visible = vertices !== null;
    this.rig.visible = shown.rig;
    this.joints.visible = shown.joints;
    this.axes.visible = shown.axes;
    this.setClear(shown.joints || shown.axes, hand.predicted);
    if (vertices) this.surface.move(vertices, this.faces);
    if (shown.rig) poseRig(this.rig, hand);
    if (shown.joints) this.moveJoints(hand);
    if (shown.axes) moveAxes(this.axes, hand);
  }

  /** See-through where something inside is shown, and fainter where the hand itself was not seen. */
  private setClear(clear: boolean, predicted: boolean): void {
    const opacity = (clear ? 0.3 : 1) * (predicted ? 0.5 : 1);
    this.material.needsUpdate ||= this.material.transparent !== opacity < 1;
    this.material.transparent = opacity < 1;
    this.material.opacity = opacity;
    this.material.depthWrite = !clear;
  }

  private moveJoints({ positions, radii }: StreamHand): void {
    radii.forEach((radius, joint) => {
      const size = Math.min(0.3 * radius, LARGEST_BALL_M);
      SCRATCH.makeScale(size, size, size);
      SCRATCH.setPosition(positions[3 * joint]!, positions[3 * joint + 1]!, positions[3 * joint + 2]!);
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
  dispose(): void {
    for (const part of [this.surface, this.rig, this.balls, this.bones, this.axes]) {
      part.geometry.dispose();
      [part.material].flat().forEach((material) => material.dispose());
    }
    this.rig.skeleton.dispose();
    this.balls.dispose();
  }
}

const SCRATCH = new Matrix4();
const TIP = new Vector3();
const ROTATION = new Quaternion();

/** Lines two pixels wide that nothing hides. */
function createLines(count: number, look: LineMaterialParameters): LineSegments2 {
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
function moveLines(lines: LineSegments2, write: (ends: Float32Array) => void): void {
  const { data } = lines.geometry.getAttribute('instanceStart') as InterleavedBufferAttribute;
  write(data.array as Float32Array);
  data.needsUpdate = true;
}

function createAxes(joints: number): LineSegments2 {
  const axes = createLines(joints * 3, { vertexColors: true });
  const colours = AXIS_COLOURS.map((hex) => new Color(hex));
  const ends = Array.from({ length: joints }, () => colours.flatMap(({ r, g, b }) => [r, g, b, r, g, b])).flat();
  axes.geometry.setColors(ends);
  axes.renderOrder = 4;
  return axes;
}

function moveAxes(axes: LineSegments2, { positions, orientations, radii }: StreamHand): void {
  moveLines(axes, (ends) => {
    radii.forEach((_, joint) => {
      const position = positions.subarray(3 * joint, 3 * joint + 3);
      ROTATION.fromArray(orientations, 4 * joint);
      for (let axis = 0; axis < 3; axis += 1) {
        TIP.setScalar(0).setComponent(axis, AXIS_M).applyQuaternion(ROTATION);
        const start = 18 * joint + 6 * axis;
        ends.set(position, start);
        ends.set([position[0]! + TIP.x, position[1]! + TIP.y, position[2]! + TIP.z], start + 3);
      }
    });
  });
}
