'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { Ingest } = require('../../kit/ingest');
const { Address31, connectionOf } = require('../../kit/haraka');
const plugin = require('..');

async function loaded(t, config = {}) {
  const server = await new Ingest().start();
  t.after(() => server.stop());
  const said = [];
  const log = (text) => said.push(text);
  const main = { url: server.url, flush_ms: '50', spool: 'false', node: 'mx1', api_key: 'secret', ...config };
  // Haraka copies a package's exports onto its own object.
  const made = { ...plugin, config: { get: () => ({ main }) }, loginfo: log, logwarn: log, logerror: log };
  made.register();
  t.after(() => made.sender.close());
  return { made, server, said };
}

const HOOKS = Object.keys(plugin).filter((name) => name.startsWith('hook_'));

test('every hook goes on at once, whatever it is given', async (t) => {
  const { made } = await loaded(t);
  assert.strictEqual(HOOKS.length, 7);
  for (const name of HOOKS) {
    for (const args of [[], [null], [{}], [{ notes: 1 }, 'x'], [undefined, [902]]]) {
      let went = 0;
      made[name](() => (went += 1), ...args);
      assert.strictEqual(went, 1, name);
    }
  }
});

test('events are posted for Haraka, with time and name of the MTA', async (t) => {
  const { made, server } = await loaded(t);
  made.hook_queue_ok(() => undefined, connectionOf(Address31), 'queued');
  await server.until(() => server.events.length === 1);
  const [event] = server.events;
  assert.deepStrictEqual([event.event_type, event.mta_node], ['received', 'mx1']);
  assert.match(event.timestamp, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  assert.strictEqual(server.batches[0].headers['x-source'], 'haraka');
});

test('without an address the plugin says so, and mail goes on', async (t) => {
  const { made, said } = await loaded(t, { url: '' });
  assert.match(said.join('\n'), /url is not set/);
  let went = false;
  made.hook_queue_ok(() => (went = true), connectionOf(Address31), 'queued');
  assert.strictEqual(went, true);
});
