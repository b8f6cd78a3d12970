/** Hand meshes over the image, seen with the camera's own intrinsics, in the light of Python's overlay. */

import * as THREE from 'three';

import { TRANSLUCENT, KEY_LIGHT, LIGHT_WITHIN, OPACITY, SIDE_COLOURS } from '../common/constants.ts';
import { Surface } from '../common/surface.ts';
import type { Faces } from '../tracker/messages.ts';
import type { Camera, Hand } from '../tracker/types.ts';

const NEAR_M = 0.01;
const FAR_M = 30;

const VERTEX = `
varying vec3 viewPosition;
varying vec3 normalHere;
void main() {
  vec4 seen = modelViewMatrix * vec4(position, 1.0);
  viewPosition = seen.xyz;
  normalHere = normalMatrix * normal;
  gl_Position = projectionMatrix * seen;
}`;

// A soft light at the camera, a lamp up and to the left of it, the sky, a faint gloss, a bright rim.
// Alpha replaces what was there: a hand hides its own far fingers, also where it is translucent.
const FRAGMENT = `
uniform vec3 albedo;
uniform float opacity;
uniform vec3 lamp;
uniform float within;
varying vec3 viewPosition;
varying vec3 normalHere;
void main() {
  vec3 n = normalize(normalHere);
  vec3 eye = normalize(-viewPosition);
  float facing = abs(dot(n, eye));
  float gloss = pow(max(dot(n, normalize(eye + lamp)), 0.0), 24.0);
  float sky = 0.5 + 0.5 * n.y;
  float diffuse = 0.08 + 0.15 * sky + 0.32 * facing + 0.75 * max(dot(n, lamp), 0.0);
  float white = 0.09 * gloss + 0.20 * pow(1.0 - facing, 3.0);
  vec3 colour = sqrt(min(albedo * albedo * diffuse + white, 1.0));
  gl_FragColor = vec4((gl_FrontFacing ? colour : colour * within) * opacity, opacity);
}`;

/** Draws hands into a transparent canvas that lies exactly over the image. */
export class Overlay {
  private readonly renderer: THREE.WebGLRenderer;
  private readonly scene = new THREE.Scene();
  private readonly camera = new THREE.Camera();
  private readonly faces: Faces;
  private readonly surfaces: Surface<THREE.ShaderMaterial>[] = [];

  /** Throws where the browser has no WebGL. */
  constructor(canvas: HTMLCanvasElement, faces: Faces) {
    this.faces = faces;
    this.renderer = new THREE.WebGLRenderer({ canvas, alpha: true, antialias: true, premultipliedAlpha: true });
    this.renderer.setClearAlpha(0);
    this.scene.scale.set(1, -1, -1); // hands have y down and z forward
  }

  /** Draw `hands` as `camera` sees them; `width` x `height` device pixels have the image's proportions. */
  draw(hands: readonly Hand[], camera: Camera, width: number, height: number): void {
    const size = this.renderer.getSize(new THREE.Vector2());
    if (size.x !== width || size.y !== height) {
      this.renderer.setSize(width, height, false);
    }
    this.camera.projectionMatrix.copy(projectionOf(camera));
    this.camera.projectionMatrixInverse.copy(this.camera.projectionMatrix).invert();
    hands.forEach((hand, i) => this.show(hand, i));
    this.surfaces.forEach((surface, i) => (surface.visible = i < hands.length));
    this.renderer.render(this.scene, this.camera);
  }

  private show(hand: Hand, index: number): void {
    const surface = (this.surfaces[index] ??= this.added(new Surface(createMaterial())));
    surface.move(hand.verticesM, this.faces[hand.side]);
    surface.material.uniforms['albedo']!.value.set(...SIDE_COLOURS[hand.side]);
    surface.material.uniforms['opacity']!.value = OPACITY * (hand.predicted ? TRANSLUCENT : 1);
  }

  private added(surface: Surface<THREE.ShaderMaterial>): Surface<THREE.ShaderMaterial> {
    this.scene.add(surface);
    return surface;
  }
}

function createMaterial(): THREE.ShaderMaterial {
  const [x, y, z] = KEY_LIGHT; // in the camera's frame; here y is up and z towards the viewer
  return new THREE.ShaderMaterial({
    vertexShader: VERTEX,
    fragmentShader: FRAGMENT,
    side: THREE.DoubleSide,
    blending: THREE.NoBlending,
    uniforms: {
      albedo: { value: new THREE.Vector3() },
      opacity: { value: 1 },
      lamp: { value: new THREE.Vector3(x, -y, -z) },
      within: { value: LIGHT_WITHIN },
    },
  });
}

/**
 * From an OpenGL view's frame (y up, z towards the viewer) to clip space, for a pinhole camera in pixels.
 *
 * (0, 0) is the centre of the top-left pixel, so the image reaches from -0.5 to width - 0.5.
 */
export function projectionOf({ fx, fy, cx, cy, width, height }: Camera): THREE.Matrix4 {
  const across = (2 * (cx + 0.5)) / width - 1;
  const down = (2 * (cy + 0.5)) / height - 1;
  const depth = FAR_M - NEAR_M;
  return new THREE.Matrix4(
    (2 * fx) / width, 0, -across, 0,
    0, (2 * fy) / height, down, 0,
    0, 0, -(FAR_M + NEAR_M) / depth, (-2 * FAR_M * NEAR_M) / depth,
    0, 0, -1, 0,
  );
}
