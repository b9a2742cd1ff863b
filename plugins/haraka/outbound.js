/** Events of Haraka's own queue: each attempt to deliver, per recipient. */
'use strict';

const net = require('net');
const { eventId } = require('mailstream-client');
const { addressOf, envelopeSender, ip, recipient, text, whole } = require('./fields');

/**
 * Keeps what an outcome, perhaps days later, does not know any more: notes go into the queue file.
 *
 * @param {any} connection
 */
function remember(connection) {
  const { transaction, notes, remote } = connection;
  if (!transaction || !transaction.notes) return;
  transaction.notes.mailstream = {
    user: text(notes && notes.auth_user, 320),
    client_ip: ip(remote && remote.ip),
    message_id: text(transaction.header && transaction.header.get('message-id'), 1000),
    size_bytes: whole(transaction.data_bytes) || undefined,
  };
}

/**
 * What all events of an attempt share. Only a bounce knows which address mail was sent from (`bind` of
 * hook get_mx); for the rest there is a setting.
 */
function common(hmail, { at, sendingIp }, mx) {
  const { todo } = hmail;
  const [, queueId, seq] = /^(.*)\.(\d+)$/.exec(todo.uuid) || [null, todo.uuid, undefined];
  const queuedMs = whole(todo.queue_time);
  const known = (todo.notes && todo.notes.mailstream) || {};
  return {
    direction: 'outbound',
    ...envelopeSender(todo.mail_from),
    queue_id: text(queueId, 255),
    seq,
    ...known,
    sending_ip: ip((mx && mx.bind) || (todo.notes && todo.notes.outbound_ip) || sendingIp),
    queue_time_ms: queuedMs !== undefined && at >= queuedMs ? at - queuedMs : undefined,
  };
}

/**
 * Returns the id of an attempt. The queue file has a part: some recipients of a mail go on in a file of
 * their own, whose failures are counted from the beginning.
 */
function idOf(hmail, to, hook, key) {
  const parts = String(hmail.filename).split('_');
  const file = [parts[0], ...parts.slice(3)].join('_');
  return eventId(['haraka', hmail.todo.uuid, file, addressOf(to), hook, hmail.num_failures], key);
}

/** `delivered`. Haraka has taken the codes off the reply. */
function delivered(context, hmail, [host, peer, response, , , mode, recipients]) {
  const fields = common(hmail, context);
  return recipients.map((one) => ({
    event_id: idOf(hmail, one, 'delivered', context.key),
    event_type: 'delivered',
    ...fields,
    ...recipient(one),
    attempt: hmail.num_failures + 1,
    mx_host: net.isIP(host || '') ? undefined : text(host, 255),
    mx_ip: ip(peer),
    transport: text(mode, 255) && mode.toLowerCase(),
    response_message: text(response, 16384),
    delivery_time_ms: fields.queue_time_ms,
  }));
}

/** `deferred`: every recipient that is left; the attempt is counted already. */
function deferred(context, hmail, { err }) {
  const fields = common(hmail, context);
  return hmail.todo.rcpt_to.map((one) => ({
    event_id: idOf(hmail, one, 'deferred', context.key),
    event_type: 'deferred',
    ...fields,
    ...recipient(one),
    attempt: hmail.num_failures,
    ...failure(one, err),
  }));
}

/** `bounce`: given up, for the recipients that were refused, or for all. */
function bounced(context, hmail, err) {
  const fields = common(hmail, context, err && err.mx);
  const refused = err && err.bounced_rcpt && err.bounced_rcpt.length > 0 ? err.bounced_rcpt : hmail.todo.rcpt_to;
  const message = (err && err.message) || String(err);
  const counted = message.startsWith('Too many failures');
  return refused.map((one) => ({
    event_id: idOf(hmail, one, 'bounce', context.key),
    event_type: 'bounced',
    ...fields,
    ...recipient(one),
    attempt: hmail.num_failures + (counted ? 0 : 1),
    ...failure(one, message),
  }));
}

/**
 * What a recipient's `dsn_*` say; without a reply, the error of the attempt. Then the status is Haraka's
 * own, which calls a refused connection 5.1.2, an address that does not exist.
 */
function failure(to, err) {
  const code = whole(to.dsn_smtp_code);
  const mx = to.dsn_remote_mta;
  const host = { mx_host: mx && !net.isIP(mx) ? text(mx, 255) : undefined, mx_ip: ip(mx) };
  if (code === undefined) {
    return { ...host, error_message: text(to.dsn_msg || err, 16384) };
  }
  const status = text(to.dsn_status, 64);
  const words = [code, to.dsn_smtp_extc || status, to.dsn_smtp_response].filter(Boolean).join(' ');
  const response = text(to.reason || words, 16384);
  return { ...host, response_code: code, enhanced_status: status, response_message: response };
}

module.exports = { remember, delivered, deferred, bounced };
