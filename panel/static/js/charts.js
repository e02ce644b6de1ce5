// Usage over time: draws the charts of #usage with uPlot from the API's series, and keeps the tables below them true.
// Refreshed while it is looked at; a hidden tab asks for nothing.
(() => {
  "use strict";
  const card = document.getElementById("usage");
  if (!card || typeof uPlot === "undefined") return;
  const lang = document.documentElement.lang || "en";
  const HEIGHT = 170; // as .chart-plot in panel.css: nothing moves when the charts come
  const PAUSE = { "1h": 10, "24h": 60, "7d": 300 }; // seconds between two readings
  const MIB = 1024 ** 2;

  // ---- numbers and times in the reader's way ------------------------------------------------------------------------
  const decimals = [0, 1, 2].map((most) => new Intl.NumberFormat(lang, { maximumFractionDigits: most }));
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  function size(bytes) {
    const step = bytes >= 1 ? Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10)) : 0;
    return `${decimals[1].format(bytes / 1024 ** step)} ${units[step]}`;
  }
  const show = {
    percent: (value) => `${decimals[value < 10 ? 1 : 0].format(value)}%`,
    mib: size,
    rate: (value) => `${size(value)}/s`,
  };
  const told = (unit, value) => (value == null ? "–" : show[unit](value));
  const clock = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const day = new Intl.DateTimeFormat(lang, { month: "short", day: "numeric" });
  const second = new Intl.DateTimeFormat(lang, { timeStyle: "medium", hourCycle: "h23" });
  const moment = new Intl.DateTimeFormat(lang, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const startsDay = (date) => date.getHours() === 0 && date.getMinutes() === 0;
  const timeLabels = (_plot, splits) => splits.map((at) => {
    const date = new Date(at * 1000);
    return startsDay(date) ? day.format(date) : clock.format(date);
  });

  // ---- colours: those of the theme. A custom property is resolved only where something is painted with it -------------
  const painted = (element, property = "color") => getComputedStyle(element)[property];
  const faded = (colour) => colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.12)");
  const muted = () => painted(card.querySelector(".chart-table thead"));
  const grid = () => painted(card.querySelector(".card-head"), "borderBottomColor");

  // Points without a neighbour make no line: they are drawn as dots.
  function lonely(plot, index) {
    const values = plot.data[index];
    const found = [];
    values.forEach((value, i) => value != null && values[i - 1] == null && values[i + 1] == null && found.push(i));
    return found;
  }

  class Chart {
    constructor(box) {
      this.box = box;
      this.unit = box.dataset.unit;
      this.scale = this.unit === "mib" ? MIB : 1;
      this.top = box.dataset.top ? Number(box.dataset.top) * this.scale : null;
      this.rows = [...box.querySelectorAll("tr[data-field]")];
      this.place = box.querySelector(".chart-plot");
      this.tip = box.querySelector(".chart-tip");
      this.plot = new uPlot(this.options(), [[], ...this.rows.map(() => [])], this.place);
      new ResizeObserver(() => this.resize()).observe(this.place);
    }

    options() {
      const axis = { stroke: muted, font: "12px system-ui, sans-serif", ticks: { show: false },
        grid: { stroke: grid, width: 1 } };
      const powers = Array.from({ length: 50 }, (_, power) => 2 ** power);
      return {
        width: this.place.clientWidth, height: HEIGHT, padding: [8, 20, 0, 0], // half a time fits beside the last one
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, sync: { key: "usage" }, points: { size: 6 } },
        scales: {
          x: { time: true, range: () => this.window ?? [0, 1] },
          y: { range: (_plot, _low, high) => [0, this.top ?? Math.max(1024, (high ?? 0) * 1.1)] },
        },
        axes: [
          { ...axis, size: 28, space: 64, values: timeLabels },
          { ...axis, size: 74, space: 34, incrs: this.unit === "percent" ? [25, 50] : powers,
            values: (_plot, splits) => splits.map((value) => told(this.unit, value)) },
        ],
        series: [{}, ...this.rows.map((row, index) => {
          const mark = row.querySelector(".chart-line");
          return { stroke: () => painted(mark), width: 1.5, dash: index ? [5, 3] : undefined,
            fill: index ? undefined : () => faded(painted(mark)),
            points: { show: true, size: 4, filter: lonely, stroke: () => painted(mark), fill: () => painted(mark) } };
        })],
        hooks: { setCursor: [(plot) => this.point(plot.cursor.idx)] },
      };
    }

    /** What is under the pointer: the time and the values. */
    point(index) {
      const at = index == null ? null : this.plot.data[0][index];
      this.tip.replaceChildren();
      if (at == null) return;
      this.tip.append((this.step < 60 ? second : moment).format(new Date(at * 1000)));
      this.rows.forEach((row, place) => this.tip.append(
        row.querySelector(".chart-line").cloneNode(), told(this.unit, this.plot.data[place + 1][index])));
    }

    resize() {
      const width = this.place.clientWidth;
      if (width && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
    }

    update(times, series, step) {
      this.step = step;
      this.window = [times[0], times.at(-1) + step];
      const data = this.rows.map((row) => series[row.dataset.field].map((value) => value == null ? null : value * this.scale));
      this.rows.forEach((row, place) => this.tell(row, data[place]));
      this.plot.setData([times, ...data]);
    }

    /** The same in numbers; the latest is of the last three points, as panel/services/metrics.py has it. */
    tell(row, values) {
      const known = values.filter((value) => value != null);
      const numbers = {
        latest: values.slice(-3).filter((value) => value != null).at(-1),
        lowest: known.length ? known.reduce((a, b) => Math.min(a, b)) : null,
        average: known.length ? known.reduce((a, b) => a + b) / known.length : null,
        highest: known.length ? known.reduce((a, b) => Math.max(a, b)) : null,
      };
      for (const [name, value] of Object.entries(numbers)) {
        const cell = row.querySelector(`[data-number=${name}]`);
        const text = told(this.unit, value);
        if (cell.textContent !== text) cell.textContent = text;
      }
    }
  }

  // ---- reading ------------------------------------------------------------------------------------------------------
  const charts = [...card.querySelectorAll(".chart")].map((box) => new Chart(box));
  const problem = card.querySelector(".usage-problem");
  let timer = null;
  let asked = null; // the request at work; a newer one ends it

  async function read() {
    clearTimeout(timer);
    asked?.abort();
    if (document.hidden) return;
    const mine = (asked = new AbortController());
    const span = card.dataset.span;
    try {
      const answer = await fetch(`${card.dataset.url}?range=${span}`, { signal: mine.signal });
      if (!answer.ok) throw new Error(String(answer.status));
      const { step_seconds: step, start, series } = (await answer.json()).data;
      const first = Date.parse(start) / 1000;
      const times = Object.values(series)[0].map((_value, index) => first + index * step);
      charts.forEach((chart) => chart.update(times, series, step));
      problem.textContent = "";
      card.dataset.shown = span; // what the charts show now
    } catch (error) {
      if (error.name === "AbortError") return;
      problem.textContent = problem.dataset.problem;
    }
    timer = setTimeout(read, PAUSE[span] * 1000);
  }

  card.querySelector(".usage-spans").addEventListener("click", (event) => {
    const link = event.target.closest("a[data-span]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    card.dataset.span = link.dataset.span;
    for (const other of card.querySelectorAll("a[data-span]")) {
      other === link ? other.setAttribute("aria-current", "true") : other.removeAttribute("aria-current");
    }
    history.replaceState(history.state, "", link.href.split("#")[0]);
    read();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : read()));
  const repaint = () => charts.forEach((chart) => chart.plot.redraw(false, true));
  new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
  read();
})();
