/**
 * The sidebar and the chat of one person. What it shows comes from the server, and nothing of it is kept in the browser.
 *
 * All of it goes through the REST API of Flask-Conversations: the list, the messages, and the answers as they are given, which
 * go on at the server whatever becomes of this page. Whatever people wrote is put on the page as text, never as HTML.
 */

import { changeDraft, focusComposer, followComposer } from "./composer.js";
import * as conversation from "./conversation.js";
import { trying } from "./dialogs.js";
import { $ } from "./dom.js";
import { elsewhere, newId } from "./server.js";
import * as sidebar from "./sidebar.js";

const LOOK_EVERY = 3_000;

async function newConversation() {
  const [from, wasBusy] = [conversation.activeId(), conversation.isBusy()];
  if (!sidebar.isOpen("active")) await sidebar.openShelf("active");
  const id = sidebar.blank() ?? (await sidebar.createConversation(newId()));
  await sidebar.loadConversations();
  if (conversation.activeId() !== from || (conversation.isBusy() && !wasBusy)) return; // something was asked meanwhile
  await conversation.selectConversation(id);
  focusComposer();
}

async function start() {
  await sidebar.loadConversations();
  const wanted = decodeURIComponent(location.hash.slice(1)) || sidebar.first();
  if (wanted) await conversation.selectConversation(wanted);
}

/** What other tabs and devices have done shows here too. An unchanged conversation costs a 304. */
async function keepLooking() {
  if (!document.hidden) await conversation.look().catch((failure) => console.warn(failure.message));
  setTimeout(keepLooking, LOOK_EVERY * (0.75 + Math.random() / 2));
}

function onEscape() {
  if (document.querySelector("dialog[open]")) return;
  if (sidebar.isSidebarOpen()) sidebar.closeSidebar();
  else if (conversation.canStop()) trying(conversation.stop);
}

sidebar.connect({
  select: conversation.selectConversation,
  changed: conversation.refresh,
  left: (next) => (next ? conversation.selectConversation(next) : conversation.showBlank()),
});
conversation.connect({ activated: changeDraft, drawn: followComposer });

$("#new").addEventListener("click", async () => {
  $("#new").disabled = true;
  await trying(newConversation);
  $("#new").disabled = false;
});
document.addEventListener("keydown", (event) => event.key === "Escape" && onEscape());
// another device may have changed something while nobody looked here
document.addEventListener("visibilitychange", () => document.hidden || trying(lookAtAll));
// the browser brings a page back as it was left: somebody else may be logged in by now
window.addEventListener("pageshow", (event) => event.persisted && elsewhere(() => location.reload()));

async function lookAtAll() {
  await sidebar.loadConversations();
  await conversation.look();
}

conversation.showBlank({ keepAddress: true });
trying(start).then(() => setTimeout(keepLooking, LOOK_EVERY));
