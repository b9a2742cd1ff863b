/**
 * One file of a spool: a line about the process that numbered the events, then a line per event,
 * `<number> <event as JSON>`. A line that a crash cut off, or that was damaged, is left out.
 */
'use strict';

/**
 * An event that waits.
 *
 * @typedef {object} Item
 * @property {number} n Its number, counted from 1 in each boot.
 * @property {string} json
 */

/**
 * @param {string} bootId
 * @returns {string}
 */
function header(bootId) {
  return `${JSON.stringify({ boot_id: bootId })}\n`;
}

/**
 * @param {Item[]} items
 * @returns {string}
 */
function lines(items) {
  return items.map(({ n, json }) => `${n} ${json}\n`).join('');
}

/**
 * Returns what a segment holds.
 *
 * @param {string} text
 * @returns {{ bootId: string|null, items: Item[], damaged: number }}
 */
function parse(text) {
  const all = text.split('\n');
  const cutOff = all.pop() ? 1 : 0;
  const bootId = bootOf(all.shift());
  const items = all.map(itemOf).filter((item) => item !== null);
  return { bootId, items, damaged: cutOff + all.length - items.length };
}

function bootOf(line) {
  try {
    const { boot_id: bootId } = JSON.parse(line);
    return typeof bootId === 'string' && /^[\x21-\x7e]{1,64}$/.test(bootId) ? bootId : null;
  } catch {
    return null;
  }
}

function itemOf(line) {
  const space = line.indexOf(' ');
  const n = Number(line.slice(0, space));
  const json = line.slice(space + 1);
  try {
    JSON.parse(json);
  } catch {
    return null;
  }
  return space > 0 && Number.isSafeInteger(n) && n > 0 ? { n, json } : null;
}

module.exports = { header, lines, parse };
