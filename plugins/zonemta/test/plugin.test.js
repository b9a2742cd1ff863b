'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { Ingest } = require('../../kit/ingest');
const { until } = require('../../kit/sending');
const { Join } = require('../join');
const plugin = require('..');
const hooks = require('./hooks.json');
const entries = require('./log_entries.json');

/** What ZoneMTA gives a plugin, as far as this one uses it. */
class App {
  constructor(config) {
    this.config = { flush_ms: 50, hold_ms: 200, spool: false, node: 'mta1', ...config };
    this.manager = { context: 'sender' };
    this.said = [];
    const log = (prefix, format, text) => this.said.push(`${prefix} ${text}`);
    this.logger = { info: log, warn: log, error: log };
    this.hooks = {};
  }

  addHook(name, action) {
    this.hooks[name] = action;
  }

  /** Runs a hook; returns whether it went on at once. */
  run(name, ...args) {
    let done = false;
    this.hooks[name](...args, () => (done = true));
    return done;
  }
}

async function loaded(t, config) {
  const server = await new Ingest().start();
  t.after(() => server.stop());
  const app = new App({ url: server.url, ...config });
  await new Promise((resolve) => plugin.init(app, resolve));
  return { app, server };
}

test('every hook goes on at once, whatever it is given', async (t) => {
  const { app } = await loaded(t);
  assert.deepStrictEqual(Object.keys(app.hooks).sort(), ['log:entry', 'sender:delivered', 'sender:responseError']);
  for (const name of Object.keys(app.hooks)) {
    for (const args of [[], [null], [{}], ['x', 1, 2], [{ action: 'ACCEPTED' }, null, null]]) {
      assert.strictEqual(app.run(name, ...args), true);
    }
  }
});

test('a delivery waits for its facts, an outcome that failed has them already', async (t) => {
  const { app, server } = await loaded(t);
  const { delivery, info } = hooks.delivered;
  app.run('log:entry', { ...entries.ACCEPTED, id: delivery.id, seq: delivery.seq });
  app.run('sender:delivered', delivery, info);
  const { delivery: late, error } = hooks.retried;
  app.run('sender:responseError', late, null, error);
  app.run('log:entry', { ...entries['DEFERRED/network'], id: late.id, seq: late.seq });
  await server.until(() => server.events.length === 2);
  const [first, second] = server.events;
  assert.deepStrictEqual([first.event_type, first.smtp_time_ms, first.router], ['delivered', 57, 'feeder']);
  assert.deepStrictEqual([second.event_type, second.sending_ip, second.attempt], ['deferred', '127.0.0.2', 2]);
});

test('the heartbeat says which process of ZoneMTA it is', async (t) => {
  const { server } = await loaded(t, { heartbeat_ms: 50 });
  await server.until(() => server.beats.length > 0);
  const [{ node, role, version }] = server.beats;
  assert.deepStrictEqual([node, role, version], ['mta1', 'sender', require('../package.json').version]);
});

test('a plugin without an address says so and does nothing', async (t) => {
  const app = new App({ url: undefined });
  await new Promise((resolve) => plugin.init(app, resolve));
  assert.match(app.said.join('\n'), /url is not set/);
  assert.strictEqual(app.run('log:entry', entries.QUEUED), true);
});

test('whichever hook comes last completes a delivery; without facts it goes after a while', async () => {
  const emitted = [];
  const join = new Join((entry, facts) => emitted.push([entry.id, facts]), 100);
  const accepted = (id) => ({ action: 'ACCEPTED', id, seq: '001' });
  join.facts({ id: 'a', seq: '001' }, 'known');
  join.entry(accepted('a'), Date.now());
  join.entry(accepted('b'), Date.now());
  join.facts({ id: 'b', seq: '001' }, 'known');
  join.entry(accepted('c'), Date.now());
  assert.deepStrictEqual(emitted, [['a', 'known'], ['b', 'known']]);
  await until(() => emitted.length === 3);
  assert.deepStrictEqual(emitted[2], ['c', undefined]);
});

test('what waits to be joined is bounded', () => {
  const emitted = [];
  const join = new Join((entry) => emitted.push(entry.id), 60000);
  for (let n = 0; n < 10005; n += 1) {
    join.facts({ id: `f${n}`, seq: '001' }, {});
    join.entry({ action: 'ACCEPTED', id: `e${n}`, seq: '001' }, n);
  }
  assert.strictEqual(join.known.size, 10000);
  assert.deepStrictEqual(emitted, ['e0', 'e1', 'e2', 'e3', 'e4']);
  join.release();
  assert.strictEqual(emitted.length, 10005);
});
