/** One POST to ingest, and what its answer asks for. */
'use strict';

const http = require('http');
const https = require('https');
const zlib = require('zlib');

const PACK_OVER = 1024;
const LONGEST_ANSWER = 1 << 20;

/** What to do with the events of a post. */
const DONE = 'done';
/** Post them again later: ingest or the network is away. */
const RETRY = 'retry';
/** Post them again later, and tell the operator: the configuration is wrong. */
const MISCONFIGURED = 'misconfigured';
/** Post less at once. */
const TOO_LARGE = 'too_large';
/** Something in the body is unusable: find it. */
const UNUSABLE = 'unusable';

const UNUSABLE_ERRORS = new Set([
  'malformed',
  'missing_field',
  'invalid_field',
  'unknown_event_type',
  'reserved_value',
]);

/**
 * @typedef {object} Outcome
 * @property {string} verdict One of the words above.
 * @property {string} said Status and error, free of values.
 * @property {number} [retryAfterMs]
 * @property {Array<{index: number, error: string}>} [rejected]
 */

class Poster {
  /**
   * @param {object} options
   * @param {string} options.url Base address.
   * @param {string} options.api_key
   * @param {string} options.source Value of X-Source.
   * @param {number} options.timeout_ms For a whole exchange.
   */
  constructor({ url, api_key: apiKey, source, timeout_ms: timeoutMs }) {
    this.url = url;
    this.timeoutMs = timeoutMs;
    this.headers = { 'Content-Type': 'application/json', 'X-Source': source };
    if (apiKey) this.headers['X-API-Key'] = apiKey;
    this.transport = url.startsWith('https:') ? https : http;
    this.agent = new this.transport.Agent({ keepAlive: true, maxSockets: 2 });
  }

  /**
   * Posts a body; never rejects.
   *
   * @param {string} path
   * @param {string} json
   * @param {Record<string, string>} [headers]
   * @returns {Promise<Outcome>}
   */
  async post(path, json, headers = {}) {
    try {
      const packed = Buffer.byteLength(json) > PACK_OVER;
      const body = packed ? await gzip(json) : Buffer.from(json);
      const all = { ...this.headers, ...headers, 'Content-Length': String(body.length) };
      if (packed) all['Content-Encoding'] = 'gzip';
      return outcomeOf(await this._exchange(path, body, all));
    } catch (err) {
      return { verdict: RETRY, said: (err && err.code) || 'no answer' };
    }
  }

  close() {
    this.agent.destroy();
  }

  _exchange(path, body, headers) {
    return new Promise((resolve, reject) => {
      const request = this.transport.request(this.url + path, {
        method: 'POST',
        headers,
        agent: this.agent,
      });
      const deadline = setTimeout(() => request.destroy(timedOut()), this.timeoutMs);
      deadline.unref();
      const settle = (finish, value) => {
        clearTimeout(deadline);
        finish(value);
      };
      request.on('socket', (socket) => socket.unref());
      request.on('error', (err) => settle(reject, err));
      request.on('response', (response) => {
        readAnswer(response).then(
          (text) => settle(resolve, { status: response.statusCode, headers: response.headers, text }),
          (err) => settle(reject, err)
        );
      });
      request.end(body);
    });
  }
}

function timedOut() {
  return Object.assign(new Error('no answer in time'), { code: 'ETIMEDOUT' });
}

function gzip(json) {
  return new Promise((resolve, reject) => {
    zlib.gzip(json, { level: 1 }, (err, packed) => (err ? reject(err) : resolve(packed)));
  });
}

function readAnswer(response) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    let length = 0;
    response.on('data', (chunk) => {
      length += chunk.length;
      if (length <= LONGEST_ANSWER) chunks.push(chunk);
    });
    response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    response.on('error', reject);
    response.on('aborted', () => reject(new Error('aborted')));
  });
}

/** @returns {Outcome} */
function outcomeOf({ status, headers, text }) {
  const answer = parsed(text);
  const error = typeof answer.error === 'string' ? answer.error.slice(0, 64) : '';
  const said = error ? `${status} ${error}` : String(status);
  if (status === 202) {
    return { verdict: DONE, said, rejected: rejections(answer.rejected) };
  }
  if (status === 413) return { verdict: TOO_LARGE, said };
  if (status === 400 && UNUSABLE_ERRORS.has(error)) return { verdict: UNUSABLE, said };
  const later = status === 408 || status === 429 || status >= 500;
  return {
    verdict: later ? RETRY : MISCONFIGURED,
    said,
    retryAfterMs: retryAfterMs(headers['retry-after']),
  };
}

function parsed(text) {
  try {
    const answer = JSON.parse(text);
    return answer && typeof answer === 'object' ? answer : {};
  } catch {
    return {};
  }
}

function rejections(list) {
  if (!Array.isArray(list)) return [];
  return list
    .filter((item) => item && typeof item === 'object')
    .map(({ index, error }) => ({ index: Number(index), error: String(error).split(':')[0].slice(0, 64) }));
}

/** Reads both forms of Retry-After (RFC 9110, 10.2.3): seconds or a date. */
function retryAfterMs(value) {
  if (!value) return 0;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) && ms > 0 ? ms : 0;
}

module.exports = { Poster, DONE, RETRY, MISCONFIGURED, TOO_LARGE, UNUSABLE };
