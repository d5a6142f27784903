// @ts-check
/**
 * What the pages do beyond HTML: grow while one looks at them, keep time, and answer keys. Every page works without it.
 *
 * Live growth: the page names its stream (`data-live` on the body). When events arrive, the page is fetched again and the
 * parts that changed (elements with `data-part`) are put in place, keeping what is open, focused and scrolled to.
 */

import { keys } from "./keys.js";
import { clocks } from "./clocks.js";
import { Tail } from "./tail.js";

const body = document.body;

/** Copy buttons and chips are there for scripts only. */
function reveal() {
  for (const button of document.querySelectorAll("button[data-copy], button[data-show]")) button.removeAttribute("hidden");
}

/** @param {string} what */
function show(what) {
  for (const chip of document.querySelectorAll(".chip[data-show]")) {
    const chosen = chip.getAttribute("data-show") === what;
    chip.classList.toggle("chosen", chosen);
    chip.setAttribute("aria-pressed", String(chosen));
  }
  for (const row of document.querySelectorAll("#actions [data-row]")) {
    const seen = what === "all" || row.hasAttribute(`data-${what}`);
    row.toggleAttribute("hidden", !seen);
  }
  const none = !document.querySelector("#actions [data-row]:not([hidden])");
  document.getElementById("none-shown")?.toggleAttribute("hidden", what === "all" || !none);
}

document.addEventListener("click", (event) => {
  const target = /** @type {Element} */ (event.target);
  const copy = target.closest("button[data-copy]");
  if (copy) navigator.clipboard?.writeText(copy.getAttribute("data-copy") ?? "").then(() => (copy.textContent = "copied"));
  const chip = target.closest("[data-show]");
  if (chip) show(chip.getAttribute("data-show") ?? "all");
  const menu = document.getElementById("more");
  if (menu instanceof HTMLDetailsElement && menu.open && !menu.contains(target)) menu.open = false;
  const row = target.closest(".actions tr.row");
  if (row && !target.closest("a, button")) row.parentElement?.querySelector("details")?.toggleAttribute("open");
  const lane = target.closest("a.lane");
  if (lane) open(document.querySelector(lane.getAttribute("href") ?? ""));
});

/** Open the row that the address names. @param {Element | null} row */
function open(row) {
  row?.querySelector("details")?.setAttribute("open", "");
}

reveal();
const tail = body.dataset.live ? new Tail(body.dataset.live, Number(body.dataset.refresh ?? 300), () => {
  reveal();
  show(document.querySelector(".chip.chosen[data-show]")?.getAttribute("data-show") ?? "all");
}) : null;
clocks(() => tail?.stretch());
keys(tail);
if (/^#a-\d+$/.test(location.hash)) open(document.querySelector(location.hash));
