/**
 * Brings together what two hooks tell of one attempt to deliver.
 *
 * `sender:responseError` runs before the attempt is logged as DEFERRED or REJECTED. ACCEPTED is logged
 * before `sender:delivered` runs, which waits for the queue to let the mail go: such an entry is held
 * for a moment, and goes without the facts if they do not come.
 */
'use strict';

const MOST = 10000;

class Join {
  /**
   * @param {(entry: any, facts: any, at: number) => void} emit
   * @param {number} holdMs How long an ACCEPTED waits for its facts.
   */
  constructor(emit, holdMs) {
    this.emit = emit;
    this.holdMs = holdMs;
    /** @type {Map<string, {entry: any, at: number}>} Entries that wait for facts. */
    this.held = new Map();
    /** @type {Map<string, any>} Facts that wait for their entry. */
    this.known = new Map();
    this.timer = setInterval(() => this._release(Date.now() - holdMs), Math.max(100, holdMs / 5));
    this.timer.unref();
  }

  /**
   * An entry of ZoneMTA's log.
   *
   * @param {any} entry
   * @param {number} at When, in ms.
   */
  entry(entry, at) {
    const key = keyOf(entry);
    const facts = this.known.get(key);
    this.known.delete(key);
    if (entry.action !== 'ACCEPTED' || facts !== undefined) {
      this.emit(entry, facts, at);
      return;
    }
    this.held.set(key, { entry: { ...entry }, at });
    if (this.held.size > MOST) this._let(this.held.keys().next().value, undefined);
  }

  /**
   * What is known of the attempt that is, or was just, logged.
   *
   * @param {any} delivery
   * @param {any} facts
   */
  facts(delivery, facts) {
    const key = keyOf(delivery);
    if (this.held.has(key)) {
      this._let(key, facts);
      return;
    }
    this.known.set(key, facts);
    if (this.known.size > MOST) this.known.delete(this.known.keys().next().value);
  }

  /** Lets all entries go. */
  release() {
    this._release(Infinity);
  }

  _release(until) {
    for (const [key, { at }] of this.held) {
      if (at > until) break;
      this._let(key, undefined);
    }
  }

  _let(key, facts) {
    const { entry, at } = this.held.get(key);
    this.held.delete(key);
    this.emit(entry, facts, at);
  }
}

function keyOf({ id, seq }) {
  return `${id}.${seq || ''}`;
}

module.exports = { Join };
