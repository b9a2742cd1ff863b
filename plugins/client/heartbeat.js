/** Tells ingest every few seconds that this process lives, and how many events it has. */
'use strict';

const NODES = '/api/v1/nodes';

class Heartbeat {
  /**
   * @param {import('./post').Poster} poster
   * @param {{node: string, role: string, version: string, boot_id: string}} who
   */
  constructor(poster, who) {
    this.poster = poster;
    this.who = who;
    this.busy = false;
  }

  /**
   * Posts one, unless the last is still under way. A failure says nothing: the next one tells all.
   *
   * @param {{last_seq: number, buffered: number, dropped_total: number}} figures
   */
  async beat(figures) {
    if (this.busy) return;
    this.busy = true;
    await this.poster.post(NODES, JSON.stringify({ ...this.who, ...figures }));
    this.busy = false;
  }
}

module.exports = { Heartbeat };
