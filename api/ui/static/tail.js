// @ts-check
/**
 * The live tail of a page: one event stream, paused while the page is hidden, resumed where it was.
 *
 * It shows what it is doing (live, held, reconnecting). Held, it counts what came; following again brings it in.
 */

const LONGEST_HIDDEN = 60_000;
const AGAIN_AFTER = 2_000;
const STRETCH_AFTER = 2_000;

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
    /** Whether the open menu kept a new head from its place. */
    this.passed = false;
    this.stretched = 0;
    /** @type {EventSource | null} */
    this.source = null;
    this.sign = document.getElementById("tail");
    this.word = document.getElementById("tail-word");
    this.sign?.removeAttribute("hidden");
    this.sign?.addEventListener("click", () => this.toggle());
    document.addEventListener("toggle", (event) => menuOf(event.target)?.open === false && this.closed(), true);
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

  /** The menu was closed: what came while it was open has passed the head by. */
  closed() {
    if (this.passed && !this.held) this.later();
  }

  /** A page that is not whole says after how long it is worth another look. */
  again() {
    const wait = document.querySelector("[data-again]")?.getAttribute("data-again");
    if (wait && !this.timer) this.timer = setTimeout(() => this.refresh(), Number(wait));
  }

  toggle() {
    this.held = !this.held;
    this.tell();
    if (!this.held && (this.fresh || this.passed)) this.refresh();
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
      const page = await fetched(position);
      if (!page) return location.reload();
      const reading = readingPlace();
      this.passed = !replaceParts(page);
      document.title = page.title;
      announce(this.fresh);
      this.shown = Math.max(position, Number(page.body.dataset.position ?? 0));
      this.fresh = 0;
      this.failures = 0;
      this.tell();
      this.refreshed();
      backTo(reading);
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

  /** What runs has come to the end of its axis: the timeline is drawn anew, and nothing else. */
  async stretch() {
    if (this.held || this.busy || this.timer || Date.now() < this.stretched + STRETCH_AFTER) return;
    this.stretched = Date.now();
    this.busy = true;
    try {
      const page = await fetched(this.position);
      if (page) replaceParts(page, "#timeline");
    } catch {
      // The stream notices too when the line is lost, and says so.
    } finally {
      this.busy = false;
    }
  }
}

/**
 * This page as it is now, once it knows a position; null when the session is over.
 * @param {number} position @returns {Promise<Document | null>}
 */
async function fetched(position) {
  const address = new URL(location.href);
  address.hash = "";
  address.searchParams.set("after", String(position));
  // A page that shows a refusal was posted; what is fetched again is the page itself.
  address.pathname = address.pathname.replace(/\/commands$/, "");
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (answer.redirected && new URL(answer.url).pathname.endsWith("/login")) return null;
  if (!answer.ok) throw new Error(`the page answers ${answer.status}`);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

/** The menu of commands, when that is what it is. @param {EventTarget | null} target */
function menuOf(target) {
  return target instanceof HTMLDetailsElement && target.id === "more" ? target : null;
}

/**
 * Put the parts of a new page in place of the old ones. Whether all of them are.
 * @param {Document} page @param {string} [which] @returns {boolean}
 */
function replaceParts(page, which = "[data-part]") {
  const menu = menuOf(document.getElementById("more"));
  let whole = true;
  for (const old of document.querySelectorAll(which)) {
    const now = page.getElementById(old.id);
    if (!now) continue;
    // An open menu is being read, or filled in: it is not pulled away.
    if (old.id === "head" && menu?.open) {
      whole = false;
      continue;
    }
    const known = new Set(Array.from(old.querySelectorAll("[data-row]"), (row) => row.id));
    for (const details of old.querySelectorAll("details[id]")) {
      const twin = now.querySelector(`#${CSS.escape(details.id)}`);
      if (twin) twin.toggleAttribute("open", details.hasAttribute("open"));
    }
    const chosen = old.querySelector(".chosen[data-row]");
    if (chosen) now.querySelector(`#${CSS.escape(chosen.id)}`)?.classList.add("chosen");
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const twin = focused && twinOf(now, focused);
    const top = old.scrollLeft;
    old.replaceWith(now);
    now.scrollLeft = top;
    twin?.focus({ preventScroll: true });
    if (known.size) for (const row of now.querySelectorAll("[data-row]")) if (!known.has(row.id)) row.classList.add("fresh");
  }
  return whole;
}

/**
 * The same element in the new part: at its place below the nearest id. What stands there by now may be another link, or
 * the button of another command, which must not come under a finger on Enter.
 * @param {Element} part @param {Element} element @returns {HTMLElement | SVGElement | null}
 */
function twinOf(part, element) {
  const named = element.closest("[id]");
  const from = named && (named.id === part.id ? part : part.querySelector(`#${CSS.escape(named.id)}`));
  /** @type {Element | undefined | null} */
  let found = from;
  for (const number of pathOf(named, element)) found = found?.children[number];
  if (!found || !alike(found, element)) {
    found = Array.from(from?.querySelectorAll(element.tagName) ?? []).find((one) => alike(one, element));
  }
  return found instanceof HTMLElement || found instanceof SVGElement ? found : null;
}

/** @param {Element} one @param {Element} other */
function alike(one, other) {
  if (one.tagName !== other.tagName || one.getAttribute("href") !== other.getAttribute("href")) return false;
  return one.tagName !== "BUTTON" || one.textContent === other.textContent;
}

/** Where an element is below another one, as child numbers. @param {Element | null} top @param {Element} element */
function pathOf(top, element) {
  /** @type {number[]} */
  const path = [];
  for (let one = element; one !== top && one.parentElement; one = one.parentElement) {
    path.unshift(Array.prototype.indexOf.call(one.parentElement.children, one));
  }
  return path;
}

/** The row, or the part without rows, at the top of the window, and how high; nothing where new rows are looked for. */
function readingPlace() {
  if (scrollY === 0) return null;
  const head = document.getElementById("head");
  const covered = head && getComputedStyle(head).position === "sticky" ? head.getBoundingClientRect().bottom : 0;
  const places = Array.from(document.querySelectorAll("main [data-row], main [data-part]"));
  const read = places
    .filter((one) => one.matches("[data-row]:not([hidden])") || !one.querySelector("[data-row]"))
    .find((one) => one.getBoundingClientRect().bottom > covered);
  const top = read?.getBoundingClientRect().top ?? 0;
  const whole = top >= covered && read?.matches("[data-row]") && !read.previousElementSibling?.matches("[data-row]");
  return read && !whole ? { id: read.id, top } : null;
}

/**
 * New rows above what is being read do not push it away. What a filter hides by now is nowhere.
 * @param {ReturnType<typeof readingPlace>} place
 */
function backTo(place) {
  const now = place && document.getElementById(place.id);
  if (now?.getClientRects().length) scrollBy(0, now.getBoundingClientRect().top - place.top);
}

let announced = 0;

/** Tell a screen reader how many events came, at most every five seconds. @param {number} count */
function announce(count) {
  const place = document.getElementById("announcer");
  if (!place || !count || Date.now() - announced < 5000) return;
  announced = Date.now();
  place.textContent = `${count} new event${count === 1 ? "" : "s"}`;
}
