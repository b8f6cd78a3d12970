/** What an exported network says of itself in its file: ONNX Runtime for the web does not pass it on. */

import { FORMAT, METADATA_KEY } from '../common/constants.ts';
import type { Confidence } from './confidence.ts';

const METADATA_PROPS = 14; // the number of this field in ONNX's ModelProto

export type Kind = 'mesh' | 'detector';

export interface Metadata {
  readonly format: number;
  readonly kind: Kind;
  readonly name: string;
  readonly box_scale?: number;
  readonly confidence?: Confidence;
}

/** The metadata of an .onnx file that is to serve as `kind`; an error that says what is wrong with any other file. */
export function readMetadata(file: Uint8Array, kind: Kind, name: string): Metadata {
  const text = property(file, METADATA_KEY);
  if (text === null) {
    throw new Error(`${name} was not exported by handmesh (it has no such metadata); use \`handmesh export\``);
  }
  const metadata = JSON.parse(text) as Metadata;
  if (metadata.format !== FORMAT) {
    throw new Error(`${name} has format ${metadata.format}, this page reads ${FORMAT}: export it again`);
  }
  if (metadata.kind !== kind) {
    throw new Error(`${name} holds a '${metadata.kind}' network where a '${kind}' network is expected`);
  }
  return metadata;
}

/** The value of a metadata property; null where the file has none of this name. */
function property(file: Uint8Array, key: string): string | null {
  const text = new TextDecoder();
  for (const [number, bytes] of fields(file)) {
    if (number === METADATA_PROPS) {
      const entry = new Map([...fields(bytes)].map(([part, value]) => [part, text.decode(value)]));
      if (entry.get(1) === key) {
        return entry.get(2) ?? '';
      }
    }
  }
  return null;
}

/** The fields of a Protocol Buffers message that hold bytes, by number; what follows unreadable bytes is left out. */
function* fields(message: Uint8Array): Generator<[number, Uint8Array]> {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; at < message.length; scale *= 128) {
      const byte = message[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) {
        break;
      }
    }
    return value;
  };
  while (at < message.length) {
    const tag = varint();
    const wire = tag % 8;
    if (wire === 2) {
      const length = varint();
      yield [Math.floor(tag / 8), message.subarray(at, at + length)];
      at += length;
    } else if (wire === 0) {
      varint();
    } else if (wire === 1 || wire === 5) {
      at += wire === 1 ? 8 : 4;
    } else {
      return;
    }
  }
}
