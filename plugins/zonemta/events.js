/**
 * From an entry of ZoneMTA's log to an event as docs/ingest.md has it.
 *
 * What ZoneMTA did is the action, never the reply code: it bounces some 4xx and retries some 5xx.
 */
'use strict';

const net = require('net');
const { eventId } = require('mailstream-client');

const TYPES = {
  QUEUED: 'sent',
  ACCEPTED: 'delivered',
  DEFERRED: 'deferred',
  REJECTED: 'bounced',
  NOQUEUE: 'rejected',
  DROP: 'rejected',
  DELETED: 'rejected',
};
const ATTEMPTS = new Set(['ACCEPTED', 'DEFERRED', 'REJECTED']);
/** Half of a surrogate pair, as a cut may leave it: no JSON parser need take it. */
const HALF_PAIR = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
/** Recipients in a list with commas, which quoted locals may hold too. */
const ADDRESSES = /(?:"(?:[^"\\]|\\.)*"|[^,])+/g;

/**
 * What a hook knows of an attempt and the log does not say.
 *
 * @typedef {object} Facts
 * @property {string} [user]
 * @property {string} [interface] SMTP interface that took the mail.
 * @property {string} [client] Address that submitted it.
 * @property {number} [createdMs] When it was queued.
 * @property {string} [zoneAddress] Local address chosen for it, also if nothing was connected.
 * @property {number} [attempt]
 * @property {number} [smtpMs]
 * @property {string} [errorName] Node's name of an error, such as ECONNREFUSED.
 */

/**
 * Returns what *delivery* and the end of the attempt tell. Recipients are not taken from it:
 * `delivery.to` holds all recipients of the message.
 *
 * @param {any} delivery
 * @param {{info?: any, error?: any}} end
 * @returns {Facts}
 */
function deliveryFacts(delivery, { info, error }) {
  const address = delivery.zoneAddress || delivery.zoneAddressIPv4;
  const deferred = delivery._deferred;
  const smtpMs = info ? Number(info.envelopeTime) + Number(info.messageTime) : NaN;
  return {
    user: delivery.user,
    interface: delivery.interface,
    client: delivery.origin,
    createdMs: new Date(delivery.created || delivery.time).getTime(),
    zoneAddress: address && address.address,
    attempt: ((deferred && Number(deferred.count)) || 0) + 1,
    smtpMs,
    errorName: error && error.code,
  };
}

/**
 * Returns the event of an entry, or null for an entry that is none.
 *
 * @param {any} entry
 * @param {Facts|undefined} facts
 * @param {number} at When it was logged, in ms.
 * @param {string} node
 * @returns {Record<string, unknown>|null}
 */
function eventOf(entry, facts, at, node) {
  const type = Object.prototype.hasOwnProperty.call(TYPES, entry.action) ? TYPES[entry.action] : null;
  if (type === null) return null;
  const { id, seq, action, defcount } = entry;
  return {
    event_id: eventId(['zonemta', id, seq, action, defcount]),
    timestamp: new Date(at).toISOString(),
    event_type: type,
    mta_node: text(node, 255),
    queue_id: text(id, 255),
    seq: text(seq, 64),
    message_id: text(without(entry['message-id'] || entry.messageId, '<>'), 1000),
    ...senderOf(entry, facts || {}),
    ...(ATTEMPTS.has(action) ? attemptOf(entry, facts || {}, at) : messageOf(entry)),
  };
}

function senderOf(entry, facts) {
  const logged = entry.returnPath === undefined ? entry.from : entry.returnPath;
  const from = logged === undefined ? undefined : without(String(logged), '<>') || '';
  const via = entry.interface || facts.interface;
  return {
    // An empty sender is a DSN's; a missing one is not known.
    from_address: from === '' ? '' : text(from, 320),
    is_dsn: from === '' || via === 'bounce' || entry.zone === 'bounces' ? true : undefined,
    user: text(entry.user || facts.user, 320),
    client_ip: address(entry.src || facts.client),
    router: text(via, 255),
  };
}

/** Fields of one attempt to deliver to one recipient. */
function attemptOf(entry, facts, at) {
  const reply = String(entry.response || '');
  const code = /^\d{3}\b/.exec(reply);
  const delivered = entry.action === 'ACCEPTED';
  const waitedMs = facts.createdMs > 0 && at >= facts.createdMs ? at - facts.createdMs : undefined;
  return {
    to: text(entry.to, 320),
    to_domain: domain(entry.to),
    zone: text(entry.zone, 255),
    transport: text(entry.protocol, 255),
    sending_ip: address(entry.ip) || address(facts.zoneAddress),
    // Without a connection ZoneMTA logs the recipient's domain in place of the host.
    mx_host: entry.host && !net.isIP(entry.mx || '') ? text(entry.mx, 255) : undefined,
    mx_ip: address(entry.host),
    attempt: entry.defcount || facts.attempt,
    response_code: code ? Number(code[0]) : undefined,
    response_message: code || delivered ? text(reply, 16384) : undefined,
    error_message: code || delivered ? undefined : text(reply, 16384),
    error_code: delivered ? undefined : text((!code && facts.errorName) || entry.category, 255),
    size_bytes: count(entry.size),
    queue_time_ms: waitedMs,
    delivery_time_ms: delivered ? waitedMs : undefined,
    smtp_time_ms: count(facts.smtpMs),
  };
}

/** Fields of an entry about a message as ZoneMTA took it, refused it or let it go. */
function messageOf(entry) {
  if (entry.action === 'DELETED') return { error_code: 'deleted', error_message: text(entry.reason, 16384) };
  if (entry.recipient) {
    const reason = text(entry.reason, 16384);
    return { to: text(entry.recipient, 320), to_domain: domain(entry.recipient), error_code: 'suppressed', error_message: reason };
  }
  const recipients = String(without(entry.to, '<>') || '').match(ADDRESSES) || [];
  const domains = new Set(recipients.map(domain));
  const refused = entry.action !== 'QUEUED';
  const reply = String(entry.responseText || '');
  const code = /^\d{3}\b/.exec(reply);
  return {
    to: recipients.length === 1 ? text(recipients[0], 320) : undefined,
    to_domain: domains.size === 1 ? [...domains][0] : undefined,
    recipients: recipients.length || undefined,
    size_bytes: count(entry.body),
    spam_score: Number.isFinite(entry.score) ? entry.score : undefined,
    response_code: code ? Number(code[0]) : undefined,
    response_message: text(reply, 16384),
    error_code: refused ? entry.action.toLowerCase() : undefined,
    error_message: refused ? text(entry.error || entry.description, 16384) : undefined,
  };
}

/** Returns a text that ingest takes, or undefined: an event must not fail for one odd field. */
function text(value, most) {
  if (value === undefined || value === null || value === false) return undefined;
  // eslint-disable-next-line no-control-regex
  const cut = String(value).replace(/[\x00-\x1f]+/g, ' ').trim().slice(0, most);
  return cut.replace(HALF_PAIR, '\ufffd') || undefined;
}

function without(value, nothing) {
  return value === nothing ? undefined : value;
}

function domain(recipient) {
  const at = String(recipient || '').lastIndexOf('@');
  return at < 0 ? undefined : text(String(recipient).slice(at + 1).replace(/>$/, ''), 255);
}

function address(value) {
  const ip = String(value || '');
  return net.isIP(ip) && ip !== '0.0.0.0' && ip !== '::' ? ip : undefined;
}

function count(value) {
  return Number.isInteger(value) && value >= 0 ? value : undefined;
}

module.exports = { deliveryFacts, eventOf };
