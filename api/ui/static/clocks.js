// @ts-check
/**
 * Times that pass while one looks: "12 s ago", how long a step has been running, and its bar in the timeline.
 * The clock is the server's: the page says what time it was when it was made.
 */

const TICK = 500;

/** A duration as the pages write it. @param {number} seconds */
export function took(seconds) {
  if (seconds < 0.9995) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

/** @param {number} seconds */
export function ago(seconds) {
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

function tick() {
  const now = Date.now();
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
    bar.setAttribute("width", String(Math.min(grown, Number(bar.getAttribute("data-room")))));
  }
}

export function clocks() {
  tick();
  setInterval(() => document.hidden || tick(), TICK);
}
