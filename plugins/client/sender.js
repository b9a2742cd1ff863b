/**
 * Takes events, numbers them, and posts them to ingest in the background.
 *
 * Nothing here throws into the MTA, waits for anything in `push`, or keeps the process alive. Events
 * leave memory when ingest has acknowledged them or when they are on disk: after a failed post, when
 * memory is half full, and when the process ends.
 */
'use strict';

const crypto = require('crypto');
const path = require('path');
const { Backoff } = require('./backoff');
const { Heartbeat } = require('./heartbeat');
const { onEnd } = require('./end');
const { Poster, DONE, RETRY, TOO_LARGE, UNUSABLE } = require('./post');
const { Queue, runLength } = require('./queue');
const { sayer } = require('./say');
const { Spool } = require('./spool');

const BATCH = '/api/v1/email-events/batch';
const ADOPT_EVERY_MS = 30 * 1000;

class Sender {
  /**
   * @param {object} given
   * @param {import('./options').Options} given.options
   * @param {string} given.source `zonemta` or `haraka`.
   * @param {string} given.role What this process is in its MTA.
   * @param {string} given.version Of the plugin.
   * @param {(level: 'info'|'warn'|'error', text: string) => void} given.log
   * @param {() => void} [given.beforeSave] Called before events are saved at the end: the last
   *   chance to push.
   */
  constructor({ options, source, role, version, log, beforeSave = () => undefined }) {
    this.options = options;
    this.bootId = crypto.randomBytes(16).toString('hex');
    this.say = sayer(log);
    this.beforeSave = beforeSave;
    this.last = 0;
    this.dropped = 0;
    this.rejected = 0;
    this.queue = new Queue();
    /** @type {import('./segment').Item[]} What is being posted from memory. */
    this.posting = [];
    /** @type {import('./segment').Item[]} What is being written to disk. */
    this.saving = [];
    this.segment = null;
    this.batchEvents = options.batch_events;
    this.backoff = new Backoff(options.retry_ms, options.retry_max_ms);
    this.busy = false;
    this.away = false;
    this.closed = false;
    this.timer = null;
    this.timers = [];
    this.spool = this._opened(path.join(options.spool || '', source));
    this.poster = options.url === null ? null : new Poster({ ...options, url: options.url, source });
    if (this.poster !== null) this._start(role, version);
  }

  /** Events that are in memory or on disk. */
  get buffered() {
    const inMemory = this.queue.length + this.posting.length + this.saving.length;
    return inMemory + (this.spool === null ? 0 : this.spool.events);
  }

  /**
   * Takes an event.
   *
   * @param {Record<string, unknown>} event Fields as in docs/ingest.md; undefined ones are left out.
   */
  push(event) {
    if (this.poster === null || this.closed) return;
    try {
      this.queue.push({ n: this.last + 1, json: JSON.stringify(event) });
      this.last += 1;
      this._bound();
      if (this.queue.length >= this.batchEvents && !this.busy && !this.away) this._wake(0);
    } catch (err) {
      this.say('push', 'error', `an event could not be taken: ${err.message}`);
    }
  }

  /** Writes what is in memory to disk, at once, for a process that is about to end. */
  save() {
    try {
      this.beforeSave();
      const items = [...this.saving, ...this.posting, ...this.queue.all()];
      if (this.spool === null || items.length === 0) return;
      this.spool.writeSync(items);
      this.saving = [];
      this.posting = [];
      this.queue.takeAll();
    } catch (err) {
      this.say('save', 'error', `events could not be saved: ${err.code || err.message}`);
    }
  }

  /** Saves what is left and ends. */
  close() {
    if (this.closed) return;
    this.save();
    this.closed = true;
    const left = this.queue.length + this.posting.length + this.saving.length;
    if (left > 0) this._lost(left, 'the process ends and they could not be saved');
    clearTimeout(this.timer);
    for (const timer of this.timers) clearInterval(timer);
    if (this.forget) this.forget();
    if (this.poster !== null) this.poster.close();
    if (this.spool !== null) this.spool.closeSync();
  }

  _start(role, version) {
    const { node, heartbeat_ms: everyMs } = this.options;
    const heartbeat = new Heartbeat(this.poster, { node, role, version, boot_id: this.bootId });
    const beat = () => heartbeat.beat({ last_seq: this.last, buffered: this.buffered, dropped_total: this.dropped });
    const adopt = () => this.spool !== null && this.spool.adopt().then(() => this._wakeFor(), () => undefined);
    this.timers.push(setInterval(beat, everyMs), setInterval(adopt, ADOPT_EVERY_MS));
    for (const timer of this.timers) timer.unref();
    this.forget = onEnd({ save: () => this.save(), close: () => this.close() });
    adopt();
    beat();
    this._wake(this.options.flush_ms);
  }

  _opened(folder) {
    if (this.options.spool === null || this.options.url === null) return null;
    const lost = (count, why) => this._lost(count, why);
    const { bootId, options } = this;
    const spool = new Spool({ folder, maxBytes: options.spool_bytes, bootId, lost });
    try {
      spool.open();
      return spool;
    } catch (err) {
      const text = `spool ${folder} cannot be used (${err.code}): events are kept in memory only`;
      this.say('spool', 'warn', text);
      return null;
    }
  }

  _wake(ms) {
    if (this.closed) return;
    clearTimeout(this.timer);
    const failed = (err) => this.say('pump', 'error', `posting failed: ${err.code || err.message}`);
    this.timer = setTimeout(() => this._pump().catch(failed), ms);
    this.timer.unref();
  }

  /** Wakes for events that were found on disk. */
  _wakeFor() {
    if (!this.busy && !this.away && this.spool !== null && this.spool.events > 0) this._wake(0);
  }

  /** Posts all there is, or until a post fails. */
  async _pump() {
    if (this.busy || this.closed) return;
    this.busy = true;
    let waitMs = this.options.flush_ms;
    try {
      let batch = await this._next();
      while (batch !== null && !this.closed) {
        const failedMs = await this._post(batch);
        if (failedMs > 0) {
          waitMs = failedMs;
          break;
        }
        batch = await this._next();
      }
    } catch (err) {
      waitMs = this.backoff.failed();
      this.say('pump', 'error', `posting failed: ${err.code || err.message}`);
    }
    this.away = this.backoff.failures > 0;
    this.busy = false;
    if (this.away) await this._spill();
    this._wake(waitMs);
  }

  /** Returns the next events to post: those on disk are the oldest. */
  async _next() {
    const { batch_bytes: maxBytes } = this.options;
    if (this.segment === null && this.spool !== null && this.spool.events > 0) {
      this.segment = await this.spool.read();
    }
    if (this.segment !== null) {
      const { items, bootId } = this.segment;
      return { bootId, items: items.slice(0, runLength(items, 0, this.batchEvents, maxBytes)) };
    }
    if (this.posting.length === 0) this.posting = this.queue.takeRun(this.batchEvents, maxBytes);
    const items = this.posting.slice(0, runLength(this.posting, 0, this.batchEvents, maxBytes));
    return items.length > 0 ? { bootId: this.bootId, items } : null;
  }

  /** Posts a batch, in halves where it must be; returns how long to wait if that failed, else 0. */
  async _post({ bootId, items }) {
    const left = [items];
    while (left.length > 0 && !this.closed) {
      const some = left.pop();
      const numbers = `${some[0].n}-${some[some.length - 1].n}`;
      const body = `{"events":[${some.map(({ json }) => json).join(',')}]}`;
      const headers = { 'X-Boot-Id': bootId, 'X-Numbers': numbers };
      const outcome = await this.poster.post(BATCH, body, headers);
      if (outcome.verdict === DONE) {
        this._answered(outcome);
        await this._done(some);
      } else if (outcome.verdict === TOO_LARGE || outcome.verdict === UNUSABLE) {
        await this._refused(outcome, some, left);
      } else {
        return this._failed(outcome);
      }
    }
    return 0;
  }

  _answered({ rejected }) {
    if (this.backoff.failures > 0) {
      this.say('back', 'info', `ingest takes events again; ${this.buffered} were waiting`);
    }
    this.backoff.succeeded();
    this.away = false;
    this.rejected += rejected.length;
    for (const error of new Set(rejected.map((one) => one.error))) {
      const count = rejected.filter((one) => one.error === error).length;
      this.say(`rejected ${error}`, 'warn', `ingest rejected ${count} of the events posted: ${error}`);
    }
  }

  async _refused({ verdict, said }, items, left) {
    if (items.length === 1) {
      this._lost(1, `ingest refused it (${said})`);
      await this._done(items);
      return;
    }
    const half = Math.ceil(items.length / 2);
    if (verdict === TOO_LARGE && half < this.batchEvents) {
      this.batchEvents = half;
      this.say('large', 'warn', `ingest finds posts too large: at most ${half} events each from now on`);
    }
    left.push(items.slice(half), items.slice(0, half));
  }

  _failed({ verdict, said, retryAfterMs }) {
    if (verdict === RETRY) {
      this.say('away', 'warn', `ingest is away (${said}); ${this.buffered} events wait`);
    } else {
      const text = `ingest refuses what is posted (${said}): look at url and api_key; ${this.buffered} events wait`;
      this.say('config', 'error', text);
    }
    return this.backoff.failed(retryAfterMs);
  }

  /** These events, the oldest of their batch, are over and done with. */
  async _done(items) {
    if (this.segment === null) {
      this.posting = this.posting.slice(items.length);
      return;
    }
    const { name } = this.segment;
    this.segment.items = this.segment.items.slice(items.length);
    this.spool.took(name, items.length);
    if (this.segment.items.length === 0) {
      this.segment = null;
      await this.spool.remove(name);
    }
  }

  /** Keeps memory within its limits: to disk from half of them on, the oldest go at the limit. */
  _bound() {
    const { memory_events: maxEvents, memory_bytes: maxBytes } = this.options;
    const over = (share) => this.queue.length > maxEvents * share || this.queue.bytes > maxBytes * share;
    if (over(0.5) && this.spool !== null && this.saving.length === 0) this._spill();
    while (this.queue.length > 1 && over(1)) {
      this.queue.shift();
      this._lost(1, 'memory is full');
    }
  }

  /** Moves what is in memory to disk; it stays if the disk refuses. Never rejects. */
  async _spill() {
    if (this.spool === null || this.saving.length > 0 || this.closed) return;
    this.saving = [...(this.busy ? [] : this.posting), ...this.queue.takeAll()];
    if (!this.busy) this.posting = [];
    const items = this.saving;
    if (items.length === 0) return;
    try {
      await this.spool.write(items);
    } catch (err) {
      this.say('disk', 'warn', `the spool cannot be written (${err.code}): events stay in memory`);
      if (this.saving === items) this._restore(items);
    }
    if (this.saving === items) this.saving = [];
  }

  /** Puts events back before those that came later. */
  _restore(items) {
    const later = this.queue.takeAll();
    for (const item of [...items, ...later]) this.queue.push(item);
  }

  _lost(count, why) {
    this.dropped += count;
    this.say(`lost ${why}`, 'error', `${count} events given up: ${why}`);
  }
}

module.exports = { Sender };
