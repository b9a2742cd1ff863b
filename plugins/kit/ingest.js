/** A small ingest for tests: a real HTTP server that keeps what is posted, and answers as told. */
'use strict';

const http = require('http');
const zlib = require('zlib');

class Ingest {
  constructor() {
    /** Posts in order: { path, headers, packed, events or body }. */
    this.posts = [];
    /** Answers to come, first one first; then 202. Each { status, headers, body }, 'hang up' or 'never'. */
    this.answers = [];
    this.waiting = [];
    this.server = http.createServer((request, response) => this._take(request, response));
  }

  async start(port = 0) {
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}`;
    return this;
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  get batches() {
    return this.posts.filter(({ path }) => path === '/api/v1/email-events/batch');
  }

  get beats() {
    return this.posts.filter(({ path }) => path === '/api/v1/nodes').map(({ body }) => body);
  }

  /** Events of the posts that were answered with 202. */
  get events() {
    return this.batches.filter(({ status }) => status === 202).flatMap(({ body }) => body.events);
  }

  /** Resolves once the condition holds; it is looked at after every post. */
  until(condition) {
    if (condition(this)) return Promise.resolve();
    return new Promise((resolve) => this.waiting.push({ condition, resolve }));
  }

  async _take(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const packed = request.headers['content-encoding'] === 'gzip';
    const bytes = packed ? zlib.gunzipSync(Buffer.concat(chunks)) : Buffer.concat(chunks);
    const body = JSON.parse(bytes.toString('utf8'));
    const isBatch = request.url.endsWith('/batch');
    const answer = (isBatch && this.answers.shift()) || {};
    const post = { path: request.url, headers: request.headers, packed, body, status: answer.status || 202 };
    this.posts.push(post);
    if (answer === 'hang up') {
      post.status = 0;
      request.socket.destroy();
    } else if (answer === 'never') {
      post.status = 0;
    } else {
      const accepted = { accepted: isBatch ? body.events.length : 1, rejected: [] };
      response.writeHead(post.status, { 'Content-Type': 'application/json', ...answer.headers });
      response.end(JSON.stringify(answer.body || accepted));
    }
    this.waiting = this.waiting.filter(({ condition, resolve }) => {
      const holds = condition(this);
      if (holds) resolve();
      return !holds;
    });
  }
}

module.exports = { Ingest };
