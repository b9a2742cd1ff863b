/** How long to wait before the next attempt: exponential, with jitter, never less than was asked. */
'use strict';

const LONGEST_ASKED_MS = 10 * 60 * 1000;

class Backoff {
  /**
   * @param {number} firstMs The first wait, on average three quarters of it.
   * @param {number} longestMs No wait of our own is longer.
   * @param {() => number} [random] Evenly in [0, 1).
   */
  constructor(firstMs, longestMs, random = Math.random) {
    this.firstMs = firstMs;
    this.longestMs = longestMs;
    this.random = random;
    this.failures = 0;
  }

  /**
   * Returns the wait after one more failure, in ms.
   *
   * @param {number} [askedMs] What Retry-After says; it is kept up to ten minutes.
   * @returns {number}
   */
  failed(askedMs = 0) {
    const whole = Math.min(this.longestMs, this.firstMs * 2 ** Math.min(this.failures, 30));
    this.failures += 1;
    const own = whole * (0.5 + this.random() / 2);
    return Math.max(own, Math.min(askedMs, LONGEST_ASKED_MS));
  }

  succeeded() {
    this.failures = 0;
  }
}

module.exports = { Backoff };
