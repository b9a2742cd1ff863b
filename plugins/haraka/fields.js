/** Fields of events from Haraka's objects, in forms that ingest takes. */
'use strict';

const net = require('net');

/**
 * Returns the address of an `Address`: a function in Haraka 3.1, a property in 3.3. The empty one,
 * a DSN's sender, is ''.
 *
 * @param {any} given
 * @returns {string|undefined}
 */
function addressOf(given) {
  if (given === undefined || given === null) return undefined;
  const address = typeof given.address === 'function' ? given.address() : given.address;
  if (typeof address === 'string') return address;
  return given.user ? `${given.user}@${given.host}` : '';
}

/** Returns the fields of a recipient. */
function recipient(given) {
  const address = addressOf(given);
  const at = address ? address.lastIndexOf('@') : -1;
  return { to: text(address, 320), to_domain: at < 0 ? undefined : text(address.slice(at + 1), 255) };
}

/** Returns the fields of an envelope sender; none if it is not known yet. */
function envelopeSender(given) {
  const from = addressOf(given);
  return { from_address: from === '' ? '' : text(from, 320), is_dsn: from === '' ? true : undefined };
}

/** Half of a surrogate pair, as a cut may leave it: no JSON parser need take it. */
const HALF_PAIR = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Returns a text that ingest takes, or undefined: an event must not fail for one odd field. */
function text(value, most) {
  if (value === undefined || value === null || value === false) return undefined;
  // eslint-disable-next-line no-control-regex
  const cut = String(value).replace(/[\x00-\x1f]+/g, ' ').trim().slice(0, most);
  return cut.replace(HALF_PAIR, '\ufffd') || undefined;
}

function ip(value) {
  return net.isIP(value || '') ? value : undefined;
}

/** Returns a count, a size or a reply code, also from a text. */
function whole(value) {
  const number = Number(value);
  return value !== null && value !== '' && Number.isInteger(number) && number >= 0 ? number : undefined;
}

module.exports = { addressOf, recipient, envelopeSender, text, ip, whole };
