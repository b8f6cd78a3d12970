/** What the page's address asks for: `?source=demo.mp4&model=fast&hands=1&provider=wasm&smooth=high&threads=2&fov=70`. */

import { MODELS, PRESETS } from '../common/constants.ts';
import { DEFAULTS, type Settings } from '../tracker/messages.ts';
import type { Smooth } from '../tracker/smoothing.ts';

const PROVIDERS = ['auto', 'webgpu', 'wasm'] as const;
const SMOOTHS = Object.keys(PRESETS) as Smooth[];

/** The settings in an address' query; an error that lists the choices for what is none of them. */
export function readSettings(query: URLSearchParams): Settings {
  const threads = query.get('threads');
  return {
    model: choice(query, 'model', MODELS, DEFAULTS.model),
    provider: choice(query, 'provider', PROVIDERS, DEFAULTS.provider),
    smooth: choice(query, 'smooth', SMOOTHS, DEFAULTS.smooth),
    numHands: number('hands', query.get('hands') ?? `${DEFAULTS.numHands}`, 1, 4),
    fovDeg: number('fov', query.get('fov') ?? `${DEFAULTS.fovDeg}`, 10, 150),
    ...(threads === null ? {} : { threads: number('threads', threads, 1, 64) }),
  };
}

function choice<T extends string>(query: URLSearchParams, name: string, choices: readonly T[], usual: T): T {
  const given = query.get(name) ?? usual;
  if (!choices.includes(given as T)) {
    throw new Error(`unknown ${name} '${given}'; known are ${choices.join(', ')}`);
  }
  return given as T;
}

function number(name: string, given: string, least: number, most: number): number {
  const value = Number(given);
  if (!(value >= least && value <= most)) {
    throw new Error(`${name} must lie between ${least} and ${most}, got '${given}'`);
  }
  return value;
}
