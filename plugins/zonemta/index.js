/**
 * ZoneMTA plugin: an event for every mail that is accepted, delivered, deferred, bounced or refused.
 *
 * ZoneMTA loads it in each of its processes; none knows of another. Outcomes come from `log:entry`,
 * the only hook that tells a deferral from a bounce; the other hooks add what it leaves out.
 */
'use strict';

const { Sender, readOptions } = require('mailstream-client');
const { Join } = require('./join');
const { deliveryFacts, eventOf } = require('./events');
const { version } = require('./package.json');

const TITLE = 'mailstream';

/** @param {any} app ZoneMTA's plugin instance. @param {() => void} done */
function init(app, done) {
  const log = (level, text) => app.logger[level](`Plugins/${TITLE}`, '%s', text);
  const { options, mistakes } = readOptions(app.config);
  for (const mistake of mistakes) log('warn', mistake);
  const role = (app.manager && app.manager.context) || 'zonemta';
  const emit = (entry, facts, at) => {
    const event = eventOf(entry, facts, at, options.node);
    if (event !== null) sender.push(event);
  };
  const join = new Join(emit, options.hold_ms);
  const beforeSave = () => join.release();
  const sender = new Sender({ options, source: 'zonemta', role, version, log, beforeSave });
  addHooks(app, join, sender);
  done();
}

function addHooks(app, join, sender) {
  /** Whatever goes wrong here, ZoneMTA goes on, at once. */
  const hook = (name, action) =>
    app.addHook(name, (...args) => {
      const next = args.pop();
      try {
        action(...args);
      } catch (err) {
        sender.say('hook', 'error', `${name}: ${err && err.name}: an event is lost`);
      }
      next();
    });
  hook('log:entry', (entry) => join.entry(entry, Date.now()));
  hook('sender:delivered', (delivery, info) => join.facts(delivery, deliveryFacts(delivery, { info })));
  hook('sender:responseError', (delivery, _, error) => join.facts(delivery, deliveryFacts(delivery, { error })));
}

module.exports = { title: TITLE, init };
