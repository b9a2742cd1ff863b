/** Ids of events: the same event has the same id, however often it is told. */
'use strict';

const crypto = require('crypto');

/**
 * Returns the id of an event as 32 hex digits.
 *
 * @param {Array<string|number|undefined|null>} parts What makes the event unique.
 * @param {string} [key] A secret. With it, nobody can test a guessed part against the id.
 * @returns {string}
 */
function eventId(parts, key = '') {
  const text = JSON.stringify(parts.map((part) => (part === undefined || part === null ? '' : String(part))));
  return crypto.createHmac('sha256', key).update(text).digest('hex').slice(0, 32);
}

module.exports = { eventId };
