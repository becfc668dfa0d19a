// Uses the boards as a person does: chooses a service in a control, sees the numbers change, follows a link, and finds the
// same time and the same choice there. Fails with what was seen instead.
//   node walk.mjs DASHBOARDS_URL FROM TO SERVICE
// Needs what shoot.mjs needs, and a Kibana 7 or OpenSearch Dashboards 2 (later ones have other controls).
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [base, from, to, service] = process.argv.slice(2);
const { chromium } = createRequire(join(process.cwd(), 'x.js'))('playwright-core');
const profile = mkdtempSync(join(tmpdir(), 'walk-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  timezoneId: 'UTC',
  viewport: { width: 1500, height: 1400 },
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync'],
});
try {
  const page = await context.newPage();
  const requests = page.locator('.tvbVisMetric__value--primary').first();
  const state = `(filters:!(),refreshInterval:(pause:!t,value:0),time:(from:'${from}',to:'${to}'))`;
  await page.goto(`${base}/app/dashboards#/view/logweir-overview?_g=${encodeURIComponent(state)}`);
  await requests.waitFor({ timeout: 60_000 });
  const all = await requests.innerText();

  await page.locator('.icvContainer [data-test-subj="listControlSelect0"] input, .icvContainer input[role="textbox"]').first().click();
  await page.getByRole('option', { name: service }).click();
  await page.waitForFunction((before) => document.querySelector('.tvbVisMetric__value--primary')?.innerText !== before, all, { timeout: 30_000 });
  const chosen = await requests.innerText();
  console.log(`requests: ${all}, of ${service}: ${chosen}`);

  await page.getByRole('link', { name: 'Errors', exact: true }).click();
  await page.waitForURL(/logweir-errors/);
  await page.locator('[data-test-subj~="breadcrumb"]').getByText('Errors [logweir]').waitFor({ timeout: 60_000 });
  await page.getByText('Error log lines').first().waitFor({ timeout: 60_000 });
  const picker = '[data-test-subj="superDatePickerstartDatePopoverButton"], [data-test-subj="superDatePickerShowDatesButton"]';
  const time = await page.locator(picker).first().innerText();
  const day = new Date(from).toLocaleDateString('en-US', { month: 'short', day: 'numeric', year: 'numeric', timeZone: 'UTC' });
  assert.ok(time.startsWith(day), `the time is lost: it begins with ${time}, not on ${day}`);
  const pills = await page.locator('[data-test-subj~="filter"]').evaluateAll((all) => all.map((one) => one.dataset.testSubj));
  assert.ok(pills.some((pill) => pill.includes('service.name') && pill.includes('pinned')), `the choice is lost: ${pills}`);
  await page.locator('.icvContainer').getByText(service).first().waitFor({ timeout: 30_000 });
  console.log(`Errors: from ${from} to ${to}, ${service} is still chosen`);
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
