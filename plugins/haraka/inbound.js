/** Events of connections: mail that was taken or refused, and logins. */
'use strict';

const { eventId } = require('mailstream-client');
const { addressOf, envelopeSender, ip, recipient, text, whole } = require('./fields');

const SOFT = new Set([903, 905]);
/** What Haraka answers at these stages (3.1: connection.js). */
const HARD_CODES = { mail: 550, rcpt: 550, data_post: 550, queue: 550, queue_outbound: 550 };
const SOFT_CODES = { mail: 450, rcpt: 450, data_post: 450, queue: 450, queue_outbound: 450 };
const MOST_LOGINS = 100;

/** What all events of a transaction share. */
function envelope(connection) {
  const { transaction, remote, notes } = connection;
  const header = transaction && transaction.header;
  return {
    direction: connection.relaying ? 'outbound' : 'inbound',
    ...envelopeSender(transaction && transaction.mail_from),
    queue_id: text(transaction && transaction.uuid, 255),
    message_id: text(header && header.get('message-id'), 1000),
    user: text(notes && notes.auth_user, 320),
    client_ip: ip(remote && remote.ip),
    size_bytes: whole(transaction && transaction.data_bytes) || undefined,
  };
}

/** `queue_ok`: mail for others is one event, mail for us one per recipient. */
function taken({ key }, connection) {
  const { transaction } = connection;
  const common = envelope(connection);
  const recipients = transaction.rcpt_to || [];
  if (connection.relaying) {
    const only = recipients.length === 1 ? recipient(recipients[0]) : {};
    const id = eventId(['haraka', transaction.uuid, '', 'queue_ok'], key);
    return [{ event_id: id, event_type: 'sent', ...common, ...only, recipients: recipients.length }];
  }
  return recipients.map((one) => ({
    event_id: eventId(['haraka', transaction.uuid, addressOf(one), 'queue_ok'], key),
    event_type: 'received',
    ...common,
    ...recipient(one),
  }));
}

/** `deny`: a refusal at any stage, for one recipient, for all so far, or before there is one. */
function refused({ key }, connection, [code, message, plugin, , params, hook]) {
  const { transaction } = connection;
  const common = {
    event_type: 'rejected',
    ...envelope(connection),
    response_code: whole(message && message.code) || (SOFT.has(code) ? SOFT_CODES : HARD_CODES)[hook],
    response_message: reply(message),
    error_code: text(plugin, 255),
    error_message: text(`refused at ${hook}`, 255),
  };
  const id = (to) => eventId(['haraka', connection.uuid, transaction && transaction.uuid, to, hook], key);
  const known = (transaction && transaction.rcpt_to) || [];
  const concerned = hook === 'rcpt' ? [params[0]] : known;
  if (concerned.length === 0 || (connection.relaying && hook !== 'rcpt')) {
    return [{ event_id: id(''), ...common, recipients: concerned.length || undefined }];
  }
  return concerned.map((one) => ({ event_id: id(addressOf(one)), ...common, ...recipient(one) }));
}

/** A refusal's text: a string, a list of lines, or a DSN object. */
function reply(message) {
  if (message === undefined || message === null) return undefined;
  if (Array.isArray(message)) return text(message.join(' '), 16384);
  return text(typeof message === 'object' ? message.reply || message.msg : message, 16384);
}

/** `disconnect`: the logins of the connection. No password is looked at. */
function logins({ key }, connection) {
  const results = connection.results && connection.results.get('auth');
  if (!results) return [];
  const common = { client_ip: ip(connection.remote && connection.remote.ip), auth_scope: 'smtp' };
  const names = namesThatFailed(connection);
  const failed = (results.fail || []).slice(0, MOST_LOGINS).map((how, n) => ({
    event_id: eventId(['haraka', connection.uuid, 'auth_failed', n], key),
    event_type: 'auth_failed',
    ...common,
    user: text(names[n], 320),
    auth_method: text(String(how).split('/').pop(), 64),
    auth_result: 'fail',
  }));
  if (!results.pass || results.pass.length === 0) return failed;
  const succeeded = {
    event_id: eventId(['haraka', connection.uuid, 'auth_succeeded'], key),
    event_type: 'auth_succeeded',
    ...common,
    user: text(connection.notes.auth_user, 320),
    auth_method: text(results.method, 64),
    auth_result: 'success',
  };
  return [...failed, succeeded];
}

/** Names of failed logins: Haraka keeps them only in the lines for Authentication-Results. */
function namesThatFailed(connection) {
  return (connection.notes.authentication_results || [])
    .map((line) => /^auth=fail .*?smtp\.auth=(.*)$/.exec(line))
    .filter((match) => match !== null)
    .map((match) => match[1]);
}

module.exports = { taken, refused, logins };
