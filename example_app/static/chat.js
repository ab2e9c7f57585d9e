/**
 * The sidebar and the chat of one user. All data come from the server, and none are kept in the browser.
 *
 * The list, the messages and the streams of answers come from the REST API of Flask-Conversations. An answer goes on at the
 * server after this page is closed. Texts of users and models are put on the page as text, never as HTML.
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
  if (conversation.activeId() !== from || (conversation.isBusy() && !wasBusy)) return; // a question was sent meanwhile
  await conversation.selectConversation(id);
  focusComposer();
}

async function start() {
  await sidebar.loadConversations();
  const wanted = decodeURIComponent(location.hash.slice(1)) || sidebar.first();
  if (wanted) await conversation.selectConversation(wanted);
}

/** Poll for changes of other tabs and devices. An unchanged conversation costs a 304. */
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
// another device may have changed something while this page was hidden
document.addEventListener("visibilitychange", () => document.hidden || trying(lookAtAll));
// the browser restores a page from its cache: another user may be logged in by now
window.addEventListener("pageshow", (event) => event.persisted && elsewhere(() => location.reload()));

async function lookAtAll() {
  await sidebar.loadConversations();
  await conversation.look();
}

conversation.showBlank({ keepAddress: true });
trying(start).then(() => setTimeout(keepLooking, LOOK_EVERY));
