// @ts-check
/** The keyboard: rows, failures, filters, follow, help. Never while one is typing. */

/** @typedef {import("./tail.js").Tail} Tail */

const rows = () => /** @type {HTMLElement[]} */ (Array.from(document.querySelectorAll("[data-row]:not([hidden])")));
const chosen = () => rows().findIndex((row) => row.classList.contains("chosen"));

/** @param {number} number */
function choose(number) {
  const all = rows();
  if (!all.length) return;
  const row = all[Math.max(0, Math.min(all.length - 1, number))];
  for (const one of all) one.classList.toggle("chosen", one === row);
  row.scrollIntoView({ block: "nearest" });
}

function enter() {
  const row = rows()[chosen()];
  const details = row?.querySelector("details");
  if (details) details.toggleAttribute("open");
  else /** @type {HTMLAnchorElement | null} */ (row?.querySelector("a"))?.click();
}

function nextFailure() {
  const all = rows();
  const failed = all.flatMap((row, number) => (row.hasAttribute("data-failed") ? [number] : []));
  if (!failed.length) return;
  const next = failed.find((number) => number > chosen()) ?? failed[0];
  choose(next);
  all[next].querySelector("details")?.setAttribute("open", "");
}

function copyLink() {
  const row = rows()[chosen()];
  const address = new URL(location.href);
  if (row) address.hash = row.id;
  navigator.clipboard?.writeText(address.href);
}

/** @param {Tail | null} tail */
export function keys(tail) {
  const help = /** @type {HTMLDialogElement | null} */ (document.getElementById("help"));
  /** @type {Record<string, () => void>} */
  const actions = {
    j: () => choose(chosen() + 1),
    k: () => choose(chosen() < 0 ? 0 : chosen() - 1),
    Enter: enter,
    f: nextFailure,
    g: () => choose(0),
    G: () => choose(rows().length - 1),
    "/": () => document.getElementById("filter")?.focus(),
    ".": () => tail?.toggle(),
    c: copyLink,
    "?": () => help?.showModal(),
    "[": () => /** @type {HTMLAnchorElement | null} */ (document.querySelector("a[rel=prev]"))?.click(),
    "]": () => /** @type {HTMLAnchorElement | null} */ (document.querySelector("a[rel=next]"))?.click(),
    Escape: () => {
      for (const menu of document.querySelectorAll("details.menu[open]")) {
        if (menu.contains(document.activeElement)) menu.querySelector("summary")?.focus();
        menu.removeAttribute("open");
      }
    },
  };
  const button = document.getElementById("keys");
  button?.removeAttribute("hidden");
  button?.addEventListener("click", () => help?.showModal());
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || help?.open) return;
    if (target.matches("input, select, textarea") && event.key !== "Escape") return;
    if (event.key === "Enter" && target.matches("a, button, summary")) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
