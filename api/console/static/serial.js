// @ts-check
/** The serial console of a guest, by xterm.js: 80 columns and 24 rows, as a guest takes a serial line to have. */

import { line } from "./line.js";

const nonce = /** @type {HTMLScriptElement} */ (document.querySelector("script[nonce]")).nonce;

// xterm.js writes its style sheets at run time. The page's policy takes those that bear its nonce, and no others.
const create = document.createElement.bind(document);
document.createElement = /** @type {typeof document.createElement} */ ((/** @type {string} */ name, /** @type {any} */ options) => {
  const element = create(name, options);
  if (name === "style") element.nonce = nonce;
  return element;
});

const { Terminal } = await import("../vendor/xterm/xterm.mjs");
const place = /** @type {HTMLElement} */ (document.getElementById("console"));

/** The largest letters with which the whole of it fits: a cell is about 0.6 by 1.2 of a letter's size. */
const fitting = () => Math.max(6, Math.min(22, (place.clientWidth - 60) / 48.5, (place.clientHeight - 60) / 29));

const terminal = new Terminal({
  cols: 80,
  rows: 24,
  cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
  fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
  fontSize: fitting(),
  scrollback: 5000,
  theme: { background: "#0b0e12", foreground: "#e5e9ee", cursor: "#6ea8ff", selectionBackground: "#2f4a7a" },
});
terminal.open(place);
addEventListener("resize", () => (terminal.options.fontSize = fitting()));

const socket = line("serial");
const encoder = new TextEncoder();
/** @param {Uint8Array} data */
const send = (data) => socket.readyState === WebSocket.OPEN && socket.send(data);
terminal.onData((/** @type {string} */ text) => send(encoder.encode(text)));
terminal.onBinary((/** @type {string} */ text) => send(Uint8Array.from(text, (one) => one.charCodeAt(0))));
socket.addEventListener("open", () => terminal.focus());
socket.addEventListener("message", (message) => terminal.write(new Uint8Array(message.data)));
socket.addEventListener("close", () => (terminal.options.disableStdin = true));
