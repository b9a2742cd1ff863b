/** Senders for tests: quick ones, with a spool folder of their own and a log that is kept. */
'use strict';

const fs = require('fs');
const os = require('os');
const path = require('path');
const { Sender, readOptions } = require('../client');

function folder(t) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'mailstream-'));
  t.after(() => fs.rmSync(made, { recursive: true, force: true }));
  return made;
}

function quick(config) {
  const standard = { flush_ms: 50, retry_ms: 20, retry_max_ms: 40, heartbeat_ms: 100, node: 'mta1', spool: false };
  return readOptions({ ...standard, ...config }, {}).options;
}

function sender(t, config, given = {}) {
  const said = [];
  const log = (level, text) => said.push(`${level} ${text}`);
  const made = new Sender({ options: quick(config), source: 'zonemta', role: 'sender', version: '0', log, ...given });
  made.said = said;
  t.after(() => made.close());
  return made;
}

/** Files below a folder, by path. */
function files(root) {
  return fs
    .readdirSync(root, { withFileTypes: true })
    .flatMap((one) => (one.isDirectory() ? files(path.join(root, one.name)) : [path.join(root, one.name)]))
    .sort();
}

/** Resolves once the condition holds; looked at between turns of the event loop. */
async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

module.exports = { folder, quick, sender, files, until };
