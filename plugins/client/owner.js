/** Whose a spool folder is: its name holds the process, so that nobody takes what another still uses. */
'use strict';

const fs = require('fs');

/**
 * Returns when a process started, in ticks since the machine did, or '' where /proc does not tell.
 * With the process id it names one process, also after the id was given to another.
 *
 * @param {number|string} pid
 * @returns {string}
 */
function startOf(pid) {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return '';
  }
}

/**
 * Returns the name of this process's spool folder.
 *
 * @param {string} bootId
 * @returns {string}
 */
function ownName(bootId) {
  return `${process.pid}-${startOf(process.pid)}-${bootId.slice(0, 8)}`;
}

/**
 * Tells whether the process that a folder is named after still runs.
 *
 * @param {string} name
 * @returns {boolean}
 */
function isAlive(name) {
  const [pid, started] = name.split('-');
  if (started) return startOf(pid) === started;
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (err) {
    return err.code === 'EPERM';
  }
}

module.exports = { ownName, isAlive };
