'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { Backoff } = require('../backoff');
const { eventId, readOptions } = require('..');
const { sayer } = require('../say');

test('waits double up to the longest, with jitter, and start over after a success', () => {
  const backoff = new Backoff(1000, 60000, () => 0.999);
  const waits = Array.from({ length: 8 }, () => Math.round(backoff.failed() / 1000));
  assert.deepStrictEqual(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
  backoff.succeeded();
  assert.ok(new Backoff(1000, 60000, () => 0).failed() === 500);
  assert.ok(backoff.failed() < 1001);
});

test('Retry-After is kept, within reason', () => {
  const backoff = new Backoff(1000, 60000);
  assert.strictEqual(backoff.failed(120000), 120000);
  assert.strictEqual(backoff.failed(1e12), 600000);
});

test('an id depends on every part, on its place and on the key', () => {
  const id = eventId(['a', 'b', 1]);
  assert.match(id, /^[0-9a-f]{32}$/);
  assert.strictEqual(eventId(['a', 'b', '1']), id);
  const others = [eventId(['ab', '', 1]), eventId(['a', 'b']), eventId(['b', 'a', 1]), eventId(['a', 'b', 1], 'key')];
  assert.strictEqual(new Set([id, ...others]).size, 5);
});

test('settings come from the configuration, else from the environment, else by default', () => {
  const env = { DASHBOARD_URL: 'http://env:1/', DASHBOARD_API_KEY: 'envkey', MTA_NODE_ID: 'envnode' };
  const { options, mistakes } = readOptions({ url: 'https://here:2/base/', flush_ms: '100' }, env);
  assert.deepStrictEqual(mistakes, []);
  assert.strictEqual(options.url, 'https://here:2/base');
  assert.strictEqual(options.api_key, 'envkey');
  assert.strictEqual(options.node, 'envnode');
  assert.strictEqual(options.flush_ms, 100);
  assert.strictEqual(options.batch_events, 500);
  assert.strictEqual(options.spool, '/var/spool/mailstream');
});

test('an address may be that of a route', () => {
  const url = (value) => readOptions({ url: value }, {}).options.url;
  assert.strictEqual(url('http://a:1/api/v1/email-events'), 'http://a:1');
  assert.strictEqual(url('http://a:1/api/v1/email-events/batch'), 'http://a:1');
});

test('unusable settings are said and replaced, never thrown', () => {
  for (const config of [null, undefined, true, 'x', 1]) readOptions(config, {});
  const { options, mistakes } = readOptions({ url: 'ftp://x', flush_ms: 'soon', batch_events: 0, api_key: 'ä' }, {});
  assert.strictEqual(options.url, null);
  assert.strictEqual(options.flush_ms, 5000);
  assert.strictEqual(options.batch_events, 500);
  assert.strictEqual(options.api_key, '');
  assert.strictEqual(mistakes.length, 4);
});

test('log lines that repeat are held back', () => {
  const said = [];
  const say = sayer((level, text) => said.push(`${level} ${text}`));
  for (let n = 0; n < 5; n += 1) say('one', 'warn', 'again');
  say('two', 'info', 'other');
  assert.deepStrictEqual(said, ['warn again', 'info other']);
});

test('the READMEs of both plugins list every setting', () => {
  for (const plugin of ['zonemta', 'haraka']) {
    const text = fs.readFileSync(path.join(__dirname, '..', '..', plugin, 'README.md'), 'utf8');
    for (const name of Object.keys(readOptions({}, {}).options)) {
      if (plugin !== 'haraka' || name !== 'hold_ms') assert.ok(text.includes(`\`${name}\``), `${plugin}: ${name}`);
    }
  }
});
