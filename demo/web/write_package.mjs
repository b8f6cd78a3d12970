/** Builds and packs the npm package: `node write_package.mjs [FOLDER]`; FOLDER, or `package`, then holds it and its tarball. */

import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const here = import.meta.dirname;
const folder = resolve(process.argv[2] ?? join(here, 'package'));
const run = (command, ...options) => execFileSync('npx', [command, ...options], { cwd: here, stdio: ['ignore', 2, 2] });

// As Vite writes the address of a file; other bundlers look for the plain form, and carry the file along.
const WRAPPED =
  /new URL\(\s*(\/\* @vite-ignore \*\/\s*)?new URL\((?<file>"[^"]+"), import\.meta\.url\)\.href,\s*"" \+ import\.meta\.url\s*\)/g;

for (const part of ['dist', 'types']) {
  rmSync(join(folder, part), { recursive: true, force: true });
}
mkdirSync(folder, { recursive: true });
run('vite', 'build', '--mode', 'package', '--outDir', join(folder, 'dist'), '--logLevel', 'error');
readdirSync(join(folder, 'dist'), { recursive: true }).filter((name) => name.endsWith('.js')).forEach((name) => {
  const path = join(folder, 'dist', name);
  writeFileSync(path, readFileSync(path, 'utf8').replace(WRAPPED, 'new URL($<file>, import.meta.url)'));
});
run('tsc', '-p', 'tsconfig.package.json', '--outDir', join(folder, 'types'));

const [, version] = readFileSync(join(here, '../../pyproject.toml'), 'utf8').match(/^version = "(.+)"$/m);
const described = JSON.parse(readFileSync(join(here, 'src/package/package.json'), 'utf8'));
const { name, ...rest } = described;
writeFileSync(join(folder, 'package.json'), `${JSON.stringify({ name, version, ...rest }, null, 2)}\n`);
copyFileSync(join(here, 'src/package/README.md'), join(folder, 'README.md'));
copyFileSync(join(here, '../../LICENSE'), join(folder, 'LICENSE'));
execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: folder, stdio: ['ignore', 'inherit', 2] });
