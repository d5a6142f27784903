// @ts-check
/** The screen of a guest, by noVNC: scaled to the window, keys and pointer go to the guest. */

import RFB from "../vendor/novnc/core/rfb.js";
import { line } from "./line.js";

const place = /** @type {HTMLElement} */ (document.getElementById("console"));
const reset = /** @type {HTMLButtonElement} */ (document.getElementById("reset"));

const screen = new RFB(place, line("vnc"), { shared: true });
screen.scaleViewport = true;
screen.background = "#14181d";
screen.addEventListener("connect", () => {
  reset.disabled = false;
  place.setAttribute("data-connected", "");
  screen.focus();
});
screen.addEventListener("disconnect", () => {
  reset.disabled = true;
  place.removeAttribute("data-connected");
});
reset.addEventListener("click", () => {
  screen.sendCtrlAltDel();
  screen.focus();
});
