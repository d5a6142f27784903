// @ts-check
/** What both console pages share: the WebSocket of the page's token, and the words around it. */

const state = document.getElementById("state");
const word = document.getElementById("state-word");

/** The open line to the guest; when it closes, the page says why. @param {string} kind */
export function line(kind) {
  const token = encodeURIComponent(document.body.dataset.token ?? "");
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/console/${kind}?token=${token}`, ["binary"]);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => tell("Connected", ""));
  socket.addEventListener("close", (event) => {
    tell("Closed", "lost");
    const why = document.getElementById("why");
    if (why) why.textContent = event.reason || "The connection to the guest is lost.";
    document.getElementById("closed")?.removeAttribute("hidden");
    /** @type {HTMLElement | null} */ (document.querySelector("#closed .button"))?.focus();
  });
  document.getElementById("whole")?.addEventListener("click", () => document.getElementById("main")?.requestFullscreen());
  return socket;
}

/** @param {string} text @param {string} kind */
function tell(text, kind) {
  if (word) word.textContent = text;
  if (state) state.className = `tail ${kind}`;
}
