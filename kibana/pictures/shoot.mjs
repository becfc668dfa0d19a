// Opens boards in headless Chromium and takes pictures of them, each as high as it is. Fails if a panel shows an error, shows
// nothing, or got no value from Elasticsearch, and names it.
//   node shoot.mjs DASHBOARDS_URL TIMES PICTURES
// TIMES is a file with a line for each board: its id, from, to. PICTURES is a directory for ID.png; where pngquant is
// installed they are reduced to 128 colours.
// Needs chromium (CHROMIUM, default /usr/bin/chromium), and playwright-core below the current directory. WIDTH: 1500.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [base, times, pictures] = process.argv.slice(2);
if (!pictures) {
  console.error('usage: node shoot.mjs DASHBOARDS_URL TIMES PICTURES');
  process.exit(64);
}
const { chromium } = createRequire(join(process.cwd(), 'x.js'))('playwright-core');
const width = Number(process.env.WIDTH ?? 1500);
const LIMIT_MS = 120_000;

// Runs in the page: what each panel shows.
const look = () => {
  const shown = (element) => element.getClientRects().length > 0;
  const flat = (text) => text.replace(/\s+/g, ' ').trim();
  const drawn = ['canvas', 'svg:not(.euiIcon)', 'table', '[role="grid"]', '.tvbVisMetric', '.mtrVis', '.icvContainer', '[data-test-subj="markdownBody"]'];
  const errors = ['[data-test-subj="embeddableStackError"]', '[data-test-subj="embeddableErrorLabel"]', '[data-test-subj="visNoResult"]',
    '.embPanel__error', '.visError', '.tvbError__title', '.tvbNoData', '.euiCallOut--danger', '.dscNoResults'];
  const busy = ['.euiLoadingChart', '.euiLoadingSpinner', '.visChart__spinner'];
  const one = (panel) => {
    const find = (selectors) => [...panel.querySelectorAll(selectors.join(','))].filter(shown);
    const title = panel.querySelector('[data-title]')?.getAttribute('data-title') || panel.querySelector('[data-test-subj="dashboardPanelTitle"]')?.innerText;
    const marks = [...panel.querySelectorAll('[data-render-complete]')];
    const text = flat(panel.innerText);
    return {
      title: flat(title ?? text).slice(0, 60),
      done: !find(busy).length && marks.every((mark) => mark.getAttribute('data-render-complete') === 'true'),
      problem: find(errors).map((element) => flat(element.innerText)).join('; ') || (/No results found|Could not locate/.exec(text)?.[0] ?? ''),
      empty: !find(drawn).length,
    };
  };
  return {
    count: Number(document.querySelector('[data-shared-items-count]')?.getAttribute('data-shared-items-count') ?? -1),
    panels: [...document.querySelectorAll('[data-test-subj="embeddablePanel"]')].map(one),
    toasts: [...document.querySelectorAll('.euiToast')].map((toast) => flat(toast.innerText)),
    height: Math.ceil(Math.max(0, ...[...document.querySelectorAll('.react-grid-item')].map((item) => item.getBoundingClientRect().bottom + window.scrollY))),
  };
};

async function shoot(context, id, from, to) {
  const page = await context.newPage();
  const problems = new Set();
  let open = 0, quietSince = Date.now();
  const traffic = (change) => () => { open += change; quietSince = Date.now(); };
  page.on('request', traffic(1));
  page.on('requestfinished', traffic(-1));
  page.on('requestfailed', traffic(-1));
  page.on('response', async (response) => {
    const path = new URL(response.url()).pathname;
    // Panels that load the fields of an index pattern at once race to save them; one wins, which is enough.
    if (response.status() === 409 && path.includes('/index-pattern/')) return;
    if (response.status() >= 400) problems.add(`${response.status()} ${path}`);
    else if (path.endsWith('/api/metrics/vis/data')) {
      // TSVB draws empty axes where it got nothing: only the answer tells.
      for (const [panel, answer] of Object.entries(await response.json().catch(() => ({})))) {
        if (!Array.isArray(answer?.series)) continue;
        const values = answer.series.flatMap((series) => series.data ?? []).filter(([, value]) => value !== null);
        if (!values.length) problems.add(`${panel}: no value in any series`);
      }
    }
  });
  const state = `(filters:!(),refreshInterval:(pause:!t,value:0),time:(from:'${from}',to:'${to}'))`;
  await page.setViewportSize({ width, height: 1000 });
  await page.goto(`${base.replace(/\/$/, '')}/app/dashboards#/view/${id}?embed=true&_g=${encodeURIComponent(state)}`);
  const began = Date.now();
  let seen, height = 0;
  for (;;) {
    await page.waitForTimeout(300);
    seen = await page.evaluate(look).catch(() => undefined);
    if (seen?.height && seen.height !== height) {
      height = seen.height;
      await page.setViewportSize({ width, height: height + 12 });
      quietSince = Date.now();
    }
    const settled = seen?.panels.length && seen.panels.length >= seen.count && seen.panels.every((panel) => panel.done && (panel.problem || !panel.empty)) && open <= 0;
    if (settled && Date.now() - quietSince > 2500) break;
    if (Date.now() - began > LIMIT_MS) { problems.add('it does not settle'); break; }
  }
  for (const panel of seen?.panels ?? []) {
    if (panel.problem) problems.add(`${panel.title}: ${panel.problem}`);
    else if (panel.empty) problems.add(`${panel.title}: nothing is drawn`);
  }
  for (const toast of seen?.toasts ?? []) problems.add(toast);
  const file = join(pictures, `${id}.png`);
  await page.screenshot({ path: file, clip: { x: 0, y: 40, width, height: Math.max(height - 28, 100) } });
  await page.close();
  if (spawnSync('pngquant', ['--version']).status === 0) execFileSync('pngquant', ['--force', '--speed', '1', '--strip', '--output', file, '128', file]);
  const kib = Math.round(statSync(file).size / 1024);
  console.log(`${id}: ${seen?.panels.length ?? 0} panels in ${((Date.now() - began) / 1000).toFixed(1)} s, ${width} × ${height}, ${kib} KiB`);
  for (const problem of problems) console.log(`  ${problem}`);
  return problems.size;
}

const profile = mkdtempSync(join(tmpdir(), 'pictures-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  timezoneId: 'UTC',
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
// Nothing but the server itself is asked.
const { origin } = new URL(base);
await context.route((url) => /^https?:/.test(url.protocol) && url.origin !== origin, (route) => route.abort());
let bad = 0;
for (const line of readFileSync(times, 'utf8').split('\n').filter(Boolean)) {
  if (await shoot(context, ...line.split(' '))) bad++;
}
await context.close();
rmSync(profile, { recursive: true, force: true });
process.exit(bad ? 1 : 0);
