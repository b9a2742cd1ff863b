'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { Ingest } = require('../../kit/ingest');
const { files, folder, sender, until } = require('../../kit/sending');
const { Spool } = require('../spool');

const CLIENT = JSON.stringify(path.join(__dirname, '..'));
const AWAY = 'http://127.0.0.1:1';

async function ingest(t) {
  const made = await new Ingest().start();
  t.after(() => made.stop());
  return made;
}

/** A process that pushes three events, says its boot id, and does what *then* is. */
function child(t, spool, then, url = AWAY) {
  const code = `
    const { Sender, readOptions } = require(${CLIENT});
    const { options } = readOptions({ url: '${url}', spool: ${JSON.stringify(spool)} }, {});
    const sender = new Sender({ options, source: 'zonemta', role: 'sender', version: '0', log() {} });
    for (const n of [1, 2, 3]) sender.push({ queue_id: 'c' + n });
    console.log(sender.bootId);
    ${then}`;
  const made = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => made.kill('SIGKILL'));
  return made;
}

const firstLine = async (made) => String((await once(made.stdout, 'data'))[0]).trim();

function spoolIn(t, root, given = {}) {
  const lost = [];
  const bootId = given.bootId || 'boot0001';
  const made = new Spool({ folder: root, maxBytes: 1 << 30, bootId, lost: (count, why) => lost.push([count, why]), ...given });
  made.open();
  return { made, lost };
}

test('a process that ends by itself is not kept, and leaves its events on disk', async (t) => {
  const spool = folder(t);
  const made = child(t, spool, '');
  const [code] = await once(made, 'close');
  assert.strictEqual(code, 0);
  assert.strictEqual(files(spool).length, 1);
});

test('a process that SIGTERM ends leaves its events, and the next one posts them as they were', async (t) => {
  const spool = folder(t);
  const made = child(t, spool, 'setInterval(() => {}, 1000);');
  const bootId = await firstLine(made);
  made.kill('SIGTERM');
  const [, signal] = await once(made, 'close');
  assert.strictEqual(signal, 'SIGTERM');

  const server = await ingest(t);
  const next = sender(t, { url: server.url, spool });
  await server.until(() => server.events.length === 3);
  const [{ headers, body }] = server.batches;
  assert.deepStrictEqual(body.events, [{ queue_id: 'c1' }, { queue_id: 'c2' }, { queue_id: 'c3' }]);
  assert.strictEqual(headers['x-boot-id'], bootId);
  assert.strictEqual(headers['x-numbers'], '1-3');
  await until(() => next.buffered === 0 && files(spool).length === 0);
});

test('a process that ends while ingest has not answered leaves what it posted', async (t) => {
  const spool = folder(t);
  const server = await ingest(t);
  server.answers.push('never');
  const made = child(t, spool, 'sender._wake(0); setInterval(() => {}, 1000);', server.url);
  await server.until(() => server.batches.length === 1);
  made.kill('SIGTERM');
  await once(made, 'close');
  sender(t, { url: server.url, spool });
  await server.until(() => server.events.length === 3);
  assert.strictEqual(server.batches[1].headers['x-numbers'], server.batches[0].headers['x-numbers']);
});

test('a process that listens to SIGTERM itself goes on, and loses nothing', async (t) => {
  const spool = folder(t);
  const made = child(t, spool, `
    setInterval(() => {}, 1000);
    process.on('SIGTERM', () => { sender.push({ queue_id: 'late' }); setTimeout(() => process.exit(0), 50); });`);
  await firstLine(made);
  made.kill('SIGTERM');
  const [code] = await once(made, 'close');
  assert.strictEqual(code, 0);
  const text = files(spool).map((file) => fs.readFileSync(file, 'utf8')).join('');
  for (const id of ['c1', 'c2', 'c3', 'late']) assert.match(text, new RegExp(`"${id}"`));
});

test('events that could not be posted are on disk before the process is killed', async (t) => {
  const spool = folder(t);
  const made = child(t, spool, 'sender._wake(0); setInterval(() => {}, 1000);');
  await firstLine(made);
  await until(() => files(spool).some((file) => fs.readFileSync(file, 'utf8').includes('"c3"')));
  made.kill('SIGKILL');
  await once(made, 'close');
  const server = await ingest(t);
  sender(t, { url: server.url, spool });
  await server.until(() => server.events.length === 3);
});

test('the folder of a process that runs is left alone', async (t) => {
  const spool = folder(t);
  const made = child(t, spool, 'sender.save(); setInterval(() => {}, 1000);');
  await firstLine(made);
  await until(() => files(spool).length === 1);
  const { made: other } = spoolIn(t, path.join(spool, 'zonemta'));
  await other.adopt();
  assert.strictEqual(other.events, 0);
  assert.strictEqual(files(spool).length, 1);
});

test('while ingest is away events wait on disk, older ones first when it is back', async (t) => {
  const spool = folder(t);
  const server = await ingest(t);
  const { port } = server;
  await server.stop();
  const one = sender(t, { url: server.url, spool });
  one.push({ queue_id: 'a' });
  await until(() => one.spool.events === 1 && one.queue.length === 0);
  one.push({ queue_id: 'b' });
  await server.start(port);
  await server.until(() => server.events.length === 2);
  assert.deepStrictEqual(server.events.map(({ queue_id: id }) => id), ['a', 'b']);
  await until(() => one.buffered === 0);
});

test('memory goes to disk before it is full', async (t) => {
  const spool = folder(t);
  const one = sender(t, { url: AWAY, spool, memory_events: 10, flush_ms: 600000 });
  for (let n = 1; n <= 8; n += 1) one.push({ queue_id: `q${n}` });
  await until(() => one.spool.events > 0);
  assert.strictEqual(one.buffered, 8);
  assert.strictEqual(one.dropped, 0);
});

test('a torn tail and a damaged line are left out, the rest is read', async (t) => {
  const root = folder(t);
  const left = path.join(root, '4194305-1-deadbeef');
  fs.mkdirSync(left);
  const text = '{"boot_id":"deadbeef"}\n1 {"queue_id":"a"}\n2 {"queue_\n3 {"queue_id":"c"}\n4 {"queue_id":"d"';
  fs.writeFileSync(path.join(left, '00000000000001-deadbeef-00000001.jsonl'), text);
  const { made } = spoolIn(t, root);
  await made.adopt();
  const { bootId, items } = await made.read();
  assert.strictEqual(bootId, 'deadbeef');
  assert.deepStrictEqual(items.map(({ n }) => n), [1, 3]);
  assert.strictEqual(fs.existsSync(left), false);
});

test('a gap in the numbers parts two posts', async (t) => {
  const spool = folder(t);
  const left = path.join(spool, 'zonemta', '4194305-1-deadbeef');
  fs.mkdirSync(left, { recursive: true });
  fs.writeFileSync(path.join(left, '1-deadbeef-1.jsonl'), '{"boot_id":"deadbeef"}\n7 {"seq":"7"}\n9 {"seq":"9"}\n');
  const server = await ingest(t);
  sender(t, { url: server.url, spool });
  await server.until(() => server.events.length === 2);
  assert.deepStrictEqual(server.batches.map(({ headers }) => headers['x-numbers']), ['7-7', '9-9']);
});

test('the disk is bounded: the oldest segments go, and their events are counted', async (t) => {
  const root = folder(t);
  const { made, lost } = spoolIn(t, root, { maxBytes: 3 << 20 });
  const json = JSON.stringify({ pad: 'x'.repeat(100000) });
  for (let n = 1; n <= 60; n += 1) await made.write([{ n, json }]);
  const bytes = files(root).reduce((sum, file) => sum + fs.statSync(file).size, 0);
  assert.ok(bytes <= 5 << 20, `${bytes} bytes`);
  assert.strictEqual(lost.reduce((sum, [count]) => sum + count, 0) + made.events, 60);
  assert.ok((await made.read()).items[0].n > 1);
});

test('files are for their owner alone', async (t) => {
  const root = path.join(folder(t), 'zonemta');
  const { made } = spoolIn(t, root);
  await made.write([{ n: 1, json: '{}' }]);
  assert.strictEqual(fs.statSync(files(root)[0]).mode & 0o777, 0o600);
  assert.strictEqual(fs.statSync(root).mode & 0o777, 0o700);
});

test('a spool that cannot be made is said once, and events stay in memory', async (t) => {
  const server = await ingest(t);
  const file = path.join(folder(t), 'file');
  fs.writeFileSync(file, '');
  const one = sender(t, { url: server.url, spool: file });
  one.push({ queue_id: 'a' });
  await server.until(() => server.events.length === 1);
  assert.match(one.said.join('\n'), /warn spool .* cannot be used \(ENOTDIR\)/);
});

test('a disk that refuses leaves events in memory, in order', async (t) => {
  const spool = folder(t);
  const server = await ingest(t);
  server.answers.push({ status: 503 });
  const one = sender(t, { url: server.url, spool });
  fs.rmSync(one.spool.folder, { recursive: true });
  for (const id of ['a', 'b']) one.push({ queue_id: id });
  await server.until(() => server.events.length === 2);
  assert.deepStrictEqual(server.events.map(({ queue_id: id }) => id), ['a', 'b']);
  assert.strictEqual(one.dropped, 0);
});
