/** Log lines that repeat are held back: one a minute of each kind, saying how many there were. */
'use strict';

const EVERY_MS = 60 * 1000;

/**
 * @param {(level: 'info'|'warn'|'error', text: string) => void} log May throw: it is the MTA's.
 * @returns {(kind: string, level: 'info'|'warn'|'error', text: string) => void}
 */
function sayer(log) {
  /** @type {Map<string, {until: number, held: number}>} */
  const kinds = new Map();
  return (kind, level, text) => {
    try {
      const now = Date.now();
      const last = kinds.get(kind);
      if (last !== undefined && now < last.until) {
        last.held += 1;
        return;
      }
      const held = last !== undefined && last.held > 0 ? ` (and ${last.held} more like this)` : '';
      kinds.set(kind, { until: now + EVERY_MS, held: 0 });
      log(level, text + held);
    } catch {
      // a log that fails must not reach the mail
    }
  };
}

module.exports = { sayer };
