/** What the page's address asks for: `?source=demo.mp4&model=fast&provider=wasm&smooth=high&threads=2&fov=70`. */

import type { Settings } from './messages.ts';

const MODELS = ['balanced', 'fast'];
const PROVIDERS = ['auto', 'webgpu', 'wasm'] as const;
const SMOOTHS = ['low', 'off', 'high'] as const;

/** The settings in an address' query; an error that lists the choices for what is none of them. */
export function readSettings(query: URLSearchParams): Settings {
  const threads = query.get('threads');
  return {
    model: choice(query, 'model', MODELS),
    provider: choice(query, 'provider', PROVIDERS),
    smooth: choice(query, 'smooth', SMOOTHS),
    fovDeg: number('fov', query.get('fov') ?? '60', 10, 150),
    ...(threads === null ? {} : { threads: number('threads', threads, 1, 64) }),
  };
}

function choice<T extends string>(query: URLSearchParams, name: string, choices: readonly T[]): T {
  const given = query.get(name) ?? choices[0]!;
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
