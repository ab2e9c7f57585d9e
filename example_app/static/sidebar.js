/** The list of conversations, and the actions on each of them. */

import { ask, toast, trying } from "./dialogs.js";
import { $, copyOf, iconButton, showTime } from "./dom.js";
import { address, list as api, request } from "./server.js";

const PAGE = 30;
const list = $(".conversation-list");

let conversations = []; // the loaded ones of the open shelf, latest first
let nextCursor = null;
let shelf = "active"; // or "archived", "deleted"
let activeId = null;
let on = {}; // handlers of the page: select(id), changed(id), left(nextId)

/** Set the handlers of the page: `select(id)`, `changed(id)` and `left(nextId)`. */
export function connect(handlers) {
  on = handlers;
}

export const first = () => conversations[0]?.id;

/** A conversation without messages: a second click on "New Conversation" creates no second one. */
export const blank = () =>
  conversations.find(({ message_count, title_source }) => message_count === 0 && title_source === "default")?.id;

export async function loadConversations({ further = false } = {}) {
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

/** Show which conversation is open. */
export function markActive(id = activeId) {
  activeId = id;
  for (const item of list.children) {
    const isActive = item.dataset.id === activeId;
    item.classList.toggle("active", isActive);
    item.querySelector(".open").ariaCurrent = isActive ? "true" : null;
  }
}

function itemOf(conversation) {
  const item = copyOf("#conversation-template");
  item.dataset.id = conversation.id;
  const open = item.querySelector(".open");
  open.disabled = shelf === "deleted"; // a conversation in the trash cannot be read, only restored
  open.addEventListener("click", () => trying(() => on.select(conversation.id)));
  item.querySelector(".title").textContent = conversation.title;
  item.querySelector(".preview").textContent = conversation.preview ?? "No messages yet";
  showTime(item.querySelector("time"), conversation.updated_at);
  item.querySelector(".actions").append(...actionsFor(conversation));
  return item;
}

function actionsFor(conversation) {
  const action = (icon, label, run) => {
    const button = iconButton(icon, label, () => trying(() => run(conversation)));
    button.ariaLabel = `${label}: ${conversation.title}`;
    return button;
  };
  if (shelf === "deleted")
    return [action("back", "Restore", restoreConversation), action("delete", "Delete forever", deleteForever)];
  const shelve = shelf === "active" ? ["archive", "Archive", archiveConversation] : ["back", "Unarchive", unarchiveConversation];
  return [action("rename", "Rename", renameConversation), action(...shelve), action("delete", "Delete", confirmDelete)];
}

export const isOpen = (name) => shelf === name;

export async function openShelf(name) {
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

// ------------------------------------------------------------------------------------------------- actions on a conversation

/** Create a conversation under *id*; a repeated call returns the same conversation. */
export async function createConversation(id) {
  return (await request("POST", api, { id })).id;
}

async function renameConversation(conversation) {
  const title = await ask({ title: "Rename", yes: "Rename", value: conversation.title });
  if (!title?.trim() || title === conversation.title) return;
  await request("PATCH", address(conversation.id), { title: title.trim() });
  await on.changed(conversation.id);
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

/** Remove a conversation from the open shelf; if it was active, another one becomes active. */
async function leaveShelf({ id }, said, undo) {
  const place = conversations.findIndex((each) => each.id === id);
  conversations = conversations.filter((each) => each.id !== id);
  showList();
  toast(said, undo && (() => bringBack(id, undo)));
  if (id === activeId) {
    const next = conversations[Math.min(Math.max(place, 0), conversations.length - 1)];
    await on.left(shelf === "deleted" ? undefined : next?.id);
  }
  await loadConversations();
  // the focused element was removed
  if (document.activeElement === document.body) (list.querySelector(".active .open") ?? $("#new")).focus();
}

async function bringBack(id, action) {
  await request("POST", address(id, action), {});
  await loadConversations();
  if (conversations.some((each) => each.id === id)) await on.select(id);
}

// --------------------------------------------------------------------------------------------------------- narrow screens

const open = () => showSidebar(true);
export const closeSidebar = () => showSidebar(false);
export const isSidebarOpen = () => document.body.classList.contains("sidebar-open");

function showSidebar(isOpen) {
  document.body.classList.toggle("sidebar-open", isOpen); // matters on narrow screens only
  $("#shade").hidden = !isOpen;
}

for (const each of document.querySelectorAll("[data-shelf]"))
  each.addEventListener("click", () => trying(() => openShelf(each.dataset.shelf)));
$("#more").addEventListener("click", () => trying(() => loadConversations({ further: true })));
$("#open-sidebar").addEventListener("click", open);
$("#close-sidebar").addEventListener("click", closeSidebar);
$("#shade").addEventListener("click", closeSidebar);
