/** One message on the page: its text, its completeness, and its buttons. */

import { copyOf, element, iconButton, showTime, textButton } from "./dom.js";
import { showParts } from "./parts.js";
import { partsOf, textOf } from "./thread.js";

const NO_CALLS = new Set();

/** The element of a message, to be filled by `showMessage`. */
export function bubbleOf({ id, role, created_at }) {
  const bubble = copyOf("#message-template");
  bubble.classList.add(role);
  bubble.dataset.id = id;
  bubble.querySelector(".author").textContent = role === "user" ? "You" : "Assistant";
  showTime(bubble.querySelector("time"), created_at);
  return bubble;
}

/**
 * Let *bubble* show *message*.
 *
 * *place* is its index among its siblings, *mark* a sentence about its end, and *can* has its actions that are possible at the
 * moment: `decide`, `regenerate`, `edit`, `turnTo`.
 */
export function showMessage(bubble, message, { asked = NO_CALLS, place = null, mark = "", isLast = false, isUnsent = false, can = {} }) {
  if (bubble.querySelector(".editor")) return; // the user is editing it
  bubble.dataset.status = message.status;
  bubble.classList.toggle("unsent", isUnsent);
  showParts(bubble.querySelector(".content"), partsOf(message), { asked, decide: can.decide });
  showOnce(bubble.querySelector(".mark"), mark && [mark, isLast && Boolean(can.regenerate)], () => marked(mark, isLast && can.regenerate));
  const tools = bubble.querySelector(".tools");
  showOnce(tools, [place, Object.keys(can)], () => toolsOf(message, place, can));
}

/** Fill *parent* again if *facts* have changed. */
function showOnce(parent, facts, make) {
  const madeFrom = JSON.stringify(facts);
  if (parent.madeFrom === madeFrom) return;
  parent.madeFrom = madeFrom;
  parent.replaceChildren(...(facts ? make() : []));
}

const marked = (mark, again) => [element("span", "", mark), ...(again ? [textButton("Try again", again)] : [])];

function toolsOf({ role }, place, { turnTo, regenerate, edit }) {
  const tools = [];
  if (place) tools.push(...arrows(place, turnTo));
  if (role === "user" && edit) tools.push(iconButton("rename", "Edit", edit));
  if (role === "assistant" && regenerate) tools.push(iconButton("again", "Regenerate", regenerate));
  return tools;
}

function arrows({ index, count, ids }, turnTo) {
  const arrow = (icon, label, step) => {
    const button = iconButton(icon, label, () => turnTo(ids[index - 1 + step], icon));
    button.disabled = !turnTo || !ids[index - 1 + step];
    return button;
  };
  return [arrow("before", "Previous version", -1), element("span", "place", `${index}/${count}`), arrow("after", "Next version", 1)];
}

/** Replace the text by a field. *save* gets the new text, and resolves to whether the server accepted it. */
export function editMessage(bubble, message, save) {
  const [content, tools] = [".content", ".tools"].map((part) => bubble.querySelector(part));
  const field = element("textarea");
  field.value = textOf(message);
  field.ariaLabel = "Your message, put differently";
  const close = () => {
    editor.remove();
    content.hidden = tools.hidden = false;
    tools.querySelector("button.rename")?.focus();
  };
  const submit = async () => {
    const text = field.value.trim();
    if (text && (await save(text))) close();
  };
  const buttons = element("div", "buttons", textButton("Cancel", close, ""), textButton("Send", submit, "primary"));
  const editor = element("form", "editor", field, buttons);
  editor.addEventListener("submit", (event) => event.preventDefault());
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    if (event.key === "Escape" || event.key === "Enter") event.stopPropagation();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  content.hidden = tools.hidden = true;
  content.after(editor);
  field.focus();
}

export const welcome = () => copyOf("#welcome-template");

/** Three dots, for an empty answer. */
export function thinking() {
  const note = element("p", "note thinking", ...[1, 2, 3].map(() => element("i")));
  note.role = "img";
  note.ariaLabel = "Waiting for the answer";
  return note;
}
