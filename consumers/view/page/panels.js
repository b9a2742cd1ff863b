/** What each panel shows of an answer of the API.  Texts are only ever set as text, never as HTML. */

import { clock, element, moment, number } from './chart.js';

/** A source that is silent for longer is marked. */
const QUIET_S = 300;

export function note(box, kind, text) {
  box.replaceChildren(element('p', { class: kind }, text));
}

/** A table; cells are texts or elements, columns named with a leading # are numbers. */
export function table(caption, columns, rows) {
  const name = (column) => column.replace(/^#/, '');
  const kind = (column) => (column.startsWith('#') ? 'number' : null);
  const head = element('tr', {}, ...columns.map((column) => (
    element('th', { scope: 'col', class: kind(column) }, name(column)))));
  const body = element('tbody', {}, ...rows.map((cells) => element('tr', {}, ...cells.map((cell, place) => (
    cell instanceof HTMLTableCellElement ? cell : element('td', { class: kind(columns[place]) }, cell))))));
  const made = element('table', {}, element('caption', {}, caption), element('thead', {}, head), body);
  return element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption }, made);
}

const text = (value) => (value === null || value === undefined ? '' : String(value));
const since = (seconds) => (seconds === null ? '' : clock(seconds));

export function figures(box, window, totals) {
  const parts = Object.entries(totals).map(([name, value]) => (
    element('span', {}, element('b', {}, number(value)), ` ${name}`)));
  box.replaceChildren(parts.length === 0 ? `No mail in the last ${window}.` : `Last ${window}:`, ...parts);
  const done = totals.delivered ?? 0;
  const bounced = totals.bounced ?? 0;
  if (done + bounced > 0) {
    const rate = ((100 * bounced) / (done + bounced)).toFixed(1);
    box.append(element('span', {}, element('b', {}, `${rate} %`), ' bounce rate'));
  }
}

export function top(box, answer, open) {
  if (answer.top.length === 0) {
    note(box, 'empty', `Nothing in the last ${answer.window}.`);
    return;
  }
  const types = [...new Set(answer.top.flatMap((row) => Object.keys(row.events)))];
  const detailed = answer.top.some((row) => row.first_seen !== null);
  const details = detailed ? ['first seen', 'last seen', 'last reply'] : [];
  const columns = [...answer.labels, ...types.map((type) => `#${type}`), ...details];
  const rows = answer.top.map((row) => {
    const values = Object.values(row.key);
    const button = element('button', { type: 'button' }, values[0]);
    button.addEventListener('click', () => open(answer.dimension, values));
    const counts = types.map((type) => number(row.events[type] ?? 0));
    const reply = element('td', { class: 'reply' }, element('span', { title: row.last_reply }, text(row.last_reply)));
    const seen = detailed ? [since(row.first_seen), since(row.last_seen), reply] : [];
    return [button, ...values.slice(1), ...counts, ...seen];
  });
  // The focus stays where it was: the table is made anew with every update.
  const before = box.contains(document.activeElement) ? document.activeElement.textContent : null;
  const place = box.querySelector('.scroll')?.scrollTop ?? 0;
  box.replaceChildren(table(`By ${answer.dimension}, last ${answer.window}`, columns, rows));
  box.querySelector('.scroll').scrollTop = place;
  if (before !== null) [...box.querySelectorAll('button')].find((one) => one.textContent === before)?.focus();
}

export function grouped(box, answer, empty) {
  if (answer.top.length === 0) {
    note(box, 'empty', empty);
    return;
  }
  const types = [...new Set(answer.top.flatMap((row) => Object.keys(row.events)))];
  const rows = answer.top.map((row) => [
    Object.values(row.key)[0], number(row.count), ...types.map((type) => number(row.events[type] ?? 0))]);
  const label = answer.labels[0].replace('_', ' ');
  box.replaceChildren(table(`Last ${answer.window}`, [label, '#all', ...types.map((type) => `#${type}`)], rows));
}

function health(alive) {
  return element('td', { class: alive ? 'alive' : 'silent' }, alive ? '✓ alive' : '✗ silent');
}

function sources(box, answer) {
  if (answer.sources.length === 0) {
    note(box, 'empty', 'No events have been read yet.');
    return;
  }
  const rows = answer.sources.map((one) => [
    one.source, one.origin, number(one.events), clock(one.last_event), clock(one.last_received),
    element('td', { class: one.silent_s > QUIET_S ? 'silent' : 'alive' },
      one.silent_s > QUIET_S ? `✗ quiet for ${Math.round(one.silent_s / 60)} min` : '✓ sending')]);
  const columns = ['source', 'origin', '#events since start', 'newest event', 'last received', 'health'];
  box.replaceChildren(table('What events come from', columns, rows));
}

export function nodes(box, sourcesBox, answer) {
  sources(sourcesBox, answer);
  if (answer.nodes.length === 0) {
    note(box, 'empty', 'No node has been heard of: plugins and node agents tell of themselves.');
    return;
  }
  const rows = answer.nodes.flatMap((node) => {
    const what = Object.keys(node.observations).join(', ');
    if (node.senders.length === 0) return [[node.node, '', '', health(node.alive), since(node.heard), '', '', what]];
    return node.senders.map((sender) => [
      node.node, sender.role, sender.version, health(sender.alive), since(sender.last_heartbeat),
      number(sender.buffered), number(sender.dropped_total), what]);
  });
  const columns = ['node', 'role', 'version', 'health', 'last heard', '#waiting', '#given up', 'observed'];
  box.replaceChildren(table('Nodes and what sends from them', columns, rows));
}

const KINDS = {
  hijacked_account: 'account sends as it never did',
  ip_blocked: 'provider refuses our address',
};

/** What is held of a value of JSON, as a list of names and values: nested ones within. */
function evidence(value) {
  if (value === null || typeof value !== 'object') return typeof value === 'number' ? number(value) : text(value);
  const entries = Object.entries(value);
  if (Array.isArray(value) && value.every((one) => typeof one !== 'object')) return value.map(text).join(', ');
  return element('dl', {}, ...entries.flatMap(([name, one]) => [
    element('dt', {}, name.replaceAll('_', ' ')), element('dd', {}, evidence(one))]));
}

export function alerts(box, noteBox, answer) {
  const open = answer.alerts.filter((alert) => alert.until === null).length;
  const said = open === 0 ? '' : `${number(open)} open`;
  if (noteBox.textContent !== said) noteBox.textContent = said;
  if (answer.alerts.length === 0) {
    note(box, 'empty', 'No alerts.');
    return;
  }
  // Made anew only if there is news: what is open or has the focus stays as it is.
  const shown = answer.alerts.slice(0, 100);
  const news = JSON.stringify(shown);
  if (box.dataset.shown === news && box.querySelector('table') !== null) return;
  const name = (alert) => JSON.stringify([alert.kind, alert.key, alert.since]);
  const opened = new Set([...box.querySelectorAll('details[open]')].map((one) => one.dataset.alert));
  const focused = box.contains(document.activeElement) ? document.activeElement.parentElement.dataset.alert : null;
  const rows = shown.map((alert) => {
    const state = alert.until === null
      ? element('td', { class: 'silent' }, '● open') : element('td', {}, `ended, until ${moment(alert.until)}`);
    const of = [alert.key].flat().map(text).join(' · ');
    const more = element('details', { 'data-alert': name(alert) },
      element('summary', { 'aria-label': `Evidence about ${of}` }, 'Evidence'), evidence(alert.evidence));
    more.open = opened.has(name(alert));
    return [KINDS[alert.kind] ?? alert.kind.replaceAll('_', ' '), of, moment(alert.since), state, more];
  });
  box.replaceChildren(table('Open ones first, then the newest', ['what', 'of', 'since', 'state', 'evidence'], rows));
  box.dataset.shown = news;
  if (focused) [...box.querySelectorAll('details')].find((one) => one.dataset.alert === focused)?.firstChild.focus();
}

/** A message of the queue. */
export function message(box, answer) {
  const facts = [['queue id', answer.queue_id], ['node', answer.node],
    ...Object.entries(answer.message).map(([name, value]) => [name, [value].flat().map(text).join(', ')])];
  const rows = answer.deliveries.map((one) => [
    text(one.seq), text(one.recipient), text(one.status), text(one.zone), text(one.deferred?.count),
    element('td', { class: 'reply' }, element('span', {}, text(one.deferred?.response)))]);
  box.replaceChildren(
    table('Message', ['what', 'value'], facts),
    table('Deliveries', ['no.', 'recipient', 'state', 'zone', '#attempts put off', 'last reply'], rows));
}

export function live(box, events) {
  if (events.length === 0) {
    note(box, 'empty', 'Nothing yet: events appear here as they come.');
    return;
  }
  const rows = events.map((event) => [
    text(event.timestamp).slice(11, 19),
    element('td', { class: `type type-${event.event_type}` }, text(event.event_type)),
    text(event.user ?? event.from_address), text(event.to_domain), text(event.sending_ip ?? event.client_ip),
    text(event.bounce_class), element('td', { class: 'reply' }, element('span', {}, text(event.response_message ?? event.outcome)))]);
  box.replaceChildren(table('Newest first', ['time', 'type', 'sender', 'to', 'ip', 'class', 'reply'], rows));
}

/** Everything that is known of one key. */
export function destination(box, answer) {
  const times = answer.delivery_ms ?? {};
  const told = [
    ['waiting (deferred)', text(answer.waiting)],
    ['delivery p50', times.p50 === undefined || times.p50 === null ? '' : `${(times.p50 / 1000).toFixed(1)} s`],
    ['delivery p95', times.p95 === undefined || times.p95 === null ? '' : `${(times.p95 / 1000).toFixed(1)} s`],
    ['mail exchangers', answer.hosts.join(', ')],
    ...Object.entries(answer.classes).map(([window, classes]) => [
      `failures, ${window}`, Object.entries(classes).map(([name, count]) => `${name} ${number(count)}`).join(', ')]),
  ];
  box.append(table('Delivery', ['what', 'value'], told));
}
