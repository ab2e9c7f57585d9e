/**
 * The sidebar and the chat of one person. What it shows comes from the server, and nothing of it is kept in the browser.
 *
 * Conversations are listed, opened, created, renamed, archived and deleted through the REST API of Flask-Conversations; only
 * a question goes to the app's own route. Whatever people wrote is put on the page as text, never as HTML.
 */

const { user, api, chat, login } = document.body.dataset;
const $ = (selector) => document.querySelector(selector);
const [list, messages, question, send] = ["ul", "#messages", "#question", "#send"].map($);

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
  const query = new URLSearchParams({ status: wanted, order: "-updated_at", limit: "30" });
  if (further && nextCursor) query.set("cursor", nextCursor);
  const page = await request("GET", `${api}?${query}`);
  if (wanted !== shelf) return; // another shelf was opened meanwhile
  conversations = further ? [...conversations, ...page.conversations] : page.conversations;
  nextCursor = page.next_cursor;
  showList();
}

function showList() {
  const focused = document.activeElement?.closest?.(".conversation-list li")?.dataset.id;
  const control = document.activeElement?.className;
  list.replaceChildren(...conversations.map(itemOf));
  list.ariaBusy = "false";
  if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"] [class="${control}"]`)?.focus();
  const empty = { active: "No conversations yet.", archived: "Nothing is archived.", deleted: "The trash is empty." };
  $("#list-note").textContent = conversations.length ? "" : empty[shelf];
  $("#more").hidden = !nextCursor;
}

function itemOf(conversation) {
  const item = $("#conversation-template").content.cloneNode(true).firstElementChild;
  const isActive = conversation.id === activeConversationId;
  item.dataset.id = conversation.id;
  item.classList.toggle("active", isActive);
  const open = item.querySelector(".open");
  open.ariaCurrent = isActive ? "true" : null;
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

function showBlank() {
  activate(null);
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

function activate(id) {
  drafts.set(activeConversationId, question.value);
  activeConversationId = id;
  question.value = drafts.get(id) ?? "";
  history.replaceState(null, "", id ? `#${id}` : location.pathname); // so that a reload opens the same one
  forgive();
  sizeComposer();
  showList();
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
    if (id !== activeConversationId) return;
    const height = messages.scrollHeight;
    button.replaceWith(...page.messages.filter(isSpoken).map(bubbleOf));
    if (page.next_cursor) messages.prepend(earlierButton(id, page.next_cursor));
    messages.scrollTop += messages.scrollHeight - height; // what was being read stays where it is
  });
  return button;
}

function unanswered() {
  const note = noteOf("There is no answer yet. ");
  note.append(buttonOf("Ask again", () => getAnswer(activeConversationId)));
  return note;
}

// ---------------------------------------------------------------------------------------------------------------- asking

async function ask_(text) {}

async function onSend() {
  const text = question.value.trim();
  if (!text || sending()) return;
  question.value = "";
  sizeComposer();
  showQuestion(text);
  waiting.add(activeConversationId);
  try {
    const id = await started();
    await getAnswer(id, text);
  } finally {
    waiting.delete(null);
  }
}
