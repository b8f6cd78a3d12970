/** Points and rotations as flat arrays: (N, 3) points are x, y, z, x, ...; a (3, 3) matrix is its rows. */

export type Points = Float32Array | Float64Array;
export type Vector = [number, number, number];

/** The least z of (N, 3) points. */
export function nearestOf(points: Points): number {
  let nearest = Infinity;
  for (let i = 2; i < points.length; i += 3) {
    nearest = Math.min(nearest, points[i]!);
  }
  return nearest;
}

/** (N, 3) points moved by `step`, in place. */
export function moved<T extends Points>(points: T, step: Vector): T {
  for (let i = 0; i < points.length; i++) {
    points[i]! += step[i % 3]!;
  }
  return points;
}

/** (N, 3) points turned by a (3, 3) rotation, in place. */
export function rotated<T extends Points>(points: T, rotation: Float64Array): T {
  const [a, b, c, d, e, f, g, h, k] = rotation as unknown as number[];
  for (let i = 0; i < points.length; i += 3) {
    const x = points[i]!;
    const y = points[i + 1]!;
    const z = points[i + 2]!;
    points[i] = a! * x + b! * y + c! * z;
    points[i + 1] = d! * x + e! * y + f! * z;
    points[i + 2] = g! * x + h! * y + k! * z;
  }
  return points;
}

/** The product of two (3, 3) matrices. */
export function product(a: Float64Array, b: Float64Array): Float64Array {
  const entry = (row: number, column: number) =>
    a[3 * row]! * b[column]! + a[3 * row + 1]! * b[3 + column]! + a[3 * row + 2]! * b[6 + column]!;
  return Float64Array.from({ length: 9 }, (_, i) => entry(Math.floor(i / 3), i % 3));
}

/** The x of A x = b, of a symmetric positive definite (N, N) matrix, by Cholesky's factors. */
export function solved(matrix: Float64Array, right: Float64Array): Float64Array {
  const size = right.length;
  const lower = new Float64Array(matrix.length);
  const x = Float64Array.from(right);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column <= row; column++) {
      let sum = matrix[size * row + column]!;
      for (let k = 0; k < column; k++) {
        sum -= lower[size * row + k]! * lower[size * column + k]!;
      }
      lower[size * row + column] = row === column ? Math.sqrt(sum) : sum / lower[size * column + column]!;
    }
    for (let k = 0; k < row; k++) {
      x[row]! -= lower[size * row + k]! * x[k]!;
    }
    x[row]! /= lower[size * row + row]!;
  }
  for (let row = size - 1; row >= 0; row--) {
    for (let k = row + 1; k < size; k++) {
      x[row]! -= lower[size * k + row]! * x[k]!;
    }
    x[row]! /= lower[size * row + row]!;
  }
  return x;
}
