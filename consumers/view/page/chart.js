/** Stacked bars over time as SVG, with a legend, and the same numbers as a table for who cannot see. */

const SVG = 'http://www.w3.org/2000/svg';
const HEIGHT = 220;
const LEFT = 48;
const BOTTOM = 22;
const TOP = 8;

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
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

/** A round number that is at least as high. */
function ceiling(value) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return [1, 2, 4, 6, 8, 10].map((step) => step * unit).find((step) => step >= value);
}

function bars(series, names, highest, width) {
  const svg = shape('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, 'aria-hidden': 'true' });
  const height = HEIGHT - BOTTOM - TOP;
  const step = (width - LEFT) / series.times.length;
  for (const part of [0, 0.5, 1]) {
    const y = TOP + height * (1 - part);
    svg.append(shape('line', { class: 'grid', x1: LEFT, x2: width, y1: y, y2: y }));
    svg.append(shape('text', { class: 'axis', x: LEFT - 6, y: y + 4, 'text-anchor': 'end' }, number(highest * part)));
  }
  series.times.forEach((time, place) => {
    let y = TOP + height;
    for (const name of names) {
      const tall = (series.events[name][place] / highest) * height;
      if (tall > 0) {
        y -= tall;
        svg.append(shape('rect', {
          class: `fill-${name}`, x: LEFT + place * step, y, width: Math.max(1, step - 1), height: tall,
        }));
      }
    }
    if (place % Math.ceil(series.times.length / 8) === 0) {
      svg.append(shape('text', { class: 'axis', x: LEFT + place * step, y: HEIGHT - 6 }, clock(time).slice(0, 5)));
    }
  });
  return svg;
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

/** Draws the answer of /api/v1/series into a box. */
export function draw(box, series) {
  const names = Object.keys(series.events);
  if (names.length === 0) {
    box.replaceChildren(element('p', { class: 'empty' }, 'No events in this time.'));
    return;
  }
  const sums = series.times.map((_, place) => names.reduce((sum, name) => sum + series.events[name][place], 0));
  const legend = element('ul', { class: 'legend', 'aria-label': 'Events in this time' });
  legend.append(element('li', {}, `Last ${Math.round((series.times.length * series.step_s) / 60)} minutes:`));
  for (const name of names) {
    const total = series.events[name].reduce((sum, value) => sum + value, 0);
    legend.append(element('li', {}, element('span', { class: `swatch fill-${name}` }), `${name} ${number(total)}`));
  }
  const open = box.querySelector('details')?.open;
  const table = numbers(series, names);
  table.open = Boolean(open);
  box.replaceChildren(legend, bars(series, names, ceiling(Math.max(...sums)), Math.max(320, box.clientWidth || 960)), table);
}
