/** What Haraka gives a plugin, as far as ours uses it; addresses in both of its forms. */
'use strict';

/** An address whose text is a method, as Haraka 3.1 has it. */
class Address31 {
  constructor(text, fields = {}) {
    Object.assign(this, fields);
    this.text = text;
  }

  address() {
    return this.text;
  }
}

/** An address whose text is a property, as Haraka 3.3 has it. */
class Address33 {
  constructor(text, fields = {}) {
    Object.assign(this, fields);
    this.text = text;
  }

  get address() {
    return this.text;
  }
}

/** Makes an item of the outbound queue from a recorded one. */
function hmailOf(recorded, Address) {
  return {
    filename: recorded.filename,
    num_failures: recorded.num_failures,
    todo: {
      uuid: recorded.uuid,
      domain: recorded.domain,
      queue_time: recorded.queue_time,
      mail_from: new Address(recorded.mail_from),
      rcpt_to: recorded.rcpt_to.map(({ address, ...fields }) => new Address(address, fields)),
      notes: {},
    },
  };
}

/** Makes a connection with a transaction. */
function connectionOf(Address, { from = 'alice@example.com', to = ['bob@example.net'], ...fields } = {}) {
  return {
    uuid: 'C1',
    relaying: false,
    remote: { ip: '192.0.2.7', host: 'client.example.com' },
    notes: {},
    results: { get: () => undefined },
    transaction: {
      uuid: 'C1.1',
      mail_from: new Address(from),
      rcpt_to: to.map((one) => new Address(one)),
      header: { get: (name) => (name === 'message-id' ? '<1@example.com>\n' : '') },
      data_bytes: 1234,
      notes: {},
    },
    ...fields,
  };
}

module.exports = { Address31, Address33, hmailOf, connectionOf };
