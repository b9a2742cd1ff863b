/** Whatever ingest answers: each number is acknowledged, or waits, or was given up and counted. */
'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { Ingest } = require('../../kit/ingest');
const { folder, sender, until } = require('../../kit/sending');

const EVENTS = 400;

/** Numbers in [0, 1) that are the same for the same seed (Park and Miller). */
function numbersFrom(seed) {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

function answer(random) {
  const draw = random();
  if (draw < 0.2) return { status: 503 };
  if (draw < 0.3) return 'hang up';
  if (draw < 0.36) return { status: 413 };
  if (draw < 0.42) return { status: 400, body: { error: 'malformed' } };
  if (draw < 0.46) return { status: 401, body: { error: 'unauthorized' } };
  return {};
}

/** Numbers of the posts that were acknowledged, with their events. */
function acknowledged(server) {
  const numbers = new Map();
  for (const { status, headers, body } of server.batches) {
    const [first, last] = headers['x-numbers'].split('-').map(Number);
    assert.strictEqual(last - first + 1, body.events.length);
    if (status === 202) body.events.forEach(({ seq }, n) => numbers.set(first + n, seq));
  }
  return numbers;
}

for (const [seed, spooled] of [[1, true], [2, true], [3, true], [4, false], [5, false]]) {
  test(`with answers ${seed}, ${spooled ? 'on disk' : 'in memory only'}`, async (t) => {
    const random = numbersFrom(seed);
    const server = await new Ingest().start();
    t.after(() => server.stop());
    for (let n = 0; n < 60; n += 1) server.answers.push(answer(random));
    const spool = spooled ? folder(t) : false;
    const one = sender(t, { url: server.url, spool, memory_events: 60, batch_events: 20, flush_ms: 50, retry_ms: 10, retry_max_ms: 10 });
    for (let n = 1; n <= EVENTS; n += 1) {
      one.push({ seq: String(n) });
      if (random() < 0.1) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await until(() => one.buffered === 0);
    const numbers = acknowledged(server);
    assert.strictEqual(numbers.size + one.dropped, EVENTS);
    assert.strictEqual(one.last, EVENTS);
    for (const [number, seq] of numbers) assert.strictEqual(String(number), seq);
  });
}
