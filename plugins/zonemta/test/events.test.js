'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { deliveryFacts, eventOf } = require('../events');
const hooks = require('./hooks.json');
const entries = require('./log_entries.json'); // as a real ZoneMTA 3.10.3 logged them

const AT = Date.parse('2026-11-21T00:16:17.906Z');
const event = (name, facts) => given(entries[name], facts);
/** The event as it is posted: without undefined fields. */
const given = (entry, facts) => JSON.parse(JSON.stringify(eventOf(entry, facts, AT, 'mta1')));

test('every action has its type', () => {
  const types = Object.fromEntries(Object.entries(entries).map(([name, entry]) => [name, (given(entry) || {}).event_type]));
  assert.deepStrictEqual(types, {
    ACCEPTED: 'delivered',
    'ACCEPTED/bounces': 'delivered',
    'DEFERRED/blacklist': 'deferred',
    'DEFERRED/greylist': 'deferred',
    'DEFERRED/network': 'deferred',
    DELETED: 'rejected',
    'DROP/plugin': 'rejected',
    'DROP/suppressed': 'rejected',
    NOQUEUE: 'rejected',
    QUEUED: 'sent',
    'QUEUED/authenticated': 'sent',
    'QUEUED/bounce': 'sent',
    QUEUE_BOUNCE: undefined,
    'REJECTED/block': 'bounced',
    'REJECTED/capacity': 'bounced',
    'REJECTED/dns': 'bounced',
    'REJECTED/recipient': 'bounced',
  });
  for (const action of ['SPAMCHECK', 'QUEUE_POLL', 'constructor', undefined]) assert.strictEqual(given({ action }), null);
});

test('a mail that was taken is one event with its number of recipients', () => {
  const { event_id: id, ...rest } = event('QUEUED/authenticated');
  assert.match(id, /^[0-9a-f]{32}$/);
  assert.deepStrictEqual(rest, {
    timestamp: '2026-11-21T00:16:17.906Z',
    event_type: 'sent',
    mta_node: 'mta1',
    queue_id: '1a1fb726a46000f370',
    message_id: '<sample-authenticated@example.com>',
    from_address: 'alice@example.com',
    user: 'alice',
    client_ip: '127.0.0.1',
    router: 'submission',
    to: 'ok@example.net',
    to_domain: 'example.net',
    recipients: 1,
    size_bytes: 5,
  });
});

test('recipients of one mail are counted, and named only if there is one', () => {
  const several = given({ ...entries.QUEUED, to: 'a@x.example,"b,c"@y.example,d@x.example' });
  assert.strictEqual(several.recipients, 3);
  assert.strictEqual('to' in several, false);
  assert.strictEqual('to_domain' in several, false);
  assert.strictEqual(given({ ...entries.QUEUED, to: 'a@x.example,b@x.example' }).to_domain, 'x.example');
  assert.strictEqual('recipients' in given({ ...entries.QUEUED, to: '<>' }), false);
});

test('a delivery has what the log and the delivery know', () => {
  const { delivery, info } = hooks.delivered;
  const { event_id: id, ...rest } = given(entries.ACCEPTED, deliveryFacts({ ...delivery, user: 'alice' }, { info }));
  assert.deepStrictEqual(rest, {
    timestamp: '2026-11-21T00:16:17.906Z',
    event_type: 'delivered',
    mta_node: 'mta1',
    queue_id: '1a1fb6f862e000f66e',
    seq: '001',
    message_id: '<sample-connection-refused@example.com>',
    from_address: 'alice@example.com',
    user: 'alice',
    client_ip: '127.0.0.1',
    router: 'feeder',
    to: 'ok@example.net',
    to_domain: 'example.net',
    zone: 'default',
    transport: 'smtp',
    sending_ip: '127.0.0.2',
    mx_host: 'mx1.example.net',
    mx_ip: '127.0.0.1',
    attempt: 1,
    response_code: 250,
    response_message: '250 2.0.0 Ok: queued as SINK1795220054',
    size_bytes: 473,
    queue_time_ms: 237430,
    delivery_time_ms: 237430,
    smtp_time_ms: 57,
  });
});

test('without a connection the sending address is the one that was chosen, and the host is not known', () => {
  const { delivery, error } = hooks.retried;
  const one = event('DEFERRED/network', deliveryFacts(delivery, { error }));
  assert.strictEqual(one.sending_ip, '127.0.0.2');
  assert.strictEqual('mx_host' in one, false);
  assert.strictEqual('response_message' in one, false);
  assert.match(one.error_message, /Connection refused/);
  assert.strictEqual(one.attempt, 2);
  assert.strictEqual('sending_ip' in event('DEFERRED/network'), false);
});

test('an address that stands for any is none', () => {
  const facts = { zoneAddress: '0.0.0.0' };
  assert.strictEqual('sending_ip' in event('DEFERRED/network', facts), false);
});

test('the action says how it ended, the category why, the code only what was answered', () => {
  const full = event('REJECTED/capacity');
  assert.deepStrictEqual([full.event_type, full.response_code, full.error_code], ['bounced', 452, 'capacity']);
  const listed = event('DEFERRED/blacklist');
  assert.deepStrictEqual([listed.event_type, listed.response_code, listed.error_code], ['deferred', 550, 'blacklist']);
});

test('an error of Node has its own name', () => {
  assert.strictEqual(event('DEFERRED/network', { errorName: 'ECONNREFUSED' }).error_code, 'ECONNREFUSED');
  assert.strictEqual(event('DEFERRED/greylist', { errorName: 'EENVELOPE' }).error_code, 'greylist');
});

test('DSNs are told apart', () => {
  for (const name of ['QUEUED/bounce', 'ACCEPTED/bounces']) {
    const one = event(name);
    assert.strictEqual(one.is_dsn, true);
    assert.strictEqual(one.from_address, '');
  }
  assert.strictEqual('is_dsn' in event('ACCEPTED'), false);
});

test('refused, suppressed and deleted mail says so', () => {
  const short = ({ error_code: code, error_message: message, response_code: reply }) => [code, message, reply];
  assert.deepStrictEqual(short(event('NOQUEUE')), ['noqueue', 'spam', 550]);
  assert.deepStrictEqual(short(event('DROP/plugin')), ['drop', 'loop', undefined]);
  const reason = 'Recipient was found from suppression list';
  assert.deepStrictEqual(short(event('DROP/suppressed')), ['suppressed', reason, undefined]);
  assert.strictEqual(event('DROP/suppressed').to_domain, 'example.net');
  assert.deepStrictEqual(short(event('DELETED')), ['deleted', 'Deletion requested from API', undefined]);
});

test('an id is that of the attempt', () => {
  const deferred = entries['DEFERRED/network'];
  const id = (entry, at = AT) => eventOf(entry, undefined, at, 'mta1').event_id;
  assert.strictEqual(id(deferred), id({ ...deferred, response: 'other' }, AT + 1));
  const others = [{ seq: '002' }, { defcount: 3 }, { action: 'REJECTED' }, { id: 'other' }];
  assert.strictEqual(new Set([deferred, ...others.map((one) => ({ ...deferred, ...one }))].map((one) => id(one))).size, 5);
});

test('no subject, no header and no body is posted', () => {
  for (const entry of Object.values(entries)) {
    const text = JSON.stringify(given({ ...entry, subject: 'SUBJECT', headerFrom: 'HEADER' }));
    assert.doesNotMatch(text, /SUBJECT|HEADER/);
  }
});

test('odd fields are cut or left out', () => {
  const odd = { ...entries.ACCEPTED, zone: 'a\nb', protocol: `${'x'.repeat(254)}\u{1f600}`, mx: 7, host: 'not an address', to: null, size: 'big', response: undefined };
  const one = given(odd, { createdMs: NaN, attempt: undefined });
  assert.strictEqual(one.zone, 'a b');
  assert.strictEqual(one.transport, `${'x'.repeat(254)}\ufffd`);
  for (const name of ['to', 'to_domain', 'mx_ip', 'size_bytes', 'queue_time_ms']) assert.strictEqual(name in one, false);
});
