/** Stacked bars over time by uPlot, with the numbers of what is pointed at, and as a table for who cannot see. */

/* global uPlot */

const HEIGHT = 220;
const FONT = '11px system-ui, sans-serif';
/** What the axis of counts may step by: no half events. */
const STEPS = [...Array(15).keys()].flatMap((power) => [1, 2, 5].map((step) => step * 10 ** power));

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export const number = (value) => value.toLocaleString('en');

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString('en-GB');

/** A time of day, with the date if it is another day. */
export function moment(seconds) {
  const date = new Date(seconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock(seconds) : `${date.toLocaleDateString('sv-SE')} ${clock(seconds).slice(0, 5)}`;
}

function numbers(series, names) {
  const head = element('tr', {}, element('th', { scope: 'col' }, 'Time'));
  for (const name of names) head.append(element('th', { scope: 'col', class: 'number' }, name));
  const body = element('tbody');
  series.times.forEach((time, place) => {
    const row = element('tr', {}, element('th', { scope: 'row' }, clock(time)));
    for (const name of names) row.append(element('td', { class: 'number' }, number(series.events[name][place])));
    body.append(row);
  });
  const table = element('table', {}, element('thead', {}, head), body);
  return element('details', {}, element('summary', {}, 'As a table'), element('div', { class: 'scroll' }, table));
}

/** The colour of an event type, or of a part of the page, as the style sheet has it now. */
function colour(name) {
  const style = getComputedStyle(document.documentElement);
  return style.getPropertyValue(`--${name}`) || style.getPropertyValue('--quiet');
}

const AXIS = { stroke: () => colour('quiet'), font: FONT, ticks: { show: false } };

/** Bars begin at their time; each is drawn from zero, the highest sums first, so that they stack. */
function options(names, step, width, pointed) {
  const paths = uPlot.paths.bars({ align: 1, size: [0.9] });
  const bar = (name) => ({ label: name, paths, fill: () => colour(name), width: 0, points: { show: false } });
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: {
      x: { range: (_, first, last) => [first, last + step] },
      y: { range: (_, __, highest) => [0, Math.max(1, highest) * 1.05] },
    },
    axes: [
      { ...AXIS, size: 26, grid: { show: false }, values: (_, times) => times.map((time) => clock(time).slice(0, 5)) },
      {
        ...AXIS,
        incrs: STEPS,
        grid: { stroke: () => colour('line'), width: 1 },
        size: (_, texts) => 16 + 7 * Math.max(0, ...(texts ?? []).map((text) => text.length)),
        values: (_, counts) => counts.map(number),
      },
    ],
    series: [{}, ...names.map(bar).reverse()],
    hooks: { setCursor: [pointed] },
  };
}

/** The columns that uPlot wants: the times, then each name's sum with those of the names before it. */
function stacked(series, names) {
  let below = series.times.map(() => 0);
  const sums = names.map((name) => {
    below = below.map((sum, place) => sum + series.events[name][place]);
    return below;
  });
  return [series.times, ...sums.reverse()];
}

/** One chart in its box, for as long as the box has the same names to show. */
class Chart {
  constructor(box, names, series) {
    this.names = names;
    this.step = series.step_s;
    this.legend = element('ul', { class: 'legend', 'aria-label': 'Events in this time' });
    this.canvas = element('div', { 'aria-hidden': 'true' });
    this.table = element('details');
    box.replaceChildren(this.legend, this.canvas, this.table);
    const asked = options(names, this.step, this.width(), () => this.tell());
    this.plot = new uPlot(asked, stacked(series, names), this.canvas);
  }

  fits(box, names, series) {
    return box.contains(this.canvas) && this.step === series.step_s && this.names.join() === names.join();
  }

  width() {
    return Math.max(320, this.canvas.clientWidth);
  }

  show(series) {
    this.series = series;
    if (this.plot.width !== this.width()) this.plot.setSize({ width: this.width(), height: HEIGHT });
    this.plot.setData(stacked(series, this.names));
    this.tell();
    const table = numbers(series, this.names);
    table.open = this.table.open;
    this.table.replaceWith(table);
    this.table = table;
  }

  /** Tells the numbers of the time that is pointed at, else of all of it. */
  tell() {
    if (this.series === undefined) return;
    const { times, events } = this.series;
    const place = this.plot.cursor.idx ?? null;
    const minutes = Math.round((times.length * this.step) / 60);
    const when = place === null ? `Last ${minutes} minutes:` : `${clock(times[place])}:`;
    const items = this.names.map((name) => {
      const count = place === null ? events[name].reduce((sum, value) => sum + value, 0) : events[name][place];
      return element('li', {}, element('span', { class: `swatch fill-${name}` }), `${name} ${number(count)}`);
    });
    this.legend.replaceChildren(element('li', {}, when), ...items);
  }
}

const charts = new WeakMap();

/** Draws the answer of /api/v1/series into a box of the page. */
export function draw(box, series) {
  const names = Object.keys(series.events);
  if (names.length === 0) {
    box.replaceChildren(element('p', { class: 'empty' }, 'No events in this time.'));
    return;
  }
  let chart = charts.get(box);
  if (!chart?.fits(box, names, series)) {
    chart?.plot.destroy();
    chart = new Chart(box, names, series);
    charts.set(box, chart);
  }
  chart.show(series);
}
