/** A mesh whose vertices move from frame to frame. */

import { BufferAttribute, BufferGeometry, Mesh, type Material } from 'three';

export class Surface<M extends Material> extends Mesh<BufferGeometry, M> {
  constructor(material: M) {
    super(new BufferGeometry(), material);
    this.frustumCulled = false; // its bounds change in every frame
  }

  /** Move to (V, 3) vertices, flat, below (F, 3) faces. */
  move(vertices: Float32Array, faces: Uint16Array | Uint32Array): void {
    if (this.geometry.index?.array !== faces) {
      this.geometry.setIndex(new BufferAttribute(faces, 1));
    }
    const position = this.geometry.getAttribute('position') as BufferAttribute | undefined;
    if (position) {
      position.copyArray(vertices);
      position.needsUpdate = true;
    } else {
      this.geometry.setAttribute('position', new BufferAttribute(vertices.slice(), 3));
    }
    this.geometry.computeVertexNormals();
  }
}
