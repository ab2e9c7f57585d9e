/** Dialogs, notices and warnings for the user. */

import { $ } from "./dom.js";

/** Ask in a dialog. Resolves to the text of its field, or true without a field; false if it was cancelled. */
export function ask({ title, text = "", yes, value }) {
  const [dialog, input] = [$("#dialog"), $("#dialog-input")];
  $("#dialog-title").textContent = title;
  $("#dialog-text").textContent = text;
  $("#dialog-yes").textContent = yes;
  $("#dialog-yes").classList.toggle("danger", value === undefined);
  input.hidden = value === undefined;
  input.value = value ?? "";
  dialog.returnValue = "";
  dialog.showModal();
  input.select();
  const answer = () => dialog.returnValue === "yes" && (value === undefined || input.value);
  return new Promise((done) => dialog.addEventListener("close", () => done(answer()), { once: true }));
}

let toastTimer;

export function toast(text, undo) {
  const [shown, button] = [$("#toast"), $("#toast button")];
  shown.querySelector("span").textContent = text;
  button.hidden = !undo;
  button.onclick = () => {
    shown.hidden = true;
    trying(undo);
  };
  shown.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (shown.hidden = true), 10_000);
}

/** Call *run*; if it fails, show the error and offer to try again. */
export async function trying(run) {
  forgive();
  try {
    await run();
  } catch (failure) {
    console.error(failure);
    $("#messages").ariaBusy = "false";
    warn(failure.message, () => trying(run));
  }
}

export function warn(text, again) {
  $("#alert span").textContent = text;
  $("#alert button").hidden = !again;
  $("#alert button").onclick = again;
  $("#alert").hidden = false;
}

export function forgive() {
  $("#alert").hidden = true;
}

/** Announce a complete answer to screen readers, and not each of its words. */
export function announce(text) {
  $("#announcer").textContent = text;
}

$("#dialog-no").addEventListener("click", () => $("#dialog").close(""));
