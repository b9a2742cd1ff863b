/** The page: asks the API every few seconds, and follows the live events. */

import { draw, element, number } from './chart.js';
import * as panels from './panels.js';

const EVERY_MS = 2000;
const MOST_LIVE = 100;
const CUSTOMER_TYPES = ['sent', 'delivered', 'deferred', 'bounced', 'rejected', 'received', 'expired'];

const at = (id) => document.getElementById(id);
/** One for all details, so that what was drawn before is taken away. */
const detailChart = element('div', { id: 'detail-chart', class: 'chart' });
const state = { metrics: null, detail: null, live: [], source: null, paused: false };

async function ask(path, parameters = {}, headers = {}) {
  const query = new URLSearchParams(parameters);
  const signal = AbortSignal.timeout(10000);
  const answer = await fetch(`api/v1/${path}${query.size ? `?${query}` : ''}`, { signal, headers });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail);
  return told;
}

function say(kind, text) {
  const status = at('status');
  if (status.textContent !== text) status.textContent = text;
  status.dataset.state = kind;
}

function options(select, values, chosen) {
  if (select.options.length > 0) return;
  for (const [value, text] of values) select.append(element('option', { value }, text));
  if (chosen !== undefined) select.value = chosen;
}

/** Shows a panel, or in it why it cannot be shown. */
async function panel(box, show) {
  try {
    await show();
    return true;
  } catch (error) {
    panels.note(box, 'error', `Cannot be shown: ${error.message}`);
    return false;
  }
}

function eventTypes() {
  const known = state.metrics.dimensions[at('dimension').value].event_types;
  const select = at('event-type');
  const before = select.value;
  select.replaceChildren();
  options(select, [['', 'all events'], ...known.map((name) => [name, name])]);
  select.value = known.includes(before) ? before : '';
}

function fill() {
  const { windows, dimensions } = state.metrics;
  const names = Object.keys(windows);
  options(at('window'), names.map((name) => [name, name]), names.includes('5m') ? '5m' : names[0]);
  if (at('dimension').options.length > 0) return;
  options(at('dimension'), Object.keys(dimensions).map((name) => [name, name.replaceAll('_', ' ')]), 'user');
  options(at('live-type'), [['', 'all events'], ...CUSTOMER_TYPES.map((name) => [name, name])]);
  eventTypes();
}

async function showTop() {
  const asked = { dimension: at('dimension').value, window: at('window').value, n: at('rows').value };
  if (at('event-type').value) asked.event_type = at('event-type').value;
  const answer = await ask('top', asked);
  panels.top(at('top-table'), answer, openDetail);
  at('top-note').textContent = `${number(answer.keys)} in all, with ${number(answer.total)} events.`;
}

async function showGroup(box, dimension, by, empty) {
  panels.grouped(box, await ask('top', { dimension, by, window: at('window').value, n: 30 }), empty);
}

async function showRoutes() {
  if (!state.metrics.dimensions.route) {
    panels.note(at('routes-table'), 'empty', 'No probes: roundtrip probes of routes show here.');
    return;
  }
  const answer = await ask('top', { dimension: 'route', window: at('window').value, n: 200 });
  panels.top(at('routes-table'), answer, openDetail);
}

function showAlerts() {
  return panel(at('alerts-list'), async () => panels.alerts(at('alerts-list'), at('alerts-note'), await ask('alerts')));
}

/** The key is in its field and in the header, and nowhere else. */
async function lookUp(event) {
  event.preventDefault();
  const box = at('message-body');
  panels.note(box, 'empty', 'Asking…');
  const id = at('message-id').value.trim();
  try {
    // A header takes Latin letters alone: anything else is no key.
    if (/[^\x20-\x7e]/.test(at('message-key').value)) throw new Error('The key has characters that no key has.');
    const answer = await ask(`messages/${encodeURIComponent(id)}`, {}, { 'X-API-Key': at('message-key').value });
    panels.message(box, answer);
  } catch (error) {
    panels.note(box, 'error', `Not found: ${error.message}`);
  }
}

async function showDetail() {
  if (state.detail === null) return;
  const { dimension, key } = state.detail;
  const query = new URLSearchParams({ dimension });
  for (const value of key) query.append('key', value);
  const more = element('div', {});
  const series = await ask(`series?${query}`);
  if (dimension === 'destination') {
    panels.destination(more, await ask(`destinations/${encodeURIComponent(key[0])}`));
  }
  if (state.detail === null) return;
  const body = at('detail-body');
  if (!body.contains(detailChart)) body.replaceChildren(detailChart, more);
  body.lastElementChild.replaceWith(more);
  draw(detailChart, series);
}

function openDetail(dimension, key) {
  state.detail = { dimension, key };
  at('detail-title').textContent = `${dimension.replaceAll('_', ' ')} ${key.join(' · ')}`;
  at('detail-body').replaceChildren(element('p', { class: 'empty' }, 'Loading…'));
  at('detail').hidden = false;
  at('detail').focus();
  panel(at('detail-body'), showDetail);
}

function closeDetail() {
  state.detail = null;
  at('detail').hidden = true;
  at('top-table').querySelector('button')?.focus();
}

async function update() {
  try {
    state.metrics = await ask('metrics');
  } catch (error) {
    say('away', `No answer from the view: ${error.message}. Trying again.`);
    return;
  }
  fill();
  const { complete, windows } = state.metrics;
  const window = at('window').value;
  say(complete ? 'ok' : 'incomplete', complete ? 'Complete and current' : 'Not complete yet: numbers are still too low');
  const all = { ...windows[window].user };
  for (const [name, count] of Object.entries(windows[window].node)) all[name] = Math.max(count, all[name] ?? 0);
  panels.figures(at('figures'), window, all);
  await Promise.all([
    panel(at('volumes-chart'), async () => draw(at('volumes-chart'), await ask('series', { dimension: 'node' }))),
    panel(at('top-table'), showTop),
    panel(at('providers'), () => showGroup(at('providers'), 'ip_provider', 'provider', 'No mail to any provider.')),
    panel(at('classes'), () => showGroup(at('classes'), 'failure', 'bounce_class', 'No failures.')),
    panel(at('routes-table'), showRoutes),
    panel(at('nodes-table'), async () => panels.nodes(at('nodes-table'), at('sources-table'), await ask('nodes'))),
    showAlerts(),
    panel(at('detail-body'), showDetail),
  ]);
}

async function keepUpdating() {
  if (!document.hidden) await update();
  document.documentElement.dataset.updated = String(Date.now());
  setTimeout(keepUpdating, EVERY_MS);
}

function follow() {
  state.source?.close();
  const type = at('live-type').value;
  state.source = new EventSource(`api/v1/events${type ? `?event_type=${type}` : ''}`);
  state.source.addEventListener('events', (told) => {
    const { events, left_out: leftOut } = JSON.parse(told.data);
    state.live = [...events.reverse(), ...state.live].slice(0, MOST_LIVE);
    at('live-note').textContent = leftOut > 0 ? `${number(leftOut)} more in the last second.` : '';
    if (!state.paused) panels.live(at('live-table'), state.live);
  });
  state.source.addEventListener('alerts', showAlerts);
  state.source.addEventListener('error', () => {
    at('live-note').textContent = 'Interrupted: connecting again…';
    // A browser gives up where it was answered with an error: then we begin anew.
    if (state.source.readyState === EventSource.CLOSED) setTimeout(follow, EVERY_MS);
  });
}

function listen() {
  for (const id of ['window', 'event-type', 'rows']) at(id).addEventListener('change', update);
  at('dimension').addEventListener('change', () => { eventTypes(); update(); });
  at('detail-close').addEventListener('click', closeDetail);
  at('detail').addEventListener('keydown', (event) => { if (event.key === 'Escape') closeDetail(); });
  at('live-type').addEventListener('change', () => { state.live = []; panels.live(at('live-table'), []); follow(); });
  at('message-form').addEventListener('submit', lookUp);
  at('pause').addEventListener('click', () => {
    state.paused = !state.paused;
    at('pause').setAttribute('aria-pressed', String(state.paused));
    if (!state.paused) panels.live(at('live-table'), state.live);
  });
  at('theme').addEventListener('change', () => {
    document.documentElement.dataset.theme = at('theme').value;
    localStorage.setItem('theme', at('theme').value);
    update();
  });
  at('theme').value = localStorage.getItem('theme') ?? 'auto';
  document.documentElement.dataset.theme = at('theme').value;
  document.addEventListener('visibilitychange', () => { if (!document.hidden) update(); });
}

listen();
panels.live(at('live-table'), []);
follow();
keepUpdating();
