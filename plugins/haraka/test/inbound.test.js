'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { Address31, Address33, connectionOf } = require('../../kit/haraka');
const inbound = require('../inbound');

const context = { at: 1795220126000, key: 'secret' };
const plain = (events) => JSON.parse(JSON.stringify(events));

for (const Address of [Address31, Address33]) {
  test(`mail for us is an event per recipient, with ${Address.name}`, () => {
    const connection = connectionOf(Address, { to: ['a@x.example', 'b@y.example'] });
    const [{ event_id: id, ...event }, second] = plain(inbound.taken(context, connection, 'queued'));
    assert.notStrictEqual(id, second.event_id);
    assert.deepStrictEqual(event, {
      event_type: 'received',
      direction: 'inbound',
      from_address: 'alice@example.com',
      queue_id: 'C1.1',
      message_id: '<1@example.com>',
      client_ip: '192.0.2.7',
      size_bytes: 1234,
      to: 'a@x.example',
      to_domain: 'x.example',
    });
  });

  test(`mail for others is one event, with ${Address.name}`, () => {
    const connection = connectionOf(Address, { relaying: true, notes: { auth_user: 'alice' }, to: ['a@x.example', 'b@y.example'] });
    const [event, ...more] = plain(inbound.taken(context, connection, 'queued'));
    assert.deepStrictEqual(more, []);
    assert.deepStrictEqual([event.event_type, event.direction, event.user, event.recipients], ['sent', 'outbound', 'alice', 2]);
    assert.strictEqual('to' in event, false);
  });

  test(`a refused recipient, with ${Address.name}`, () => {
    const connection = connectionOf(Address, { to: ['ok@x.example'] });
    const params = [902, '5.7.1 Rejected by policy', 'policy', 'hook_rcpt', [new Address('no@x.example'), {}], 'rcpt'];
    const [event, ...more] = plain(inbound.refused(context, connection, params));
    assert.deepStrictEqual(more, []);
    assert.deepStrictEqual(
      [event.event_type, event.to, event.response_code, event.response_message, event.error_code],
      ['rejected', 'no@x.example', 550, '5.7.1 Rejected by policy', 'policy']
    );
  });
}

test('a refusal after the recipients is one of each of them, of outgoing mail one of the message', () => {
  const to = ['a@x.example', 'b@x.example'];
  const params = [903, ['try', 'later'], 'queue/x', 'hook_queue', null, 'queue'];
  const events = plain(inbound.refused(context, connectionOf(Address31, { to }), params));
  assert.deepStrictEqual(events.map((one) => [one.to, one.response_code, one.response_message]), [
    ['a@x.example', 450, 'try later'],
    ['b@x.example', 450, 'try later'],
  ]);
  const [event, ...more] = plain(inbound.refused(context, connectionOf(Address31, { to, relaying: true }), params));
  assert.deepStrictEqual([more.length, event.recipients, 'to' in event], [0, 2, false]);
});

test('a refusal before there is a mail', () => {
  const connection = connectionOf(Address31, { transaction: undefined });
  const dsn = { code: 554, msg: 'go away', reply: '5.7.1 go away' };
  const [event] = plain(inbound.refused(context, connection, [904, dsn, 'dnsbl', 'hook_connect', null, 'connect']));
  assert.deepStrictEqual(
    [event.event_type, event.response_code, event.response_message, event.client_ip],
    ['rejected', 554, '5.7.1 go away', '192.0.2.7']
  );
});

test('logins of a connection, with the names that failed', () => {
  const results = { pass: ['auth/flat_file'], fail: ['auth/flat_file/PLAIN', 'auth/flat_file/LOGIN'], method: 'PLAIN', user: 'alice' };
  const lines = ['auth=fail (plain) smtp.auth=mallory', 'spf=pass', 'auth=fail (login) smtp.auth=eve', 'auth=pass (plain)'];
  const connection = connectionOf(Address31, {
    results: { get: (name) => (name === 'auth' ? results : undefined) },
    notes: { auth_user: 'alice', auth_passwd: 'topsecret', authentication_results: lines },
  });
  const events = plain(inbound.logins(context, connection));
  assert.deepStrictEqual(events.map((one) => [one.event_type, one.user, one.auth_method, one.client_ip]), [
    ['auth_failed', 'mallory', 'PLAIN', '192.0.2.7'],
    ['auth_failed', 'eve', 'LOGIN', '192.0.2.7'],
    ['auth_succeeded', 'alice', 'PLAIN', '192.0.2.7'],
  ]);
  assert.doesNotMatch(JSON.stringify(events), /topsecret/);
  assert.deepStrictEqual(plain(inbound.logins(context, connectionOf(Address31))), []);
});
