// The application of the test, its command line, and a browser.
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

const { SATCHEL, CHROMIUM, SOURCE, SCREENSHOTS } = process.env;
export const TOKEN = 's3cret-of-the-test';
export const SCREENSHOT_FOLDER = SCREENSHOTS;

const MODULE = (port) => `
kind: io.statefun.endpoints.v2/http
spec:
  functions: shop/order
  urlPathTemplate: http://127.0.0.1:${port}/order
---
kind: io.statefun.endpoints.v2/http
spec:
  functions: shop/stock
  urlPathTemplate: http://127.0.0.1:${port}/stock
  onPoison: suspend
---
kind: io.statefun.endpoints.v2/http
spec:
  functions: billing/invoice
  urlPathTemplate: http://127.0.0.1:9/nothing-listens-here
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: shop/orders
  awsRegion: {type: default}
  startupPosition: {type: earliest}
  streams:
    - stream: orders
      valueType: satchel/json
      targets: [shop/order]
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: shop/shipments
  awsRegion: {type: default}
# the password is hunter2
`;

/** Waits for output of a process that `found` finds something in. */
function printed(child, stream, found) {
  return new Promise((resolve, reject) => {
    let text = '';
    child[stream].on('data', (data) => {
      text += data;
      const value = found(text);
      if (value) resolve(value);
    });
    child.on('exit', (code) => reject(new Error(`ended with ${code}: ${text}`)));
  });
}

/** Starts the application with administration at `adminAt`, with a token unless that is false. */
export async function startWorld({ adminAt = '127.0.0.1:0', withToken = true } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'satchel-console-'));
  mkdirSync(SCREENSHOTS, { recursive: true });
  const shop = spawn('python3', [join(SOURCE, 'shop.py')], { stdio: ['pipe', 'pipe', 'inherit'] });
  const port = await printed(shop, 'stdout', (text) => /^(\d+)\n/.exec(text)?.[1]);
  writeFileSync(join(folder, 'module.yaml'), MODULE(port));
  writeFileSync(join(folder, 'token'), `${TOKEN}\n`);
  const data = join(folder, 'data');
  const flags = withToken ? ['--admin-token-file', join(folder, 'token')] : [];
  const dev = spawn(SATCHEL, ['dev', join(folder, 'module.yaml'), '--data-dir', data,
    '--retention', '1h', '--http', '127.0.0.1:0', '--admin', adminAt, '--application', 'shop',
    ...flags], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  dev.stderr.on('data', (data) => { log += data; });
  const [traffic, admin, link] = await printed(dev, 'stdout', (text) => {
    const url = (name) => new RegExp(`^  ${name} +(http\\S+)$`, 'm').exec(text)?.[1];
    return text.includes('Try:') && [
      url('traffic'), url('admin').replace('0.0.0.0', '127.0.0.1'), url('console')];
  });
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  const environment = {
    ...process.env, SATCHEL_URL: traffic, SATCHEL_ADMIN_URL: admin,
    SATCHEL_STATE: join(data, 'state'), SATCHEL_APPLICATION: 'shop', NO_COLOR: '1',
    ...(withToken && { SATCHEL_ADMIN_TOKEN_FILE: join(folder, 'token') }),
  };
  /** Runs a command of satchel, and returns the lines of JSON that it prints. */
  const cli = async (...args) => {
    const { stdout } = await promisify(execFile)(SATCHEL, args, {
      env: environment, maxBuffer: 64 << 20,
    });
    try {
      return [JSON.parse(stdout)];
    } catch {
      return stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line));
    }
  };
  const ask = async (verb, address, message) => {
    const path = address.split('/', 2).join('/');
    const id = encodeURIComponent(address.slice(path.length + 1));
    const response = await fetch(`${traffic}/${verb}/${path}/${id}`, {
      method: 'POST', body: JSON.stringify(message),
    });
    await response.arrayBuffer();
    return response.status;
  };
  const stop = async () => {
    await browser.close();
    const ended = new Promise((resolve) => { dev.on('exit', resolve); });
    dev.kill('SIGTERM');
    const code = await ended;
    shop.stdin.end();
    rmSync(folder, { recursive: true, force: true });
    return code;
  };
  return { traffic, admin, link, browser, cli, ask, stop, log: () => log, pid: dev.pid };
}

/** Sends many messages, some at once. */
export async function flood(count, send, atOnce = 48) {
  let next = 0;
  const worker = async () => {
    while (next < count) {
      next += 1;
      await send(next);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** Waits until `check` returns something true. */
export async function until(check, what) {
  const end = Date.now() + 60_000;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`still not: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}
