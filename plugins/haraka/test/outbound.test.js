'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { Address31, Address33, connectionOf, hmailOf } = require('../../kit/haraka');
const { text } = require('../fields');
const outbound = require('../outbound');
const hooks = require('./hooks.json'); // as a real Haraka 3.1.1 called them

const AT = 1795220126000;
const context = { at: AT, key: 'secret', sendingIp: '192.0.2.10' };
const plain = (events) => JSON.parse(JSON.stringify(events));

for (const Address of [Address31, Address33]) {
  const hmail = (name) => hmailOf(hooks[name].hmail, Address);
  const delivered = (item) => {
    const params = [...hooks.delivered.params];
    params[6] = item.todo.rcpt_to;
    return plain(outbound.delivered(context, item, params));
  };

  test(`a delivery, with ${Address.name}`, () => {
    const [{ event_id: id, ...event }] = delivered(hmail('delivered'));
    assert.match(id, /^[0-9a-f]{32}$/);
    assert.deepStrictEqual(event, {
      event_type: 'delivered',
      direction: 'outbound',
      from_address: 'alice@example.com',
      queue_id: 'F2E07D50-C68B-4F75-97C4-81B06A5338B1.1',
      seq: '1',
      sending_ip: '192.0.2.10',
      queue_time_ms: 684,
      delivery_time_ms: 684,
      to: 'ok@example.net',
      to_domain: 'example.net',
      attempt: 1,
      mx_ip: '127.0.0.1',
      transport: 'smtp',
      response_message: 'Ok: queued as SINK1795220125',
    });
  });

  test(`a deferral, with ${Address.name}`, () => {
    const [event] = plain(outbound.deferred(context, hmail('deferred'), hooks.deferred.params));
    assert.strictEqual(event.event_type, 'deferred');
    assert.strictEqual(event.attempt, 1);
    assert.strictEqual(event.response_code, 451);
    assert.strictEqual(event.enhanced_status, '4.7.1');
    assert.strictEqual(event.response_message, '451 4.7.1 Greylisted, please try again in 300 seconds');
  });

  test(`a bounce, with ${Address.name}`, () => {
    const { err } = hooks.bounce;
    const item = hmail('bounce');
    const given = Object.assign(new Error('Some recipients failed'), { mx: err.mx, bounced_rcpt: item.todo.rcpt_to });
    const [event] = plain(outbound.bounced(context, item, given));
    assert.strictEqual(event.event_type, 'bounced');
    assert.strictEqual(event.attempt, 1);
    assert.strictEqual(event.sending_ip, '127.0.0.2');
    assert.deepStrictEqual([event.response_code, event.enhanced_status], [550, '5.1.1']);
  });
}

test('a failure without a reply has its error', () => {
  const item = hmailOf({ ...hooks.deferred.hmail, rcpt_to: [{ address: 'a@x.example' }] }, Address31);
  const [event] = plain(outbound.deferred(context, item, { err: 'Tried all MXs' }));
  assert.strictEqual(event.error_message, 'Tried all MXs');
  assert.strictEqual('response_code' in event, false);
});

test('the last of too many attempts is counted once', () => {
  const item = hmailOf({ ...hooks.deferred.hmail, num_failures: 5 }, Address31);
  const [event] = plain(outbound.bounced(context, item, new Error('Too many failures (Tried all MXs)')));
  assert.strictEqual(event.attempt, 5);
});

test('a bounce without details is one of all recipients', () => {
  const rcpt = [{ address: 'a@x.example' }, { address: 'b@x.example' }];
  const item = hmailOf({ ...hooks.bounce.hmail, rcpt_to: rcpt }, Address31);
  const events = plain(outbound.bounced(context, item, new Error('No such domain')));
  assert.deepStrictEqual(events.map(({ to, error_message: error }) => [to, error]), [
    ['a@x.example', 'No such domain'],
    ['b@x.example', 'No such domain'],
  ]);
  assert.notStrictEqual(events[0].event_id, events[1].event_id);
});

test('an id is that of the attempt, also in a file that was split off', () => {
  const id = (changes) => {
    const item = hmailOf({ ...hooks.deferred.hmail, ...changes }, Address31);
    return outbound.deferred(context, item, { err: '' })[0].event_id;
  };
  const one = id({});
  const parts = hooks.deferred.hmail.filename.split('_');
  const renamed = [parts[0], '1795229999999', '3', ...parts.slice(3)].join('_');
  assert.strictEqual(id({ filename: renamed }), one);
  const split = [parts[0], parts[1], parts[2], parts[3], 'other', ...parts.slice(5)].join('_');
  const others = [{ filename: split }, { num_failures: 2 }, { uuid: 'other.1' }, { rcpt_to: [{ address: 'z@x.example' }] }];
  assert.strictEqual(new Set([one, ...others.map(id)]).size, 5);
});

test('what the connection knew stays with the mail', () => {
  const connection = connectionOf(Address31, { notes: { auth_user: 'alice' } });
  outbound.remember(connection);
  const item = hmailOf(hooks.delivered.hmail, Address31);
  item.todo.notes = JSON.parse(JSON.stringify(connection.transaction.notes)); // as in the queue file
  const params = [...hooks.delivered.params];
  params[6] = item.todo.rcpt_to;
  const [event] = plain(outbound.delivered(context, item, params));
  assert.deepStrictEqual(
    [event.user, event.client_ip, event.message_id, event.size_bytes],
    ['alice', '192.0.2.7', '<1@example.com>', 1234]
  );
});

test('a DSN is told by its empty sender', () => {
  const item = hmailOf({ ...hooks.delivered.hmail, mail_from: '' }, Address33);
  const params = [...hooks.delivered.params];
  params[6] = item.todo.rcpt_to;
  const [event] = plain(outbound.delivered(context, item, params));
  assert.deepStrictEqual([event.from_address, event.is_dsn], ['', true]);
});

test('a text that is cut within a character stays valid', () => {
  assert.strictEqual(text(`${'x'.repeat(9)}\u{1f600}`, 10), `${'x'.repeat(9)}\ufffd`);
  assert.strictEqual(text('\u{1f600}', 10), '\u{1f600}');
});
