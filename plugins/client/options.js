/** The settings that both plugins share, from their configuration or the environment. */
'use strict';

const os = require('os');

const SPOOL = '/var/spool/mailstream';
const ROUTES = /\/+(?:api\/v1\/email-events(?:\/batch)?\/*)?$/;

/** Number settings: default, least, most. */
const NUMBERS = {
  flush_ms: [5000, 50, 600000],
  batch_events: [500, 1, 10000],
  batch_bytes: [1 << 20, 1 << 10, 8 << 20],
  memory_events: [10000, 1, 1000000],
  memory_bytes: [16 << 20, 1 << 16, 1 << 30],
  spool_bytes: [256 << 20, 1 << 16, 2 ** 40],
  timeout_ms: [15000, 100, 300000],
  retry_ms: [1000, 10, 600000],
  retry_max_ms: [60000, 10, 3600000],
  heartbeat_ms: [15000, 50, 600000],
  hold_ms: [5000, 0, 60000],
};

/**
 * @typedef {object} Options
 * @property {string|null} url Base address of ingest, without a slash at its end; null: none.
 * @property {string} api_key Empty: none.
 * @property {string} node Name of this MTA.
 * @property {string|null} spool Folder for what cannot be posted; null: memory only.
 * @property {number} flush_ms
 * @property {number} batch_events
 * @property {number} batch_bytes
 * @property {number} memory_events
 * @property {number} memory_bytes
 * @property {number} spool_bytes
 * @property {number} timeout_ms
 * @property {number} retry_ms
 * @property {number} retry_max_ms
 * @property {number} heartbeat_ms
 * @property {number} hold_ms
 */

/**
 * Returns the settings, and a sentence for each that was unusable and is replaced by its default.
 *
 * @param {unknown} config The plugin's section as its MTA read it.
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {{ options: Options, mistakes: string[] }}
 */
function readOptions(config, env = process.env) {
  const given = config && typeof config === 'object' ? config : {};
  /** @type {string[]} */
  const mistakes = [];
  const text = (name, variable) => {
    const value = given[name];
    return value === undefined || value === null || value === '' ? env[variable] || '' : String(value);
  };
  const options = {
    url: readUrl(text('url', 'DASHBOARD_URL'), mistakes),
    api_key: text('api_key', 'DASHBOARD_API_KEY'),
    node: text('node', 'MTA_NODE_ID') || os.hostname(),
    spool: given.spool === false || given.spool === 'false' ? null : String(given.spool || SPOOL),
  };
  if (/[^\x20-\x7e]/.test(options.api_key)) {
    mistakes.push('api_key has characters that no HTTP header can hold: it is left out');
    options.api_key = '';
  }
  for (const [name, [standard, least, most]] of Object.entries(NUMBERS)) {
    const value = given[name] === undefined || given[name] === '' ? standard : Number(given[name]);
    const usable = Number.isInteger(value) && value >= least && value <= most;
    if (!usable) {
      mistakes.push(`${name} is not a whole number from ${least} to ${most}: ${standard} is used`);
    }
    options[name] = usable ? value : standard;
  }
  return { options, mistakes };
}

function readUrl(value, mistakes) {
  if (!value) {
    mistakes.push('url is not set (nor DASHBOARD_URL): no event will be posted');
    return null;
  }
  try {
    const url = new URL(value);
    if (url.protocol === 'http:' || url.protocol === 'https:') {
      return (url.origin + url.pathname).replace(ROUTES, '');
    }
  } catch {
    // said below
  }
  mistakes.push('url is no http or https address: no event will be posted');
  return null;
}

module.exports = { readOptions };
