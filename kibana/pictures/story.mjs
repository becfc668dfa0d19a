// Writes a week of a shop's logs, whose last day has a story: the search is slow after a deploy, the checkout is down, a
// crawler reads every product, a newsletter brings a burst.
//   node story.mjs GENERATOR DIRECTORY LAST_DAY LINES
// GENERATOR is the binary logweir-generator, LAST_DAY a date (UTC). In DIRECTORY come access logs as nginx writes them, with
// the time to answer, `access/SERVICE/HOST.log`, of the same events application logs in JSON, `application/HOST.json`, both
// with a few spoilt lines, and `sources.yaml`, which is what logweir needs to know of them.
import { execFileSync } from 'node:child_process';
import { createReadStream, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const [generator, directory, lastDay, lines] = process.argv.slice(2);
if (!lines) {
  console.error('usage: node story.mjs GENERATOR DIRECTORY LAST_DAY LINES');
  process.exit(64);
}
const DAYS = 7;
const start = new Date(Date.parse(`${lastDay}T00:00:00Z`) - (DAYS - 1) * 86_400_000);
const weekday = (day) => new Date(start.getTime() + day * 86_400_000).getUTCDay();

// The built-in shop; what happens in it happens on the last day. On Saturday and Sunday fewer people are there.
const scenario = JSON.parse(execFileSync(generator, ['--print-scenario']));
for (const episode of scenario.episodes) {
  episode.from = (DAYS - 1 + episode.from) / DAYS;
  episode.to = (DAYS - 1 + episode.to) / DAYS;
}
for (let day = 0; day < DAYS - 1; day++) {
  if ([0, 6].includes(weekday(day))) {
    scenario.episodes.push({ name: `weekend ${day}`, from: day / DAYS, to: (day + 1) / DAYS, traffic_factor: 0.65 });
  }
}
mkdirSync(directory, { recursive: true });
const scenarioFile = join(directory, 'scenario.json');
writeFileSync(scenarioFile, JSON.stringify(scenario));

// Which service answers a path, as the longest of its endpoints that fits.
const prefixes = scenario.services
  .flatMap(({ name, endpoints }) => endpoints.map(({ path }) => [path.split('{')[0], name]))
  .sort(([a], [b]) => b.length - a.length);
const serviceOf = (path) => prefixes.find(([prefix]) => (prefix === '/' ? path === '/' : path.startsWith(prefix)))?.[1] ?? 'storefront';
const HOSTS = ['web-1', 'web-2', 'web-3'];
const hostOf = (line) => HOSTS[[0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2][(line * 7919) % 12]];

// Equal seeds give equal events, whatever the format.
async function generate(format, name, each) {
  const raw = join(directory, 'raw');
  execFileSync(generator, [raw, '--format', format, '--mode', 'grow', '--name', name, '--scenario', scenarioFile, '--seed', '7', '--dirty',
    '0.0008', '--simulate', `${DAYS * 24}h`, '--total', lines, '--start', start.toISOString()], { stdio: ['ignore', 'ignore', 'inherit'] });
  const files = new Map();
  let count = 0;
  // Bytes that are not UTF-8 are a part of the story.
  const input = createReadStream(join(raw, `${name}.${format === 'json' ? 'json' : 'log'}`), 'latin1');
  for await (const line of createInterface({ input })) {
    const [to, written] = each(line, count++) ?? [];
    if (to) {
      if (!files.has(to)) files.set(to, []);
      files.get(to).push(written);
    }
  }
  rmSync(raw, { recursive: true });
  for (const [to, content] of files) {
    mkdirSync(join(directory, to, '..'), { recursive: true });
    const file = openSync(join(directory, to), 'w');
    writeSync(file, Buffer.from(`${content.join('\n')}\n`, 'latin1'));
  }
  return [...files.keys()].sort();
}

const access = await generate('nginx-latency', 'access', (line, count) => {
  const path = /"[A-Z]+ ([^ ?"]+)/.exec(line)?.[1] ?? '/';
  return [`access/${serviceOf(path)}/${hostOf(count)}.log`, line];
});
// Applications say little of what went well. Now and then a field is not what its name promises.
const applications = await generate('json', 'application', (line, count) => {
  if (line.includes('"log.level":"INFO"') && count % 7) return null;
  const odd = count % 700 === 0 ? line.replace(/("http.response.body.bytes":)\d+/, '$1"unknown"') : line;
  return [`application/${hostOf(count)}.json`, count % 2100 === 0 ? odd.replace(/("event.duration":)\d+/, '$1"timeout"') : odd];
});

const format = `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $request_time`;
const source = (name, path, format, dataset, fields) =>
  JSON.stringify({ name, paths: [join(directory, path)], format, dataset, fields, start_at: 'beginning' });
const sources = [
  ...access.map((path) => {
    const [, service, file] = path.split('/');
    const host = file.replace('.log', '');
    return source(`${service}-${host}`, path, { nginx: format }, 'nginx.access', { 'service.name': service, 'host.name': host });
  }),
  ...applications.map((path) => {
    const host = path.split('/')[1].replace('.json', '');
    return source(`application-${host}`, path, 'json', 'shop.application', { 'host.name': host });
  }),
];
// JSON is YAML.
writeFileSync(join(directory, 'sources.yaml'), `sources:\n${sources.map((one) => `  - ${one}\n`).join('')}`);
