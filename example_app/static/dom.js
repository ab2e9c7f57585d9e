/** Small parts of a page. Texts of users and models are inserted as text, never as HTML. */

export const $ = (selector) => document.querySelector(selector);

/** A new element; strings among its children become text. */
export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export const copyOf = (template) => $(template).content.cloneNode(true).firstElementChild;

export const noteOf = (text) => element("p", "note", text);

/** A button that shows an icon of the page. */
export function iconButton(icon, label, run) {
  const button = element("button", `icon ${icon}`, iconOf(icon));
  button.type = "button";
  button.title = label;
  button.ariaLabel = label;
  button.addEventListener("click", run);
  return button;
}

function iconOf(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** A button with a text label; it is disabled while its action runs. */
export function textButton(label, run, className = "quiet") {
  const button = element("button", className, label);
  button.type = "button";
  button.addEventListener("click", async () => {
    button.disabled = true;
    await run();
    button.disabled = false;
  });
  return button;
}

export function showTime(time, iso) {
  const then = new Date(iso);
  const days = (new Date().setHours(0, 0, 0, 0) - new Date(then).setHours(0, 0, 0, 0)) / 86_400_000;
  const form = days < 1 ? { timeStyle: "short" } : days < 7 ? { weekday: "short" } : { dateStyle: "medium" };
  time.dateTime = iso;
  time.title = then.toLocaleString();
  time.textContent = new Intl.DateTimeFormat(undefined, form).format(then);
}

/** Give *parent* exactly *wanted* as its children; existing ones stay untouched. */
export function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, place) => {
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
}

/** Set the text of *node*. If the text has only grown, the rest is appended, so that a selection stays. */
export function showText(node, text) {
  const there = node.firstChild;
  if (there?.data === text) return;
  if (there && text.startsWith(there.data)) there.appendData(text.slice(there.data.length));
  else node.textContent = text;
}
