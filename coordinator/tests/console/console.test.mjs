// The console in headless Chromium: each story is clicked through, and its effect is asked of the
// command line. README.md says how to run it.
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { flood, SCREENSHOT_FOLDER, startWorld, TOKEN, until } from './world.mjs';

const ADDRESSES = Number(process.env.CONSOLE_ADDRESSES ?? 1500);
const LETTERS = Number(process.env.CONSOLE_LETTERS ?? 1200);
const SCRIPT = '<script>window.ran=1</script>';
const EVIL = `"><img src=x onerror=window.ran=1>${SCRIPT}`;
const require = createRequire(import.meta.url);
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

let world;
/** Errors of all pages: exceptions, and what the policy of the page has refused. */
const errors = [];
/** Requests of all pages to other origins. */
const strangers = [];

before(async () => {
  world = await startWorld();
  await flood(ADDRESSES, (n) => world.ask('send', `shop/order/customer-${n}`, { item: 'pear' }));
  await flood(LETTERS, (n) => world.ask('send', `shop/order/customer-${n}`,
    { invalid: n % 2 ? `no such account ${n}` : `out of stock ${SCRIPT}` }));
  await world.ask('call', 'shop/order/alice', { item: 'apple', number: 2, remind: 600_000 });
  await world.ask('call', 'shop/order/bob', { item: 'apple', emit: 'parcel', reserve: 'plum' });
  await world.ask('call', `shop/order/${EVIL}`, { item: EVIL });
  for (const stock of ['apple', 'pear', EVIL]) {
    await world.ask('send', `shop/stock/${stock}`, { invalid: `negative stock ${SCRIPT}` });
    await world.ask('send', `shop/stock/${stock}`, { item: 'box' });
  }
  await world.ask('send', 'billing/invoice/7', { item: 'fee' });
  for (const key of ['erin', 'frank']) {
    const record = JSON.stringify({ item: 'plum' });
    await world.cli('stream', 'put', 'orders', '--key', key, '--data', record);
  }
  await world.cli('savepoint', 'create', 'kept-for-the-test', '--comment', `before ${SCRIPT}`);
  await until(async () => (await letters()).length === LETTERS, 'all dead letters are there');
});

after(async () => {
  if (!world) return;
  const code = await world.stop();
  assert.equal(code, 0, 'satchel ends in order, with consoles that were open');
});

async function letters(...conditions) {
  return world.cli('dead-letters', 'list', ...conditions);
}

async function address(name) {
  const [found] = await world.cli('address', 'get', name);
  return found;
}

async function state(name, which) {
  return (await address(name)).state.find((one) => one.name === which)?.value;
}

/** Opens a page of the console, with the token unless `token` is another. */
async function open(fragment, { token = TOKEN, at = world, ...options } = {}) {
  const page = await at.browser.newPage({
    viewport: { width: 1280, height: 860 }, reducedMotion: 'reduce', ...options,
  });
  page.setDefaultTimeout(Number(process.env.CONSOLE_PATIENCE_MS ?? 30_000));
  page.on('pageerror', (error) => errors.push(`${fragment}: ${error.message}`));
  page.on('console', (message) => {
    const text = message.text();
    // A status of 4xx or 5xx is reported too.
    if (message.type() === 'error' && !text.startsWith('Failed to load resource')) {
      errors.push(`${fragment}: ${text}`);
    }
  });
  page.on('dialog', (dialog) => errors.push(`${fragment}: dialog ${dialog.message()}`));
  page.on('request', (request) => {
    if (!request.url().startsWith(at.admin)) strangers.push(request.url());
  });
  if (token) {
    await page.addInitScript((value) => sessionStorage.setItem('satchel-token', value), token);
  }
  await page.goto(`${at.admin}/${fragment}`);
  await page.locator('main h1, main [role=alert]').first().waitFor();
  return page;
}

/** Presses the button of a dialog, and waits until the dialog is gone. */
async function confirm(page, name) {
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name, exact: true }).click();
  await dialog.waitFor({ state: 'detached' });
}

function addressFragment(name) {
  const [namespace, type, ...id] = name.split('/');
  return `#/address/${[namespace, type, id.join('/')].map(encodeURIComponent).join('/')}`;
}

const PAGES = {
  overview: ['#/', 'Endpoints'],
  functions: ['#/addresses', 'billing/invoice'],
  addresses: ['#/addresses?function=shop%2Forder', 'customer-'],
  address: [addressFragment('shop/order/alice'), 'io.statefun.types/long'],
  suspended: [addressFragment(`shop/stock/${EVIL}`), 'suspended'],
  'dead-letters': ['#/dead-letters', 'no such account'],
  traces: ['#/traces', 'shop/order'],
  connectors: ['#/connectors', 'shop/shipments'],
  application: ['#/application', 'io.statefun.kinesis.v1/ingress'],
  savepoints: ['#/savepoints', 'kept-for-the-test'],
  cost: ['#/cost', 'Nothing of this is paid'],
};

test('every page in both themes is accessible and runs no script of a text', async () => {
  for (const theme of ['light', 'dark']) {
    for (const [name, [fragment, text]] of Object.entries(PAGES)) {
      const page = await open(fragment, { colorScheme: theme });
      await page.locator('main').getByText(text).locator('visible=true').first().waitFor();
      if (name === 'dead-letters') await page.locator('button.reason').first().click();
      if (name === 'overview') await page.locator('.plot path.line').first().waitFor({ state: 'attached' });
      await page.screenshot({ path: join(SCREENSHOT_FOLDER, `${name}-${theme}.png`) });
      await page.evaluate(AXE);
      const { violations } = await page.evaluate('axe.run()');
      const found = violations.map(({ id, impact, nodes }) => (
        `${name} ${theme}: ${impact} ${id}: ${nodes.map((node) => node.html).join(' ')}`));
      assert.deepEqual(found, []);
      assert.equal(await page.evaluate('window.ran'), undefined, name);
      await page.close();
    }
  }
});

test('pages are readable on a phone and never wider than it', async () => {
  for (const [name, [fragment, text]] of Object.entries(PAGES)) {
    const page = await open(fragment, { viewport: { width: 390, height: 844 } });
    await page.locator('main').getByText(text).locator('visible=true').first().waitFor();
    const width = await page.evaluate('document.documentElement.scrollWidth');
    assert.ok(width <= 390, `${name} is ${width} wide`);
    await page.screenshot({ path: join(SCREENSHOT_FOLDER, `${name}-phone.png`) });
    await page.close();
  }
});

test('a trace is found by its address and shows its hops and their events', async () => {
  const [listed] = await world.cli('trace', '--address', 'shop/order/bob', '--json');
  const page = await open(addressFragment('shop/order/bob'));
  await page.getByRole('link', { name: 'Traces', exact: true }).last().click();
  const list = page.getByRole('region', { name: 'Traces' });
  await list.getByRole('link', { name: 'shop/order/bob' }).first().click();
  const hops = page.getByRole('region', { name: 'Hops' });
  await hops.getByText('shop/shipments').waitFor();
  const [trace] = await world.cli('trace', listed.trace, '--json');
  assert.equal(await hops.locator('svg.waterfall').count(), trace.hops.length);
  await hops.getByRole('button', { name: 'Events of shop/order/bob' }).first().click();
  const events = hops.getByRole('group', { name: 'Events' });
  const shown = await events.locator('tbody tr td:nth-child(2)').allTextContents();
  const known = trace.hops[0].steps.map(({ step }) => step.replaceAll('_', ' '));
  assert.deepEqual(shown, known);
  await page.screenshot({ path: join(SCREENSHOT_FOLDER, 'trace-light.png') });
  await page.evaluate(AXE);
  const { violations } = await page.evaluate('axe.run()');
  assert.deepEqual(violations.map(({ id }) => id), []);
  await page.close();
});

test('the story of a dead letter is one click away, and failed traces can be chosen', async () => {
  const [letter] = await letters('--reason', 'no such account');
  const page = await open(`#/traces?id=${letter.id}`);
  await page.getByRole('region', { name: 'Hops' }).getByText('dead letter').first().waitFor();
  await page.goto(`${world.admin}/#/traces`);
  await page.getByLabel('State').selectOption('true');
  await page.getByRole('button', { name: 'Show' }).click();
  const list = page.getByRole('region', { name: 'Traces' });
  await list.getByText('failed').first().waitFor();
  assert.equal(await list.getByText('done').count(), 0);
  await page.close();
});

test('the overview shows live rates, what fails, and what to do', async () => {
  const page = await open('#/');
  const warnings = page.getByRole('region', { name: 'Warnings' });
  await warnings.getByText('nothing-listens-here is down').waitFor();
  await warnings.getByText(`${LETTERS.toLocaleString('en-US')} dead letters are kept`).waitFor();
  await warnings.getByText('3 addresses of shop/stock are suspended').waitFor();
  const plot = page.getByRole('img', { name: /^Calls: / });
  const rate = until(async () => {
    await world.ask('call', 'shop/order/live', { item: 'pear' });
    return /Calls: [1-9]/.test(await plot.getAttribute('aria-label'));
  }, 'the plot shows calls');
  await rate;
  const more = warnings.getByRole('listitem').filter({ hasText: 'shop/stock' });
  await more.getByRole('link').click();
  await page.getByRole('link', { name: 'shop/stock/apple' }).waitFor();
  assert.equal(await page.locator('tbody tr').count(), 3, 'only suspended addresses');
  await page.close();
});

test('addresses are found by function and prefix, page by page', async () => {
  const page = await open('#/addresses');
  await page.getByRole('combobox', { name: 'Function' }).selectOption('shop/order');
  await page.getByLabel('Id begins with').fill('customer-1');
  await page.getByRole('button', { name: 'Search' }).click();
  const wanted = await world.cli('address', 'list', '--function', 'shop/order',
    '--prefix', 'customer-1', '--limit', '1000000');
  const found = new Set();
  const rows = page.locator('tbody tr a');
  for (;;) {
    await page.getByText('shown').waitFor();
    const before = await page.getByText(/^Page \d+/).textContent();
    for (const text of await rows.allTextContents()) found.add(text.trim());
    const next = page.getByRole('button', { name: /^(Next|Search further)$/ });
    if (await next.isDisabled()) break;
    await next.click();
    await until(async () => {
      const now = await page.getByText(/^Page \d+/).first().textContent({ timeout: 1000 })
        .catch(() => before);
      return now !== before;
    }, 'the next page');
    if (found.size > 1000) break;
  }
  const names = new Set(wanted.map((one) => one.address));
  assert.deepEqual([...found].filter((name) => !names.has(name)), []);
  if (names.size <= 1000) assert.equal(found.size, names.size);
  await page.getByLabel('Open an address').fill('shop/order/alice');
  await page.getByRole('button', { name: 'Open', exact: true }).click();
  await page.getByRole('heading', { name: 'alice' }).waitFor();
  await page.close();
});

test('a state is shown exactly, edited, set and deleted', async () => {
  const page = await open(addressFragment('shop/order/alice'));
  const total = page.getByRole('article', { name: 'State total' });
  // More digits than JavaScript's numbers hold.
  await total.getByText('9007199254740995').waitFor();
  await page.getByText('itself').waitFor();
  await total.getByRole('button', { name: 'Edit' }).click();
  await page.screenshot({ path: join(SCREENSHOT_FOLDER, 'edit-state.png') });
  await page.getByRole('dialog').getByLabel('Value', { exact: true }).fill('9007199254740997');
  await confirm(page, 'Set state');
  await total.getByText('9007199254740997').waitFor();
  const url = `${world.admin}/api/addresses/shop/order/alice`;
  const text = await (await fetch(url)).text();
  assert.ok(text.includes('9007199254740997'), text);

  const order = page.getByRole('article', { name: 'State order' });
  await order.getByRole('button', { name: 'Edit' }).click();
  const editor = page.getByRole('dialog').getByLabel('Value', { exact: true });
  await editor.fill('{"lines": ');
  await page.getByRole('dialog').getByRole('button', { name: 'Set state' }).click();
  await page.getByRole('dialog').getByText('this is not JSON').waitFor();
  await editor.fill('{"lines": {"plum": 3}}');
  await confirm(page, 'Set state');
  await until(async () => (await state('shop/order/alice', 'order'))?.lines.plum === 3, 'set');

  await page.getByRole('article', { name: 'State label' }).getByRole('button', { name: 'Edit' })
    .click();
  await editor.fill('00 ff 7f');
  await confirm(page, 'Set state');
  const label = (await address('shop/order/alice')).state.find((one) => one.name === 'label');
  assert.equal(label.base64, 'AP9/');

  await page.getByRole('article', { name: 'State note' }).getByRole('button', { name: 'Delete' })
    .click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  assert.ok(await state('shop/order/alice', 'note'), 'nothing happens without the confirmation');
  await page.getByRole('article', { name: 'State note' }).getByRole('button', { name: 'Delete' })
    .click();
  await confirm(page, 'Delete state');
  assert.equal(await state('shop/order/alice', 'note'), undefined);
  await page.getByRole('button', { name: 'Set state note' }).click();
  await editor.fill('"ü"');
  await confirm(page, 'Set state');
  assert.equal(await state('shop/order/alice', 'note'), 'ü');
  await page.close();
});

test('the state of an address is compared with an earlier moment', async () => {
  const name = 'shop/order/past';
  await world.ask('call', name, { item: 'early' });
  // A field for times has whole seconds.
  await new Promise((resolve) => { setTimeout(resolve, 1100); });
  const moment = new Date().toISOString().slice(0, 19);
  await new Promise((resolve) => { setTimeout(resolve, 1100); });
  await world.ask('call', name, { item: 'late' });
  const page = await open(addressFragment(name), { timezoneId: 'UTC' });
  await page.getByRole('button', { name: 'Compare with a moment' }).click();
  await page.getByLabel('Moment', { exact: true }).fill(moment);
  const order = page.getByRole('article', { name: 'State order, then and now' });
  await order.getByText('changed').waitFor();
  const [then, now] = await order.locator('pre').allTextContents();
  assert.ok(then.includes('early') && !then.includes('late'), then);
  assert.ok(now.includes('early') && now.includes('late'), now);
  const told = await world.cli('state', 'get', name, '--at', `${moment}Z`);
  const { value, base64 } = told.find((one) => one.state === 'order');
  const text = base64 ? Buffer.from(base64, 'base64').toString() : JSON.stringify(value);
  assert.deepEqual(JSON.parse(then), JSON.parse(text));
  const same = page.getByRole('article', { name: 'State label, then and now' });
  await same.getByText('same').waitFor();
  await page.getByText(`${moment}.000Z`).waitFor();
  await page.screenshot({ path: join(SCREENSHOT_FOLDER, 'time-light.png'), fullPage: true });
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.screenshot({ path: join(SCREENSHOT_FOLDER, 'time-dark.png'), fullPage: true });
  await page.evaluate(AXE);
  const { violations } = await page.evaluate('axe.run()');
  assert.deepEqual(violations.map((one) => one.id), []);
  const part = page.getByRole('group', { name: 'Changes of order' });
  await part.getByText('lines.late').waitFor();
  assert.equal(await part.locator('tbody tr').count(), 1, 'only what changed');

  // Two moments of the past, between which nothing changed.
  await page.getByLabel('Compare with').selectOption('Another moment');
  await page.getByLabel('Other moment', { exact: true }).fill(moment);
  await page.getByText('Nothing changed between the two.').waitFor();
  await page.getByLabel('Compare with').selectOption('Now');
  await order.getByText('changed').waitFor();
  await page.getByLabel('Slider covers the last').selectOption({ index: 0 });
  await page.getByLabel('Earlier or later').fill('0');
  await page.getByText(/does not reach back|then and now|Neither then nor now|new/).first()
    .waitFor();
  await page.close();
});

test('the messages of a mailbox are shown one by one, and what they wait for', async () => {
  const name = `shop/stock/${EVIL}`;
  const page = await open(addressFragment(name));
  const messages = page.getByRole('region', { name: 'Messages' });
  const told = await world.cli('address', 'messages', name);
  assert.equal(told.length, 2, 'the one that suspended it, and the one behind');
  await until(async () => (await messages.locator('tbody tr').count()) === 2, 'both are shown');
  await page.getByText('the message at the head,').waitFor();
  await messages.getByRole('button', { name: `Message ${told[1].number.toLocaleString('en-US')}` }).click();
  await messages.getByText('"box"').waitFor();
  await messages.getByText(told[1].id).waitFor();
  await messages.getByRole('button', { name: `Message ${told[0].number.toLocaleString('en-US')}` }).click();
  await messages.getByText('negative stock').waitFor();
  assert.equal(await page.evaluate('window.ran'), undefined);
  await page.screenshot({ path: join(SCREENSHOT_FOLDER, 'messages.png'), fullPage: true });

  // A message for an endpoint that is not there: it is in flight, or waits for its next attempt.
  await page.goto(`${world.admin}/${addressFragment('billing/invoice/7')}`);
  const waiting = page.getByRole('region', { name: 'Messages' });
  await waiting.getByText('outside').waitFor();
  await page.getByText('nothing-listens-here').first().waitFor();
  await page.close();
});

test('the graph has the edges of real messages, as the command line prints them', async () => {
  const page = await open('#/application');
  const rows = page.getByRole('group', { name: 'Edges of the graph' }).locator('tbody tr');
  const drawn = page.getByRole('group', { name: /^Drawing of the graph/ });
  await drawn.getByRole('link', { name: 'function shop/order' }).waitFor();
  await drawn.getByRole('link', { name: 'egress shop/shipments' }).waitFor();
  await drawn.getByRole('link', { name: 'ingress shop/orders' }).waitFor();
  await until(async () => {
    const told = await world.cli('graph');
    const edge = told.find((one) => one.edge === 'function shop/order > egress shop/shipments');
    const fromStream = told.find((one) => one.edge === 'ingress shop/orders > function shop/order');
    const between = told.find((one) => one.edge === 'function shop/order > function shop/stock');
    assert.equal(edge.messages, 1);
    assert.equal(between.messages, 1);
    assert.equal(fromStream.messages, 2);
    const texts = await rows.allInnerTexts();
    return texts.length === told.length && told.every(({ messages }) => (
      texts.some((text) => text.includes(messages.toLocaleString('en-US')))));
  }, 'the table shows what the command line prints');
  // An edge that carries messages has a rate.
  const calls = rows.filter({ hasText: 'requests' }).filter({ hasText: 'shop/order' });
  await until(async () => {
    await world.ask('call', 'shop/order/live', { item: 'pear' });
    return /[1-9]/.test(await calls.locator('td').last().innerText());
  }, 'a rate of calls');
  const text = await page.locator('body').innerText();
  assert.ok(text.includes('urlPathTemplate') && !text.includes('hunter2'), 'no comment is shown');
  assert.ok(!text.includes(TOKEN));
  await page.getByRole('group', { name: 'Settings' }).getByText('--admin-token-file').waitFor();
  await drawn.getByRole('link', { name: 'function shop/order' }).focus();
  await page.keyboard.press('Enter');
  await page.waitForURL(/addresses\?function=shop%2Forder/);
  await page.close();
});

test('the bill is what was counted, and says that nothing is paid', async () => {
  const page = await open('#/cost');
  await page.getByText('Nothing of this is paid.', { exact: true }).waitFor();
  const [told] = await world.cli('cost', '--of-running', '--format', 'json');
  assert.equal(told.paid, false);
  const sum = page.getByRole('group', { name: 'Positions of a month' }).locator('tr.sum');
  const dollars = Number((await sum.innerText()).replace(/[^\d.]/g, ''));
  assert.ok(Math.abs(dollars / told.month.dollars - 1) < 0.2,
    `${dollars} on the page, ${told.month.dollars} on the command line`);
  const pace = page.getByRole('group', { name: 'Bills by --commit-pace' });
  assert.equal(await pace.locator('tbody tr').count(), told.dials[0].options.length);
  await pace.getByText('now').waitFor();
  await page.getByText('list prices of us-east-1').waitFor();
  const counted = told.processes[0].counted;
  assert.ok(counted.calls >= ADDRESSES && counted.files > 0 && counted.requests > 0);
  await page.getByLabel('Tasks on Fargate').fill('0');
  await page.keyboard.press('Tab');
  const month = page.getByRole('group', { name: 'Positions of a month' });
  await until(async () => !(await month.innerText()).includes('Fargate'), 'no task, no Fargate');
  await page.screenshot({ path: join(SCREENSHOT_FOLDER, 'cost-whole.png'), fullPage: true });
  await page.close();
});

test('each shard of an ingress is shown with its position', async () => {
  const page = await open('#/connectors');
  await page.getByRole('button', { name: 'Shards of shop/orders' }).click();
  const rows = page.getByRole('group', { name: 'Shards of shop/orders' }).locator('tbody tr');
  const told = await world.cli('ingress', 'positions', 'shop/orders');
  const read = told.filter((one) => one.position.kind === 'after');
  assert.ok(read.length > 0, JSON.stringify(told));
  await until(async () => (await rows.count()) === told.length, 'all shards are listed');
  for (const one of read) {
    const row = rows.filter({ hasText: one.shard });
    await row.getByText(String(one.position.sequence)).waitFor();
    await row.getByText('reads').waitFor();
  }
  await page.screenshot({ path: join(SCREENSHOT_FOLDER, 'shards.png') });
  await page.close();
});

test('savepoints are made, refused if they exist, and deleted', async () => {
  const kept = async () => (await world.cli('savepoint', 'list')).map((one) => one.savepoint);
  const page = await open('#/savepoints');
  const make = async (name) => {
    await page.getByRole('button', { name: 'New savepoint' }).click();
    await page.getByLabel('Name').fill(name);
    await page.getByLabel('Comment').fill(`made by a person ${SCRIPT}`);
  };
  await make('of-the-console');
  await page.screenshot({ path: join(SCREENSHOT_FOLDER, 'new-savepoint.png') });
  await confirm(page, 'Create');
  await page.getByRole('button', { name: 'Delete savepoint of-the-console' }).waitFor();
  assert.deepEqual(await kept(), ['kept-for-the-test', 'of-the-console']);
  await make('of-the-console');
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Create' }).click();
  await dialog.getByText('has a savepoint of-the-console already').waitFor();
  await page.getByLabel('Name').fill('../elsewhere');
  await dialog.getByRole('button', { name: 'Create' }).click();
  await dialog.getByText('cannot name a savepoint').waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Delete savepoint of-the-console' }).click();
  await confirm(page, 'Delete savepoint');
  await until(async () => (await kept()).join() === 'kept-for-the-test', 'it is deleted');
  assert.equal(await page.evaluate('window.ran'), undefined);
  await page.close();
});

test('without a configured token a page only reads, unless it was opened by the link', async () => {
  const other = await startWorld({ withToken: false });
  try {
    await other.ask('call', 'shop/order/alice', { item: 'apple' });
    const [at, secret] = other.link.split('/#token=');
    assert.equal(at, other.admin);
    const page = await open(addressFragment('shop/order/alice'), { token: null, at: other });
    await page.getByRole('button', { name: 'Delete state order' }).click();
    await page.getByRole('dialog').getByText('printed a link to the console').waitFor();
    const remove = () => page.evaluate(async () => (await fetch(
      '/api/addresses/shop/order/alice/state/label', { method: 'DELETE' })).status);
    assert.equal(await remove(), 401);
    await page.getByRole('button', { name: 'Cancel' }).click();

    // In the same tab, as a click on the link in a terminal may do it.
    await page.goto(other.link);
    await page.getByRole('button', { name: 'Forget token' }).waitFor();
    assert.equal(page.url(), `${other.admin}/#/`);
    assert.equal(await page.evaluate(() => sessionStorage.getItem('satchel-token')), secret);
    await page.goto(`${other.admin}/${addressFragment('shop/order/alice')}`);
    await page.getByRole('button', { name: 'Delete state order' }).click();
    await confirm(page, 'Delete state');
    const [left] = await other.cli('address', 'get', 'shop/order/alice');
    assert.equal(left.state.find((one) => one.name === 'order'), undefined);
    assert.equal(await remove(), 401, 'nothing but the page sends the token');
    // A tab that the link opens.
    const fresh = await open(`#token=${secret}`, { token: null, at: other });
    await fresh.getByRole('button', { name: 'Forget token' }).waitFor();
    assert.equal(fresh.url(), `${other.admin}/#/`);
    // Commands need no token.
    await other.cli('address', 'get', 'shop/order/alice');
    const [letter] = await other.cli('dead-letters', 'list');
    assert.equal(letter, undefined);
    assert.ok(!other.log().includes(secret), 'the log has no token');
    await page.close();
    await fresh.close();
  } finally {
    await other.stop();
  }
});

test('a person sends a message and calls', async () => {
  const page = await open(addressFragment('shop/order/carol'));
  await page.getByRole('button', { name: 'Send or call' }).click();
  await page.getByLabel('Message', { exact: true }).fill('{"item": "kiwi", "number": 4}');
  await page.screenshot({ path: join(SCREENSHOT_FOLDER, 'send.png') });
  await confirm(page, 'Send message');
  await until(async () => (await state('shop/order/carol', 'order'))?.lines.kiwi === 4, 'sent');
  await page.getByRole('button', { name: 'Send or call' }).click();
  await page.getByRole('combobox', { name: 'Kind' }).selectOption('call');
  await page.getByLabel('Message', { exact: true }).fill('{"item": "kiwi"}');
  await page.getByRole('dialog').getByRole('button', { name: 'Call' }).click();
  await page.getByRole('heading', { name: 'Reply of order/carol' }).waitFor();
  await page.getByRole('dialog').getByText('"kiwi"').waitFor();
  await page.getByRole('button', { name: 'Close' }).click();
  assert.equal((await state('shop/order/carol', 'order')).lines.kiwi, 5);
  await page.getByRole('button', { name: 'Send or call' }).click();
  await page.getByRole('combobox', { name: 'Kind' }).selectOption('call');
  await page.getByLabel('Message', { exact: true }).fill('{"invalid": "not today"}');
  await page.getByRole('dialog').getByRole('button', { name: 'Call' }).click();
  await page.getByRole('dialog').getByText('not today').last().waitFor();
  await page.close();
});

test('a suspended address is resumed, or its message is skipped', async () => {
  const page = await open(addressFragment('shop/stock/apple'));
  await page.getByRole('button', { name: 'Skip message' }).click();
  await confirm(page, 'Skip message');
  await until(async () => (await state('shop/stock/apple', 'order'))?.lines.box === 1, 'skipped');
  assert.equal((await letters('--function', 'shop/stock')).length, 1);
  await page.getByText('idle').waitFor();
  await page.goto(`${world.admin}/${addressFragment('shop/stock/pear')}`);
  await page.getByRole('button', { name: 'Resume', exact: true }).click();
  await confirm(page, 'Resume');
  // The message is rejected again.
  await until(async () => (await address('shop/stock/pear')).suspended !== null, 'suspended');
  await page.close();
});

test('dead letters are filtered, looked at, edited and retried, and dropped', async () => {
  const page = await open('#/dead-letters');
  await page.getByRole('combobox', { name: 'Function' }).selectOption('shop/order');
  await page.getByLabel('Reason contains').fill('no such account');
  await page.getByRole('combobox', { name: 'Failed' }).selectOption('1h');
  await page.getByRole('button', { name: 'Filter' }).click();
  await page.waitForURL(/reason=no/);
  const matching = await letters('--reason', 'no such account');
  const [first, second, third] = matching;
  const row = (letter) => page.getByLabel(`Choose dead letter ${letter.id}`);
  await row(first).waitFor();
  assert.equal(await page.getByText('out of stock').count(), 0);

  const gone = (letter) => until(
    async () => !(await letters()).some((one) => one.id === letter.id), `${letter.id} is gone`);
  await page.locator('tr', { has: row(first) }).getByRole('button').click();
  await page.getByRole('button', { name: 'Edit and retry' }).click();
  await page.getByLabel('Message', { exact: true }).fill('{"item": "corrected"}');
  await confirm(page, 'Send and drop');
  await gone(first);
  const corrected = await state(first.address, 'order');
  assert.equal(corrected.lines.corrected, 1);

  await page.locator('tr', { has: row(second) }).getByRole('button').click();
  await page.getByRole('button', { name: 'Retry', exact: true }).click();
  await confirm(page, 'Retry');
  await gone(second);

  await page.locator('tr', { has: row(third) }).getByRole('button').click();
  await page.getByRole('button', { name: 'Drop', exact: true }).click();
  await confirm(page, 'Drop');
  await gone(third);

  const count = (await letters()).length;
  await row(matching[3]).check();
  await row(matching[4]).check();
  await page.getByRole('button', { name: 'Drop chosen' }).click();
  await confirm(page, 'Drop');
  await until(async () => (await letters()).length === count - 2, 'two are dropped');
  await page.close();
});

test('many dead letters are retried and dropped, and only those that match', async () => {
  const page = await open('#/dead-letters?reason=no+such+account');
  const others = (await letters()).length - (await letters('--reason', 'no such account')).length;
  await page.getByRole('button', { name: 'Retry all that match' }).click();
  await page.screenshot({ path: join(SCREENSHOT_FOLDER, 'retry-many.png') });
  const many = page.getByRole('dialog').getByRole('button', { name: 'Retry matching' });
  await many.click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  // They are rejected again, and become new dead letters.
  await page.getByText(/dead letters were retried/).waitFor();
  const counted = async () => (await letters('--reason', 'no such account')).length;
  const before = await counted();
  assert.ok(before > 0);
  await until(async () => (await counted()) === LETTERS / 2 - 4, 'all failed again');
  await page.getByRole('button', { name: 'Drop all that match' }).click();
  await confirm(page, 'Drop matching');
  await until(async () => (await counted()) === 0, 'all that match are gone');
  assert.equal((await letters()).length, others);
  await page.close();
});

test('warnings are those of `satchel top`', async () => {
  const cases = JSON.parse(readFileSync(join(process.env.SOURCE, 'warnings.json'), 'utf8'));
  const page = await open('#/');
  const shown = await page.evaluate(async (all) => {
    const { warningsOf } = await import('/console/warnings.js');
    return all.map(({ given }) => warningsOf(given).map(({ tone, text, todo }) => [tone, text, todo]));
  }, cases);
  cases.forEach(({ name, shown: expected }, at) => assert.deepEqual(shown[at], expected, name));
  await page.close();
});

test('an ingress and a function are paused and resumed', async () => {
  const page = await open('#/connectors');
  const paused = async () => {
    const [status] = await world.cli('status', '--json');
    return status.ingresses.ingresses[0].paused;
  };
  await page.getByRole('button', { name: 'Pause shop/orders' }).click();
  await page.getByLabel('Reason').fill(`maintenance ${SCRIPT}`);
  await confirm(page, 'Pause');
  await page.getByText('paused by a person').waitFor();
  assert.equal(await paused(), 'person');
  await page.goto(`${world.admin}/#/`);
  await page.getByText('Ingress shop/orders was paused by a person: maintenance').waitFor();
  await page.goto(`${world.admin}/#/connectors`);
  await page.getByRole('button', { name: 'Resume shop/orders' }).click();
  await confirm(page, 'Resume');
  await until(async () => (await paused()) === null, 'the ingress is resumed');
  await page.goto(`${world.admin}/#/addresses`);
  await page.getByRole('button', { name: 'Pause shop/order', exact: true }).click();
  await confirm(page, 'Pause');
  assert.equal(await world.ask('call', 'shop/order/dora', { item: 'x' }), 503);
  await page.getByRole('button', { name: 'Resume shop/order', exact: true }).click();
  await confirm(page, 'Resume');
  await until(async () => (await world.ask('call', 'shop/order/dora', { item: 'x' })) === 200,
    'the function is resumed');
  await page.close();
});

test('without the token everything is shown and nothing can be changed', async () => {
  const page = await open(addressFragment('shop/order/bob'), { token: null });
  await page.getByRole('article', { name: 'State order' }).waitFor();
  await page.getByRole('button', { name: 'Delete state order' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('heading', { name: 'Token for administration' }).waitFor();
  await dialog.getByLabel('Token', { exact: true }).fill('wrong');
  await dialog.getByRole('button', { name: 'Use this token' }).click();
  await dialog.getByText('The token is wrong.').waitFor();
  const status = await page.evaluate(async () => (await fetch(
    '/api/addresses/shop/order/bob/state/order', { method: 'DELETE' })).status);
  assert.equal(status, 401);
  assert.ok(await state('shop/order/bob', 'order'));
  await dialog.getByLabel('Token', { exact: true }).fill(TOKEN);
  await confirm(page, 'Use this token');
  await page.getByRole('button', { name: 'Delete state order' }).click();
  await confirm(page, 'Delete state');
  assert.equal(await state('shop/order/bob', 'order'), undefined);
  const kept = await page.evaluate(() => [sessionStorage.length, localStorage.length]);
  assert.deepEqual(kept, [1, 0], 'the token is kept by the tab alone');
  await page.getByRole('button', { name: 'Forget token' }).click();
  await page.getByRole('button', { name: 'Enter token' }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.close();
});

test('beyond loopback nothing is shown without the token', async () => {
  const elsewhere = await startWorld({ adminAt: '0.0.0.0:0' });
  try {
    await elsewhere.ask('call', 'shop/order/alice', { item: 'secret' });
    const page = await open(addressFragment('shop/order/alice'), { token: null, at: elsewhere });
    await page.getByText('A token is needed').waitFor();
    const text = await page.locator('body').innerText();
    assert.ok(!text.includes('secret'), text);
    await page.getByRole('button', { name: 'Enter token' }).click();
    await page.getByLabel('Token', { exact: true }).fill('wrong');
    await page.getByRole('dialog').getByRole('button', { name: 'Use this token' }).click();
    await page.getByRole('dialog').getByText('The token is wrong.').waitFor();
    await page.getByLabel('Token', { exact: true }).fill(TOKEN);
    await confirm(page, 'Use this token');
    await page.getByText('"secret"').waitFor();
    await page.close();
  } finally {
    await elsewhere.stop();
  }
});

test('the theme is chosen, and all is reached by keys', async () => {
  const page = await open('#/');
  await page.getByLabel('Theme').selectOption('dark');
  await page.reload();
  assert.equal(await page.evaluate('document.documentElement.dataset.theme'), 'dark');
  await page.getByRole('heading', { name: 'shop' }).waitFor();
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to the content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate('document.activeElement.id'), 'main');
  await page.keyboard.press('g');
  await page.keyboard.press('d');
  await page.getByRole('heading', { name: 'Dead letters' }).waitFor();
  await page.keyboard.press('/');
  assert.equal(await page.evaluate('document.activeElement.tagName'), 'INPUT');
  await page.getByRole('heading', { name: 'Dead letters' }).click();
  await page.keyboard.press('?');
  await page.getByRole('heading', { name: 'Keys' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.close();
});

test('another web page can neither change, read, nor frame anything', async () => {
  const before = JSON.stringify((await address('shop/order/bob')).state);
  const foreign = http.createServer((_request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(`<iframe src="${world.admin}/"></iframe>`);
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => { foreign.on('listening', resolve); });
  const page = await world.browser.newPage();
  await page.goto(`http://127.0.0.1:${foreign.address().port}/`);
  const framed = page.frames()[1];
  assert.ok(!framed || !(await framed.content()).includes('id="app"'), 'no frame');
  const tried = await page.evaluate(async ([admin, token]) => {
    const attempt = async (path, options) => {
      try {
        const response = await fetch(`${admin}${path}`, options);
        return `${response.type} ${response.status}`;
      } catch (error) {
        return error.name;
      }
    };
    const body = '{"item": "stolen"}';
    const send = '/api/addresses/shop/order/bob/send';
    return [
      await attempt('/api/process'),
      await attempt(send, { method: 'POST', body, mode: 'no-cors' }),
      await attempt(send, { method: 'POST', body, headers: { authorization: `Bearer ${token}` } }),
    ];
  }, [world.admin, TOKEN]);
  assert.deepEqual(tried, ['TypeError', 'TypeError', 'TypeError'].map((error, at) => (
    at === 1 && tried[1] === 'opaque 0' ? 'opaque 0' : error)));
  const rebound = await new Promise((resolve, reject) => {
    const { port } = new URL(world.admin);
    http.get({ port, host: '127.0.0.1', headers: { host: 'evil.example' } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on('error', reject);
  });
  assert.equal(rebound, 403);
  assert.equal(JSON.stringify((await address('shop/order/bob')).state), before);
  await page.close();
  foreign.close();
});

test('the page is small, and paints at once', async () => {
  const page = await world.browser.newPage();
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  let received = 0;
  session.on('Network.loadingFinished', ({ encodedDataLength }) => { received += encodedDataLength; });
  await page.goto(`${world.admin}/#/connectors`);
  await page.getByText('shop/shipments').waitFor();
  const painted = () => page.evaluate(
    () => Math.round(performance.getEntriesByName('first-contentful-paint')[0]?.startTime));
  const bytes = received;
  const first = await painted();
  await page.reload();
  await page.getByText('shop/shipments').waitFor();
  console.log(`console: ${bytes} bytes received, first paint after ${first} ms in a new tab, `
    + `${await painted()} ms after a reload`);
  assert.ok(bytes > 0 && bytes <= 150_000, `${bytes} bytes`);
  await page.close();
});

test('changes leave a line in the log, and the token none', async () => {
  const log = world.log();
  const line = log.split('\n').find((one) => one.includes('administration request')
    && one.includes('/api/addresses/shop/order/alice/state/total'));
  assert.ok(line, 'the change of a state is in the log');
  assert.match(line, /method=PUT/);
  assert.match(line, /client="127\.0\.0\.1"/);
  assert.match(line, /status=200/);
  assert.ok(!log.includes(TOKEN));
});

test('the CPU time of an open console is measured', async () => {
  const spent = () => {
    const fields = readFileSync(`/proc/${world.pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  };
  const measure = async (seconds) => {
    const from = spent();
    await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
    return (spent() - from) / seconds;
  };
  const without = await measure(3);
  const page = await open('#/');
  await page.locator('.plot path.line').first().waitFor({ state: 'attached' });
  const within = await measure(3);
  const percent = (share) => `${(share * 100).toFixed(1)} %`;
  console.log(`console: CPU of the process ${percent(without)} without, ${percent(within)} with it`);
  await page.close();
});

test('nothing failed on any page, and no other origin was asked', () => {
  assert.deepEqual(errors, []);
  assert.deepEqual(strangers, []);
});

test('vendored files are those of the packages', () => {
  const folder = join(process.env.SOURCE, '../../console/vendor');
  const vendored = (name) => readFileSync(join(folder, name), 'utf8');
  // As README.md of the console describes it.
  const taken = (file) => readFileSync(join(import.meta.dirname, 'node_modules', file), 'utf8')
    .replace(/^\/\/# sourceMappingURL.*\n?/m, '').replace(/from *"preact"/, 'from"./preact.js"');
  for (const [name, file] of [
    ['preact.js', 'preact/dist/preact.mjs'], ['hooks.js', 'preact/hooks/dist/hooks.mjs'],
    ['htm.js', 'htm/dist/htm.mjs'], ['LICENSE.preact', 'preact/LICENSE'],
    ['LICENSE.htm', 'htm/LICENSE'],
  ]) {
    assert.equal(vendored(name).trim(), taken(file).trim(), name);
  }
  assert.ok(statSync(folder).isDirectory());
});
