/**
 * The end of a process: at `exit`, and at SIGTERM and SIGINT, which end a process without `exit`
 * where nobody listens to them (ZoneMTA's receivers and senders).
 */
'use strict';

const SIGNALS = ['SIGTERM', 'SIGINT'];

/**
 * Calls *save* at a signal and *close* at the exit; neither may throw.
 *
 * @param {{save: () => void, close: () => void}} actions
 * @returns {() => void} Forgets both.
 */
function onEnd({ save, close }) {
  const listeners = SIGNALS.map((signal) => {
    const listener = () => {
      process.removeListener(signal, listener);
      save();
      // Without us nobody listens: the signal does what it always did.
      if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
    };
    process.on(signal, listener);
    return [signal, listener];
  });
  process.on('exit', close);
  return () => {
    process.removeListener('exit', close);
    for (const [signal, listener] of listeners) process.removeListener(signal, listener);
  };
}

module.exports = { onEnd };
