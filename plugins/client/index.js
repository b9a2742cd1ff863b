/** What the plugins use of this package. */
'use strict';

const { eventId } = require('./ids');
const { readOptions } = require('./options');
const { Sender } = require('./sender');

module.exports = { Sender, eventId, readOptions };
