// @ts-check
/**
 * The live tail of a page: one event stream, paused while the page is hidden, resumed where it was.
 *
 * It shows what it is doing (live, held, reconnecting). Held, it counts what came; following again brings it in.
 */

const LONGEST_HIDDEN = 60_000;
const AGAIN_AFTER = 2_000;

export class Tail {
  /**
   * @param {string} address of the stream
   * @param {number} pause between two refreshes, in milliseconds: a burst of events is one refresh
   * @param {() => void} refreshed called after parts were put in place
   */
  constructor(address, pause, refreshed) {
    this.address = address;
    this.pause = pause;
    this.refreshed = refreshed;
    this.position = Number(document.body.dataset.position ?? 0);
    this.shown = this.position;
    /** What the stream goes on after: the id of the last event that came, or the position of the page. */
    this.last = String(this.position);
    this.held = false;
    this.fresh = 0;
    this.failures = 0;
    this.timer = 0;
    this.busy = false;
    /** @type {EventSource | null} */
    this.source = null;
    this.sign = document.getElementById("tail");
    this.word = document.getElementById("tail-word");
    this.sign?.removeAttribute("hidden");
    document.addEventListener("visibilitychange", () => this.seen());
    addEventListener("pagehide", () => this.close());
    this.hiddenTimer = 0;
    this.open();
    this.again();
  }

  open() {
    if (this.source) return;
    const joint = this.address.includes("?") ? "&" : "?";
    const source = new EventSource(`${this.address}${joint}after=${this.last}`);
    this.source = source;
    source.onmessage = (message) => this.take(message);
    source.onopen = () => this.tell();
    source.onerror = () => this.lost(source);
  }

  /**
   * A broken line is opened anew after the last event: the browser itself would go on after its commit. One that was
   * refused is closed already: then the page finds out why, and goes to the login page when its session is over.
   * @param {EventSource} source
   */
  lost(source) {
    this.tell("Reconnecting", "lost");
    if (this.source !== source) return;
    const refused = source.readyState === EventSource.CLOSED;
    this.close();
    if (!refused) {
      setTimeout(() => document.hidden || this.open(), AGAIN_AFTER);
      return;
    }
    this.failures += 1;
    setTimeout(() => this.refresh().then(() => document.hidden || this.open()), this.patience());
  }

  /** How long to wait before the next try, in milliseconds. */
  patience() {
    return Math.min(15_000, 500 * 2 ** this.failures);
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  seen() {
    clearTimeout(this.hiddenTimer);
    if (document.hidden) this.hiddenTimer = setTimeout(() => this.close(), LONGEST_HIDDEN);
    else this.open();
  }

  /** @param {MessageEvent} message */
  take(message) {
    this.last = JSON.parse(message.data).id;
    const position = Number.parseInt(this.last, 10);
    if (position <= this.shown) return;
    this.position = Math.max(this.position, position);
    this.fresh += 1;
    if (this.held) this.tell();
    else this.later();
  }

  later() {
    if (!this.timer) this.timer = setTimeout(() => this.refresh(), this.pause);
  }

  /** A page that is not whole says after how long it is worth another look. */
  again() {
    const wait = document.querySelector("[data-again]")?.getAttribute("data-again");
    if (wait && !this.timer) this.timer = setTimeout(() => this.refresh(), Number(wait));
  }

  toggle() {
    this.held = !this.held;
    this.tell();
    if (!this.held && this.fresh) this.refresh();
  }

  /** @param {string} [word] @param {string} [kind] */
  tell(word, kind) {
    if (!this.sign || !this.word) return;
    const news = `${this.fresh} new event${this.fresh === 1 ? "" : "s"}`;
    this.word.textContent = word ?? (this.held ? (this.fresh ? `Held, ${news}` : "Held") : "Live");
    this.sign.className = `tail ${kind ?? (this.held ? "held" : "")}`;
  }

  async refresh() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (this.busy) return this.later();
    this.busy = true;
    const position = this.position;
    try {
      const address = new URL(location.href);
      address.hash = "";
      address.searchParams.set("after", String(position));
      // A page that shows a refusal was posted; what is fetched again is the page itself.
      address.pathname = address.pathname.replace(/\/commands$/, "");
      const answer = await fetch(address, { headers: { Accept: "text/html" } });
      if (answer.redirected && new URL(answer.url).pathname.endsWith("/login")) return location.reload();
      if (!answer.ok) throw new Error(`the page answers ${answer.status}`);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      replaceParts(page);
      announce(this.fresh);
      this.shown = Math.max(position, Number(page.body.dataset.position ?? 0));
      this.fresh = 0;
      this.failures = 0;
      this.tell();
      this.refreshed();
      this.again();
    } catch {
      this.failures += 1;
      this.tell("Reconnecting", "lost");
      if (!this.timer) this.timer = setTimeout(() => this.refresh(), this.patience());
    } finally {
      this.busy = false;
    }
    if (this.position > position && this.fresh === 0 && this.position > this.shown) this.later();
  }
}

/** Put the parts that changed in place of the old ones. @param {Document} page */
function replaceParts(page) {
  const menu = document.getElementById("more");
  for (const old of document.querySelectorAll("[data-part]")) {
    const now = page.getElementById(old.id);
    if (!now) continue;
    // An open menu is being read, or filled in: it is not pulled away.
    if (old.id === "head" && menu instanceof HTMLDetailsElement && menu.open) continue;
    const known = new Set(Array.from(old.querySelectorAll("[data-row]"), (row) => row.id));
    for (const details of old.querySelectorAll("details[id]")) {
      const twin = now.querySelector(`#${CSS.escape(details.id)}`);
      if (twin) twin.toggleAttribute("open", details.hasAttribute("open"));
    }
    const chosen = old.querySelector(".chosen[data-row]");
    if (chosen) now.querySelector(`#${CSS.escape(chosen.id)}`)?.classList.add("chosen");
    const focused = old.contains(document.activeElement) ? pathOf(old, document.activeElement) : null;
    const top = old.scrollLeft;
    old.replaceWith(now);
    now.scrollLeft = top;
    if (focused) at(now, focused)?.focus({ preventScroll: true });
    if (known.size) for (const row of now.querySelectorAll("[data-row]")) if (!known.has(row.id)) row.classList.add("fresh");
  }
}

/** Where an element is inside a part, as child numbers. @param {Element} part @param {Element | null} element */
function pathOf(part, element) {
  /** @type {number[]} */
  const path = [];
  for (let one = element; one && one !== part && one.parentElement; one = one.parentElement) {
    path.unshift(Array.prototype.indexOf.call(one.parentElement.children, one));
  }
  return path;
}

/** @param {Element} part @param {number[]} path @returns {HTMLElement | null} */
function at(part, path) {
  /** @type {Element | undefined} */
  let found = part;
  for (const number of path) found = found?.children[number];
  return found instanceof HTMLElement ? found : null;
}

let announced = 0;

/** Tell a screen reader how many events came, at most every five seconds. @param {number} count */
function announce(count) {
  const place = document.getElementById("announcer");
  if (!place || !count || Date.now() - announced < 5000) return;
  announced = Date.now();
  place.textContent = `${count} new event${count === 1 ? "" : "s"}`;
}
