/**
 * The sidebar and the chat of one person. What it shows comes from the server, and nothing of it is kept in the browser.
 *
 * Conversations are listed, opened, created, renamed, archived and deleted through the REST API of Flask-Conversations; only
 * a question goes to the app's own route. Whatever people wrote is put on the page as text, never as HTML.
 */

const PAGE = 30;
const { user, api, chat, login } = document.body.dataset;
const $ = (selector) => document.querySelector(selector);
const [list, messages, question, send] = [".conversation-list", "#messages", "#question", "#send"].map($);

let conversations = []; // those of the open shelf that were loaded, latest first
let nextCursor = null;
let shelf = "active"; // or "archived", "deleted"
let activeConversationId = null; // null: a blank one, created with its first message
let shown = null; // the active conversation as it was last read
const waiting = new Set(); // ids of conversations whose question is being answered
const drafts = new Map(); // what was typed and not sent, by conversation id

// ---------------------------------------------------------------------------------------------------------- the server

class Failure extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function request(method, url, body) {
  const options = body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(url, { method, ...options }).catch(() => {
    throw new Failure("The server cannot be reached.", 0);
  });
  const data = await response.json().catch(() => null);
  if (response.status === 401) return elsewhere(() => location.assign(login));
  if (!response.ok) throw new Failure(data?.error ?? data?.detail ?? `The server answered ${response.status}.`, response.status);
  // in another tab somebody else has logged in: this page is no longer theirs
  if ([data, ...(data.conversations ?? [])].some((each) => each.user_id && each.user_id !== user)) return elsewhere(() => location.reload());
  return data;
}

/** Leave this page; nothing after it happens any more. */
function elsewhere(leave) {
  document.body.hidden = true;
  leave();
  return new Promise(() => {});
}

const address = (id, action) => `${api}/${encodeURIComponent(id)}${action ? `/${action}` : ""}`;

// ------------------------------------------------------------------------------------------------- the conversation list

async function loadConversations({ further = false } = {}) {
  const wanted = shelf;
  const limit = further ? PAGE : Math.min(Math.max(conversations.length, PAGE), 100);
  const query = new URLSearchParams({ status: wanted, order: "-updated_at", limit });
  if (further) query.set("cursor", nextCursor);
  const page = await request("GET", `${api}?${query}`).catch((failure) => {
    list.ariaBusy = "false";
    if (!conversations.length) $("#list-note").textContent = "The list could not be loaded.";
    throw failure;
  });
  if (wanted !== shelf) return; // another shelf was opened meanwhile
  conversations = further ? [...conversations, ...page.conversations] : page.conversations;
  nextCursor = page.next_cursor;
  showList();
}

function showList() {
  const focused = document.activeElement?.closest?.(".conversation-list li")?.dataset.id;
  const control = document.activeElement?.className;
  list.replaceChildren(...conversations.map(itemOf));
  markActive();
  list.ariaBusy = "false";
  if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"] [class="${control}"]`)?.focus();
  const empty = { active: "No conversations yet.", archived: "Nothing is archived.", deleted: "The trash is empty." };
  $("#list-note").textContent = conversations.length ? "" : empty[shelf];
  $("#more").hidden = !nextCursor;
}

function markActive() {
  for (const item of list.children) {
    const isActive = item.dataset.id === activeConversationId;
    item.classList.toggle("active", isActive);
    item.querySelector(".open").ariaCurrent = isActive ? "true" : null;
  }
}

function itemOf(conversation) {
  const item = $("#conversation-template").content.cloneNode(true).firstElementChild;
  item.dataset.id = conversation.id;
  const open = item.querySelector(".open");
  open.disabled = shelf === "deleted"; // what is in the trash cannot be read, only brought back
  open.addEventListener("click", () => trying(() => selectConversation(conversation.id)));
  item.querySelector(".title").textContent = conversation.title;
  item.querySelector(".preview").textContent = conversation.preview ?? "No messages yet";
  showTime(item.querySelector("time"), conversation.updated_at);
  item.querySelector(".actions").append(...actionsFor(conversation));
  return item;
}

function actionsFor(conversation) {
  const action = (icon, label, run) => {
    const button = document.createElement("button");
    button.className = `icon ${icon}`;
    button.title = label;
    button.ariaLabel = `${label}: ${conversation.title}`;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `#i-${icon}`);
    svg.setAttribute("aria-hidden", "true");
    svg.append(use);
    button.append(svg);
    button.addEventListener("click", () => trying(() => run(conversation)));
    return button;
  };
  if (shelf === "deleted")
    return [action("back", "Restore", restoreConversation), action("delete", "Delete forever", deleteForever)];
  const shelve = shelf === "active" ? ["archive", "Archive", archiveConversation] : ["back", "Unarchive", unarchiveConversation];
  return [action("rename", "Rename", renameConversation), action(...shelve), action("delete", "Delete", confirmDelete)];
}

async function openShelf(name) {
  shelf = name;
  for (const each of document.querySelectorAll("[data-shelf]")) each.ariaPressed = String(each.dataset.shelf === name);
  conversations = [];
  nextCursor = null;
  list.replaceChildren();
  list.ariaBusy = "true";
  $("#more").hidden = true;
  $("#list-note").textContent = "Loading…";
  await loadConversations();
}

// ------------------------------------------------------------------------------------------------- what can be done with one

async function createConversation(title) {
  const { id } = await request("POST", api, title ? { title } : {});
  return id;
}

async function renameConversation(conversation) {
  const title = await ask({ title: "Rename", yes: "Rename", value: conversation.title });
  if (!title?.trim() || title === conversation.title) return;
  await request("PATCH", address(conversation.id), { title: title.trim() });
  await refresh(conversation.id);
}

async function archiveConversation(conversation) {
  await request("POST", address(conversation.id, "archive"), {});
  await leaveShelf(conversation, "Archived.", "unarchive");
}

async function unarchiveConversation(conversation) {
  await request("POST", address(conversation.id, "unarchive"), {});
  await leaveShelf(conversation, "Back among the active ones.", "archive");
}

async function confirmDelete(conversation) {
  const text = `“${conversation.title}” goes into the trash, where you can restore it.`;
  if (await ask({ title: "Delete this conversation?", text, yes: "Delete" })) await deleteConversation(conversation.id);
}

async function deleteConversation(id) {
  await request("DELETE", address(id));
  drafts.delete(id);
  await leaveShelf({ id }, "Deleted.", "restore");
}

async function restoreConversation(conversation) {
  await request("POST", address(conversation.id, "restore"), {});
  await leaveShelf(conversation, "Restored.");
}

async function deleteForever(conversation) {
  const text = `“${conversation.title}” and all its messages will be gone. This cannot be undone.`;
  if (!(await ask({ title: "Delete forever?", text, yes: "Delete forever" }))) return;
  await request("DELETE", `${address(conversation.id)}?permanent=true`);
  await leaveShelf(conversation, "Deleted forever.");
}

/** Take a conversation off the open shelf; if it was the active one, another one becomes active. */
async function leaveShelf({ id }, said, undo) {
  const place = conversations.findIndex((each) => each.id === id);
  conversations = conversations.filter((each) => each.id !== id);
  showList();
  toast(said, undo && (() => bringBack(id, undo)));
  if (id === activeConversationId) {
    const next = conversations[Math.min(Math.max(place, 0), conversations.length - 1)];
    if (next && shelf !== "deleted") await selectConversation(next.id);
    else showBlank();
  }
  await loadConversations();
  // what had the focus is gone
  if (document.activeElement === document.body) (list.querySelector(".active .open") ?? $("#new")).focus();
}

async function bringBack(id, action) {
  await request("POST", address(id, action), {});
  await loadConversations();
  if (conversations.some((each) => each.id === id)) await selectConversation(id);
}

/** Read the list again, and the active conversation if it is *id* or has changed. */
async function refresh(id) {
  await loadConversations();
  const listed = conversations.find((each) => each.id === activeConversationId);
  const changed = listed && listed.version !== shown?.version;
  if (activeConversationId && !waiting.has(activeConversationId) && (changed || id === activeConversationId))
    await selectConversation(activeConversationId, { quietly: true });
}

// ----------------------------------------------------------------------------------------------- the active conversation

async function selectConversation(id, { quietly = false } = {}) {
  if (id !== activeConversationId) activate(id);
  if (!quietly) {
    closeSidebar();
    messages.ariaBusy = "true";
    messages.replaceChildren(noteOf("Loading…"));
  }
  const conversation = await request("GET", address(id)).catch((failure) => {
    if (failure.status !== 404) throw failure;
    return null;
  });
  if (id !== activeConversationId) return; // another one was opened meanwhile
  if (conversation) showConversation(conversation);
  else await notFound();
}

async function notFound() {
  showBlank();
  warn("That conversation is no longer there.");
  await loadConversations();
}

function showConversation(conversation) {
  shown = conversation;
  showTitle(conversation);
  messages.replaceChildren(...conversation.messages.filter(isSpoken).map(bubbleOf));
  if (conversation.next_cursor) messages.prepend(earlierButton(conversation.id, conversation.next_cursor));
  if (!conversation.messages.length) messages.replaceChildren(welcome());
  if (waiting.has(conversation.id)) messages.append(thinking());
  else if (conversation.messages.at(-1)?.role === "user") messages.append(unanswered());
  messages.ariaBusy = "false";
  messages.scrollTop = messages.scrollHeight;
}

function showBlank({ keepAddress = false } = {}) {
  activate(null, keepAddress);
  shown = null;
  showTitle({ title: "New Conversation", status: "active" });
  messages.replaceChildren(welcome());
  messages.ariaBusy = "false";
}

function showTitle({ title, status }) {
  $("#title").textContent = title;
  document.title = `${title} · Example chat`;
  $("#badge").hidden = status === "active";
  $("#badge").textContent = status;
}

function activate(id, keepAddress = false) {
  drafts.set(activeConversationId, question.value);
  activeConversationId = id;
  question.value = drafts.get(id) ?? "";
  if (!keepAddress) history.replaceState(null, "", id ? `#${id}` : location.pathname); // a reload opens the same one
  forgive();
  followComposer();
  markActive();
}

const isSpoken = ({ role }) => role === "user" || role === "assistant";

function bubbleOf({ role, content, created_at }) {
  const bubble = $("#message-template").content.cloneNode(true).firstElementChild;
  bubble.classList.add(role);
  bubble.querySelector(".content").textContent = textOf(content);
  bubble.querySelector(".author").textContent = role === "user" ? "You" : "Assistant";
  showTime(bubble.querySelector("time"), created_at);
  return bubble;
}

/** The words of a message, whose content may be a list of parts. */
function textOf(content) {
  if (typeof content === "string") return content;
  return (content ?? []).map((part) => part.text ?? `[${part.type}]`).join("\n");
}

function earlierButton(id, cursor) {
  const button = buttonOf("Show earlier messages", async () => {
    const page = await request("GET", `${address(id, "messages")}?before=${encodeURIComponent(cursor)}`);
    const below = messages.scrollHeight - messages.scrollTop; // what is being read stays where it is
    button.replaceWith(...page.messages.filter(isSpoken).map(bubbleOf));
    if (page.next_cursor && id === activeConversationId) messages.prepend(earlierButton(id, page.next_cursor));
    messages.scrollTop = messages.scrollHeight - below;
  });
  return button;
}

function unanswered() {
  const note = noteOf("There is no answer yet. ");
  note.append(buttonOf("Ask again", () => getAnswer(activeConversationId)));
  return note;
}

// --------------------------------------------------------------------------------------------------------------- asking

async function onSend() {
  const text = question.value.trim();
  const from = activeConversationId;
  if (!text || waiting.has(from)) return;
  forgive();
  question.value = "";
  const bubble = bubbleOf({ role: "user", content: text, created_at: new Date().toISOString() });
  bubble.classList.add("unsent");
  removeAll(".welcome, .note");
  messages.append(bubble, thinking());
  messages.scrollTop = messages.scrollHeight;
  waiting.add(from);
  followComposer();
  const id = from ?? (await begin(text, bubble));
  if (id) await getAnswer(id, text);
}

/** The id of the conversation that the first message of a blank one begins; null if that failed. */
async function begin(text, bubble) {
  try {
    const id = await createConversation();
    if (activeConversationId === null) {
      drafts.set(id, question.value);
      question.value = "";
      activate(id);
    }
    return id;
  } catch (failure) {
    if (bubble.isConnected) showBlank();
    takeBack(null, text, failure);
    return null;
  } finally {
    waiting.delete(null);
  }
}

/** Let the last question of a conversation be answered; *text* is that question, unless it is stored already. */
async function getAnswer(id, text) {
  waiting.add(id);
  followComposer();
  try {
    const { message } = await request("POST", chat, { conversation_id: id, ...(text && { message: text }) });
    waiting.delete(id);
    await loadConversations();
    if (id === activeConversationId) showAnswer(message);
  } catch (failure) {
    waiting.delete(id);
    await recover(id, text, failure);
  } finally {
    followComposer();
  }
}

function showAnswer(message) {
  const listed = conversations.find(({ id }) => id === activeConversationId);
  if (listed) shown = listed;
  if (listed) showTitle(listed);
  removeAll(".note");
  messages.querySelector(".unsent")?.classList.remove("unsent");
  messages.append(bubbleOf(message));
  messages.scrollTop = messages.scrollHeight;
}

/** After a failure: show what is stored. A question that is not among it goes back to where it was typed. */
async function recover(id, text, failure) {
  let stored = null;
  try {
    stored = await request("GET", address(id));
    if (id === activeConversationId) showConversation(stored);
    await loadConversations();
  } catch (another) {
    console.error(another);
    if (id === activeConversationId) removeAll(".thinking, .unsent");
  }
  const last = stored?.messages.at(-1);
  const isStored = last?.role === "user" && textOf(last.content).trim() === text;
  takeBack(id, isStored ? undefined : text, failure);
}

function takeBack(id, text, failure) {
  console.error(failure);
  if (id !== activeConversationId) return void (text && drafts.set(id, text));
  if (text && !question.value) question.value = text;
  followComposer();
  warn(failure.message);
}

function thinking() {
  const note = noteOf("");
  note.classList.add("thinking");
  note.append(...[1, 2, 3].map(() => document.createElement("i")));
  note.ariaLabel = "Waiting for the answer";
  return note;
}

/** Keep the composer as high as its text, and the button in step with whether there is something to send. */
function followComposer() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
  send.disabled = !question.value.trim() || waiting.has(activeConversationId);
}

// ------------------------------------------------------------------------------------------------- small parts of the page

function showTime(element, iso) {
  const then = new Date(iso);
  const days = (new Date().setHours(0, 0, 0, 0) - new Date(then).setHours(0, 0, 0, 0)) / 86_400_000;
  const form = days < 1 ? { timeStyle: "short" } : days < 7 ? { weekday: "short" } : { dateStyle: "medium" };
  element.dateTime = iso;
  element.title = then.toLocaleString();
  element.textContent = new Intl.DateTimeFormat(undefined, form).format(then);
}

function noteOf(text) {
  const note = document.createElement("p");
  note.className = "note";
  note.textContent = text;
  return note;
}

function buttonOf(label, run) {
  const button = document.createElement("button");
  button.className = "quiet";
  button.textContent = label;
  button.addEventListener("click", async () => {
    button.disabled = true;
    await trying(run);
    button.disabled = false;
  });
  return button;
}

const removeAll = (selector) => messages.querySelectorAll(selector).forEach((each) => each.remove());
const welcome = () => $("#welcome-template").content.cloneNode(true);

/** Ask in a dialog: the text of its field, or true where it has none; false if it was cancelled. */
function ask({ title, text = "", yes, value }) {
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

function toast(text, undo) {
  const [element, button] = [$("#toast"), $("#toast button")];
  element.querySelector("span").textContent = text;
  button.hidden = !undo;
  button.onclick = () => {
    element.hidden = true;
    trying(undo);
  };
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (element.hidden = true), 10_000);
}

/** Do what was asked for; if it fails, say so and offer to try again. */
async function trying(run) {
  forgive();
  try {
    await run();
  } catch (failure) {
    console.error(failure);
    messages.ariaBusy = "false";
    warn(failure.message, () => trying(run));
  }
}

function warn(text, again) {
  $("#alert span").textContent = text;
  $("#alert button").hidden = !again;
  $("#alert button").onclick = again;
  $("#alert").hidden = false;
}

function forgive() {
  $("#alert").hidden = true;
}

const openSidebar = () => showSidebar(true);
const closeSidebar = () => showSidebar(false);

function showSidebar(open) {
  document.body.classList.toggle("sidebar-open", open); // matters on narrow screens only
  $("#shade").hidden = !open;
}

// ----------------------------------------------------------------------------------------------------------------- start

async function newConversation() {
  if (shelf !== "active") await openShelf("active");
  const blank = conversations.find(({ message_count, title_source }) => message_count === 0 && title_source === "default");
  const id = blank?.id ?? (await createConversation()); // a second click makes no second blank one
  await loadConversations();
  await selectConversation(id);
  question.focus();
}

async function start() {
  await loadConversations();
  const wanted = decodeURIComponent(location.hash.slice(1)) || conversations[0]?.id;
  if (wanted) await selectConversation(wanted);
}

$("#new").addEventListener("click", async () => {
  $("#new").disabled = true;
  await trying(newConversation);
  $("#new").disabled = false;
});
for (const each of document.querySelectorAll("[data-shelf]"))
  each.addEventListener("click", () => trying(() => openShelf(each.dataset.shelf)));
$("#more").addEventListener("click", () => trying(() => loadConversations({ further: true })));
$("#open-sidebar").addEventListener("click", openSidebar);
$("#close-sidebar").addEventListener("click", closeSidebar);
$("#shade").addEventListener("click", closeSidebar);
$("#dialog-no").addEventListener("click", () => $("#dialog").close(""));
$("#composer").addEventListener("submit", (event) => {
  event.preventDefault();
  onSend();
});
question.addEventListener("input", followComposer);
question.addEventListener("keydown", (event) => {
  // Enter that ends the choice of a Chinese or Japanese word sends nothing
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  onSend();
});
document.addEventListener("keydown", (event) => event.key === "Escape" && closeSidebar());
// another device may have changed something while nobody looked here
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && trying(refresh));
// the browser brings a page back as it was left: somebody else may be logged in by now
window.addEventListener("pageshow", (event) => event.persisted && elsewhere(() => location.reload()));

showBlank({ keepAddress: true });
trying(start);
