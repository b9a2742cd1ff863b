/**
 * Events on disk: append-only segments in a folder of this process's own, oldest first.
 *
 * What a process that has ended left behind is taken over by whoever finds it: a rename, which only
 * one process can win. Every write ends with fsync.
 */
'use strict';

const fs = require('fs');
const path = require('path');
const { isAlive, ownName } = require('./owner');
const segment = require('./segment');

const SEGMENT_BYTES = 1 << 20;
const SUFFIX = '.jsonl';

class Spool {
  /**
   * @param {object} options
   * @param {string} options.folder Shared by all processes of one source on this machine.
   * @param {number} options.maxBytes Of this process; the oldest segment goes when it is reached.
   * @param {string} options.bootId
   * @param {(count: number, why: string) => void} options.lost Told of events that are gone.
   * @param {(name: string) => boolean} [options.alive] Tells whether a folder's process still runs.
   */
  constructor({ folder, maxBytes, bootId, lost, alive = isAlive }) {
    this.root = folder;
    this.folder = path.join(folder, ownName(bootId));
    this.maxBytes = maxBytes;
    this.bootId = bootId;
    this.lost = lost;
    this.alive = alive;
    /** @type {Map<string, {bytes: number, events: number}>} */
    this.segments = new Map();
    this.current = null;
    this.reading = null;
    this.made = 0;
    this.turn = Promise.resolve();
  }

  /** Events that wait here. */
  get events() {
    let sum = 0;
    for (const { events } of this.segments.values()) sum += events;
    return sum;
  }

  /** Makes the folder. Throws if it can't. */
  open() {
    fs.mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    fs.accessSync(this.folder, fs.constants.W_OK);
  }

  /**
   * Appends events and makes them durable. Rejects if the disk refuses.
   *
   * @param {import('./segment').Item[]} items
   */
  write(items) {
    return this._inTurn(async () => {
      for (const part of parts(items)) {
        const { name, text } = this._prepared(part);
        await this._append(name, text);
        this._added(name, text, part.length);
      }
      for (const name of this._surplus()) await this._drop(name);
    });
  }

  /**
   * The same at once, for a process that ends. It begins a segment: another write may be under way.
   *
   * @param {import('./segment').Item[]} items
   */
  writeSync(items) {
    this.current = null;
    for (const part of parts(items)) {
      const { name, text } = this._prepared(part);
      const file = fs.openSync(path.join(this.folder, name), 'a', 0o600);
      try {
        fs.writeSync(file, text);
        fs.fdatasyncSync(file);
      } finally {
        fs.closeSync(file);
      }
      this._added(name, text, part.length);
    }
    this.current = null;
  }

  /**
   * Returns the oldest segment, which nobody appends to any more, or null.
   *
   * @returns {Promise<{name: string, bootId: string, items: import('./segment').Item[]}|null>}
   */
  read() {
    return this._inTurn(async () => {
      for (const name of [...this.segments.keys()].sort()) {
        if (name === this.current) this.current = null;
        const known = this.segments.get(name);
        const text = await this._textOf(name);
        const { bootId, items, damaged } = segment.parse(text);
        if (bootId !== null && items.length > 0) {
          if (damaged > 0) this.lost(Math.max(0, known.events - items.length), 'damaged on disk');
          known.events = items.length;
          this.reading = name;
          return { name, bootId, items };
        }
        await this._drop(name, 'damaged on disk');
      }
      return null;
    });
  }

  /** A file that is gone is empty; any other error may pass, and rejects. */
  async _textOf(name) {
    try {
      return await fs.promises.readFile(path.join(this.folder, name), 'utf8');
    } catch (err) {
      if (err.code === 'ENOENT') return '';
      throw err;
    }
  }

  /** Some events of the segment that is read are done. */
  took(name, count) {
    const known = this.segments.get(name);
    if (known) known.events = Math.max(0, known.events - count);
  }

  /** All events of a segment are done. */
  remove(name) {
    return this._inTurn(async () => {
      this.segments.delete(name);
      if (this.reading === name) this.reading = null;
      await fs.promises.unlink(path.join(this.folder, name)).catch(() => undefined);
    });
  }

  /** Takes over what ended processes left. */
  adopt() {
    return this._inTurn(async () => {
      const folders = await fs.promises.readdir(this.root).catch(() => []);
      for (const name of folders) {
        if (/^\d+-/.test(name) && !this.alive(name)) await this._adoptFolder(path.join(this.root, name));
      }
      for (const name of this._surplus()) await this._drop(name);
    });
  }

  /** Removes the folder if nothing is in it. */
  closeSync() {
    try {
      fs.rmdirSync(this.folder);
    } catch {
      // it holds events, or is gone
    }
  }

  async _append(name, text) {
    try {
      const file = await fs.promises.open(path.join(this.folder, name), 'a', 0o600);
      try {
        await file.appendFile(text);
        await file.datasync();
      } finally {
        await file.close();
      }
    } catch (err) {
      this.current = null; // its last line may be half written
      throw err;
    }
  }

  async _adoptFolder(folder) {
    if (folder === this.folder) return;
    const names = await fs.promises.readdir(folder).catch(() => []);
    for (const name of names.filter((one) => one.endsWith(SUFFIX))) {
      const mine = path.join(this.folder, name);
      try {
        await fs.promises.rename(path.join(folder, name), mine);
        const text = await fs.promises.readFile(mine, 'latin1');
        this.segments.set(name, { bytes: text.length, events: Math.max(0, text.split('\n').length - 2) });
      } catch {
        // another process was faster, or may not touch it
      }
    }
    await fs.promises.rmdir(folder).catch(() => undefined);
  }

  /** Returns where the next events go, and their text: a new segment begins with its header. */
  _prepared(items) {
    const known = this.current === null ? undefined : this.segments.get(this.current);
    if (known !== undefined && known.bytes < SEGMENT_BYTES) {
      return { name: this.current, text: segment.lines(items) };
    }
    this.made += 1;
    const time = String(Date.now()).padStart(14, '0');
    this.current = `${time}-${this.bootId.slice(0, 8)}-${String(this.made).padStart(8, '0')}${SUFFIX}`;
    return { name: this.current, text: segment.header(this.bootId) + segment.lines(items) };
  }

  _added(name, text, events) {
    const known = this.segments.get(name) || { bytes: 0, events: 0 };
    known.bytes += Buffer.byteLength(text);
    known.events += events;
    this.segments.set(name, known);
  }

  /** Returns the oldest segments that are too much, never the one that is read or written. */
  _surplus() {
    let bytes = 0;
    for (const known of this.segments.values()) bytes += known.bytes;
    const names = [];
    for (const name of [...this.segments.keys()].sort()) {
      if (bytes <= this.maxBytes) break;
      if (name !== this.reading && name !== this.current) {
        bytes -= this.segments.get(name).bytes;
        names.push(name);
      }
    }
    return names;
  }

  async _drop(name, why = 'no room on disk') {
    const known = this.segments.get(name);
    this.segments.delete(name);
    await fs.promises.unlink(path.join(this.folder, name)).catch(() => undefined);
    if (known && known.events > 0) this.lost(known.events, why);
  }

  /** One thing after the other: segments are read, written and dropped by several tasks. */
  _inTurn(task) {
    const result = this.turn.then(task);
    this.turn = result.catch(() => undefined);
    return result;
  }
}

/** Cuts events into parts of about a segment. */
function parts(items) {
  const all = [];
  let bytes = Infinity;
  for (const item of items) {
    if (bytes >= SEGMENT_BYTES) {
      all.push([]);
      bytes = 0;
    }
    all[all.length - 1].push(item);
    bytes += item.json.length;
  }
  return all;
}

module.exports = { Spool };
