// @ts-check
/**
 * Times that pass while one looks: "12 s ago", how long a step has been running, and its bar in the timeline.
 * The clock is the server's: the page says what time it was when it was made.
 */

const TICK = 500;
const [loaded] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType("navigation"));
const answered = Date.now() - performance.now() + (loaded?.responseStart ?? 0);
/** How far this machine's clock is ahead of the server's, in milliseconds. */
const ahead = answered - Date.parse(document.body.dataset.now ?? "") || 0;

/** The server's time. */
const clock = () => Date.now() - ahead;

/** A duration as the pages write it. @param {number} seconds */
export function took(seconds) {
  if (seconds < 0.9995) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return parts(whole, "min", 60, "s", 1);
  return whole < 86400 ? parts(whole, "h", 3600, "min", 60) : parts(whole, "d", 86400, "h", 3600);
}

/** @param {number} seconds @param {string} unit @param {number} size @param {string} below @param {number} small */
function parts(seconds, unit, size, below, small) {
  const rest = Math.floor((seconds % size) / small);
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${below}` : ""}`;
}

/** @param {number} seconds */
export function ago(seconds) {
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

/** @param {() => void} full called when a running bar has come to the end of its axis */
function tick(full) {
  const now = clock();
  for (const one of document.querySelectorAll("time[data-ago]")) {
    const text = ago((now - Date.parse(one.getAttribute("datetime") ?? "")) / 1000);
    if (one.textContent !== text) one.textContent = text;
  }
  for (const one of document.querySelectorAll("[data-since]")) {
    one.textContent = took(Math.max(0, (now - Date.parse(one.getAttribute("data-since") ?? "")) / 1000));
  }
  for (const bar of document.querySelectorAll("rect[data-grow]")) {
    const svg = bar.closest("svg");
    const made = Number(bar.getAttribute("data-made")) || now;
    bar.setAttribute("data-made", String(made));
    const grown = Number(bar.getAttribute("data-grow")) + ((now - made) / 1000) * Number(svg?.getAttribute("data-scale"));
    const room = Number(bar.getAttribute("data-room"));
    bar.setAttribute("width", String(Math.min(grown, room)));
    if (grown > room) full();
  }
}

/** @param {() => void} full see `tick` */
export function clocks(full) {
  tick(full);
  setInterval(() => document.hidden || tick(full), TICK);
}
