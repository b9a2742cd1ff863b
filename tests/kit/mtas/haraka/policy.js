/** A Haraka plugin of the tests: which mail is taken, and that all mail out goes to the sink. */
'use strict';

exports.register = function () {
  this.ports = this.config.get('policy.ini').main;
};

exports.hook_rcpt = (next, connection, [recipient]) => {
  if (recipient.user === 'deny') return next(DENY, '5.7.1 Rejected by policy');
  next(OK);
};

exports.hook_queue = (next) => next(OK);

exports.hook_get_mx = function (next, hmail, domain) {
  const exchange = domain === this.ports.refusing ? '127.0.0.9' : '127.0.0.1';
  next(OK, { priority: 0, exchange, port: this.ports.sink, bind: '127.0.0.2' });
};
