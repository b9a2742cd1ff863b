'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { Ingest } = require('../../kit/ingest');
const { sender, until } = require('../../kit/sending');

const event = (n) => ({ event_type: 'sent', queue_id: `q${n}`, timestamp: '2026-01-02T03:04:05.678Z' });
const ids = (events) => events.map(({ queue_id: id }) => id);

async function ingest(t) {
  const made = await new Ingest().start();
  t.after(() => made.stop());
  return made;
}

test('events are posted in order, numbered, with key, source and boot id', async (t) => {
  const server = await ingest(t);
  const one = sender(t, { url: server.url, api_key: 'secret' });
  for (let n = 1; n <= 3; n += 1) one.push(event(n));
  await server.until(() => server.events.length === 3);
  const [{ headers, packed }] = server.batches;
  assert.deepStrictEqual(ids(server.events), ['q1', 'q2', 'q3']);
  assert.strictEqual(headers['x-api-key'], 'secret');
  assert.strictEqual(headers['x-source'], 'zonemta');
  assert.strictEqual(headers['x-boot-id'], one.bootId);
  assert.strictEqual(headers['x-numbers'], '1-3');
  assert.strictEqual(packed, false);
  await until(() => one.buffered === 0);
});

test('a full batch is posted before the flush, packed if it is large', async (t) => {
  const server = await ingest(t);
  const one = sender(t, { url: server.url, flush_ms: 600000, batch_events: 100 });
  for (let n = 1; n <= 100; n += 1) one.push(event(n));
  await server.until(() => server.events.length === 100);
  assert.strictEqual(server.batches[0].packed, true);
});

test('a batch holds no more bytes than it may', async (t) => {
  const server = await ingest(t);
  const one = sender(t, { url: server.url, batch_bytes: 1024 });
  for (let n = 1; n <= 20; n += 1) one.push(event(n));
  await server.until(() => server.events.length === 20);
  assert.ok(server.batches.every(({ body }) => JSON.stringify(body).length < 1200));
});

test('a post that failed is repeated with the same numbers', async (t) => {
  const server = await ingest(t);
  server.answers.push({ status: 503, headers: { 'Retry-After': '0' } }, 'hang up', { status: 429 });
  const one = sender(t, { url: server.url });
  one.push(event(1));
  one.push(event(2));
  await server.until(() => server.events.length === 2);
  assert.deepStrictEqual(server.batches.map(({ headers }) => headers['x-numbers']), ['1-2', '1-2', '1-2', '1-2']);
  await until(() => one.buffered === 0);
  assert.match(one.said.join('\n'), /ingest is away \(503\)[^]*ingest takes events again/);
});

test('events of a 202 that are rejected are counted and not posted again', async (t) => {
  const server = await ingest(t);
  const rejected = [{ index: 1, error: 'invalid_field: to_domain is not text' }];
  server.answers.push({ body: { accepted: 1, rejected } });
  const one = sender(t, { url: server.url });
  one.push(event(1));
  one.push({ ...event(2), to: 'someone@example.org' });
  await until(() => one.rejected === 1);
  one.push(event(3));
  await server.until(() => server.batches.length === 2);
  assert.deepStrictEqual(ids(server.batches[1].body.events), ['q3']);
  assert.strictEqual(one.dropped, 0);
  assert.match(one.said.join('\n'), /rejected 1 of the events posted: invalid_field/);
  assert.doesNotMatch(one.said.join('\n'), /@/);
});

test('a post that is too large is cut, and later ones are smaller', async (t) => {
  const server = await ingest(t);
  server.answers.push({ status: 413, body: { error: 'too_large' } });
  const one = sender(t, { url: server.url });
  for (let n = 1; n <= 8; n += 1) one.push(event(n));
  await server.until(() => server.events.length === 8);
  for (let n = 9; n <= 14; n += 1) one.push(event(n));
  await server.until(() => server.events.length === 14);
  const numbers = server.batches.map(({ headers }) => headers['x-numbers']);
  assert.deepStrictEqual(numbers, ['1-8', '1-4', '5-8', '9-12', '13-14']);
});

test('the one event that spoils a batch is found and given up', async (t) => {
  const server = await ingest(t);
  const bad = { status: 400, body: { error: 'malformed' } };
  server.answers.push(bad, bad, {}, bad, {});
  const one = sender(t, { url: server.url });
  for (let n = 1; n <= 4; n += 1) one.push(event(n));
  await server.until(() => server.events.length === 3);
  assert.deepStrictEqual(ids(server.events), ['q1', 'q3', 'q4']);
  assert.strictEqual(one.dropped, 1);
});

test('wrong settings keep the events and tell the operator', async (t) => {
  const server = await ingest(t);
  server.answers.push({ status: 401, body: { error: 'unauthorized' } }, { status: 404 }, { status: 200 });
  const one = sender(t, { url: server.url, api_key: 'wrong' });
  one.push(event(1));
  await server.until(() => server.events.length === 1);
  assert.strictEqual(server.batches.length, 4);
  assert.match(one.said.join('\n'), /error ingest refuses what is posted \(401 unauthorized\): look at url and api_key/);
  assert.doesNotMatch(one.said.join('\n'), /wrong/);
});

test('memory is bounded: the oldest events go, and are counted', async (t) => {
  const server = await ingest(t);
  const one = sender(t, { url: server.url, memory_events: 10, flush_ms: 600000 });
  for (let n = 1; n <= 25; n += 1) one.push(event(n));
  assert.strictEqual(one.dropped, 15);
  assert.strictEqual(one.buffered, 10);
  one._wake(0);
  await server.until(() => server.events.length === 10);
  assert.strictEqual(server.batches[0].headers['x-numbers'], '16-25');
});

test('the heartbeat tells the last number, what waits and what was given up', async (t) => {
  const server = await ingest(t);
  const one = sender(t, { url: server.url, api_key: 'secret', memory_events: 2, flush_ms: 600000 });
  for (let n = 1; n <= 5; n += 1) one.push(event(n));
  await server.until(() => server.beats.some((beat) => beat.last_seq === 5));
  assert.deepStrictEqual(server.beats[server.beats.length - 1], {
    node: 'mta1',
    role: 'sender',
    version: '0',
    boot_id: one.bootId,
    last_seq: 5,
    buffered: 2,
    dropped_total: 3,
  });
  const { headers } = server.posts.find(({ path }) => path === '/api/v1/nodes');
  assert.strictEqual(headers['x-api-key'], 'secret');
  assert.strictEqual(headers['x-source'], 'zonemta');
});

test('what cannot be taken does not throw and takes no number', async (t) => {
  const server = await ingest(t);
  const one = sender(t, { url: server.url });
  const cyclic = {};
  cyclic.itself = cyclic;
  for (const odd of [cyclic, { size_bytes: 1n }, undefined]) one.push(odd);
  one.push(event(1));
  await server.until(() => server.events.length === 1);
  assert.strictEqual(server.batches[0].headers['x-numbers'], '1-1');
});

test('without an address events are ignored', (t) => {
  const one = sender(t, {});
  one.push(event(1));
  assert.strictEqual(one.buffered, 0);
});

test('a log that throws does not reach the mail', async (t) => {
  const server = await ingest(t);
  server.answers.push({ status: 503 });
  const log = () => {
    throw new Error('disk full');
  };
  const one = sender(t, { url: server.url }, { log });
  one.push(event(1));
  await server.until(() => server.events.length === 1);
});
