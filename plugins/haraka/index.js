/**
 * Haraka plugin: an event for every mail that is taken, delivered, deferred, bounced or refused, and for
 * every login.
 *
 * Haraka loads it in each of its processes. Every hook goes on at once, whatever happens here.
 */
'use strict';

const cluster = require('cluster');
const { Sender, readOptions } = require('mailstream-client');
const inbound = require('./inbound');
const outbound = require('./outbound');
const { version } = require('./package.json');

exports.register = function register() {
  const log = (level, text) => this[{ info: 'loginfo', warn: 'logwarn', error: 'logerror' }[level]](text);
  const config = (this.config.get('mailstream.ini') || {}).main || {};
  const { options, mistakes } = readOptions(config);
  for (const mistake of mistakes) log('warn', mistake);
  const role = cluster.isWorker ? 'worker' : 'main';
  this.mtaNode = options.node;
  this.context = { key: options.api_key, sendingIp: config.sending_ip };
  this.sender = new Sender({ options, source: 'haraka', role, version, log });
};

/**
 * Returns a hook that posts the events that *eventsOf* makes of its arguments.
 *
 * @param {(...args: any[]) => Array<Record<string, unknown>>} eventsOf
 */
function posting(eventsOf) {
  return function hook(next, ...args) {
    try {
      const at = Date.now();
      const common = { timestamp: new Date(at).toISOString(), mta_node: this.mtaNode };
      for (const event of eventsOf({ at, ...this.context }, ...args)) this.sender.push({ ...common, ...event });
    } catch (err) {
      if (this.sender) this.sender.say('hook', 'error', `${err && err.name} in a hook: an event is lost`);
    }
    next();
  };
}

exports.hook_data_post = posting((_, connection) => {
  outbound.remember(connection);
  return [];
});
exports.hook_queue_ok = posting(inbound.taken);
exports.hook_deny = posting(inbound.refused);
exports.hook_disconnect = posting(inbound.logins);
exports.hook_delivered = posting(outbound.delivered);
exports.hook_deferred = posting(outbound.deferred);
exports.hook_bounce = posting(outbound.bounced);
