/** Events in memory, oldest first, bounded in number and bytes. */
'use strict';

class Queue {
  constructor() {
    /** @type {import('./segment').Item[]} */
    this.items = [];
    this.head = 0;
    this.bytes = 0;
  }

  get length() {
    return this.items.length - this.head;
  }

  push(item) {
    this.bytes += item.json.length;
    this.items.push(item);
  }

  shift() {
    const item = this.items[this.head];
    this.items[this.head] = undefined;
    this.head += 1;
    this.bytes -= item.json.length;
    if (this.head > 1024 && this.head * 2 > this.items.length) {
      this.items = this.items.slice(this.head);
      this.head = 0;
    }
    return item;
  }

  /** Returns all of them. */
  all() {
    return this.items.slice(this.head);
  }

  /** Takes all of them out. */
  takeAll() {
    const items = this.all();
    this.items = [];
    this.head = 0;
    this.bytes = 0;
    return items;
  }

  /** Takes out what fits into one post. */
  takeRun(maxEvents, maxBytes) {
    const count = runLength(this.items, this.head, maxEvents, maxBytes);
    const items = [];
    while (items.length < count) items.push(this.shift());
    return items;
  }
}

/**
 * Returns how many events from *start* on fit into one post: their numbers follow each other.
 *
 * @param {import('./segment').Item[]} items
 * @param {number} start
 * @param {number} maxEvents
 * @param {number} maxBytes One event fits, however large it is.
 * @returns {number}
 */
function runLength(items, start, maxEvents, maxBytes) {
  let count = 0;
  let bytes = 0;
  while (count < maxEvents && start + count < items.length) {
    const item = items[start + count];
    bytes += item.json.length;
    if (count > 0 && (bytes > maxBytes || item.n !== items[start + count - 1].n + 1)) break;
    count += 1;
  }
  return count;
}

module.exports = { Queue, runLength };
