/** The open conversation: its messages, and the turn that is followed in it. The state on the server is authoritative. */

import { announce, forgive, trying, warn } from "./dialogs.js";
import { $, arrange, noteOf, textButton } from "./dom.js";
import { follow, isLive, pause, persist } from "./following.js";
import { bubbleOf, editMessage, showMessage, thinking, welcome } from "./message.js";
import { address, begin, newId, readState, request } from "./server.js";
import { closeSidebar, loadConversations, markActive } from "./sidebar.js";
import { apply, blankThread, decided, partsOf, textOf, threadOf } from "./thread.js";

const messages = $("#messages");

let activeConversationId = null; // null: a blank conversation, created with its first message
let thread = blankThread();
let following = null; // the controller of the turn that is followed here
let reading = 0; // rises with each action that makes older answers of the server obsolete
let bubbles = new Map(); // elements by message
let on = { activated() {}, drawn() {} };
const beginning = new Set(); // ids of conversations with a request that begins a turn
const outbox = new Map(); // questions that are being sent, by conversation
const leftAlone = new Set(); // conversations with an active turn that are not open

/** Set the handlers: `activated(from, to)` after another conversation is opened, `drawn()` after each drawing. */
export function connect(handlers) {
  on = handlers;
}

export const activeId = () => activeConversationId;

/** Whether a turn is active, or about to begin. */
const isAnswering = () => following !== null || beginning.has(activeConversationId) || isLive(thread);

/** Whether a question has to wait. */
export const isBusy = () =>
  isAnswering() || outbox.has(activeConversationId) || thread.state === "awaiting_approval";

/** Whether there is a turn to be stopped. */
export const canStop = () => following !== null || isLive(thread) || thread.state === "awaiting_approval";

// ----------------------------------------------------------------------------------------------------- opening and reading

export async function selectConversation(id) {
  if (id !== activeConversationId) activate(id);
  closeSidebar();
  if (following) return; // it is up to date
  messages.ariaBusy = "true";
  messages.replaceChildren(noteOf("Loading…"));
  await read(id);
}

export function showBlank({ keepAddress = false } = {}) {
  activate(null, keepAddress);
  messages.ariaBusy = "false";
  draw();
}

export function activate(id, keepAddress = false) {
  if (following && activeConversationId) leftAlone.add(activeConversationId);
  following?.abort();
  following = null;
  reading += 1;
  const from = activeConversationId;
  activeConversationId = id;
  thread = blankThread();
  bubbles = new Map();
  showLost(false);
  announce("");
  if (!keepAddress) history.replaceState(null, "", id ? `#${id}` : location.pathname); // a reload opens the same conversation
  forgive();
  markActive(id);
  on.activated(from, id);
}

/** Read and show the open conversation, and follow its active turn. */
async function read(id) {
  const mine = (reading += 1);
  const found = await stateOrNull(id);
  if (mine !== reading || id !== activeConversationId) return; // another action began meanwhile
  if (!found) return await notFound();
  takeIn(found);
  if (isLive(thread)) trying(() => watch(id));
}

async function stateOrNull(id) {
  try {
    return await readState(id, null);
  } catch (failure) {
    if (failure.status === 404) return null;
    throw failure;
  }
}

async function notFound() {
  showBlank();
  warn("That conversation is no longer there.");
  await loadConversations();
}

function takeIn({ state, etag }) {
  thread = threadOf(state, etag, thread);
  messages.ariaBusy = "false";
  draw();
}

/** Poll for changes on the server by another tab or device. */
export async function look() {
  for (const other of leftAlone) await lookElsewhere(other);
  const [id, mine] = [activeConversationId, reading];
  if (!id || isAnswering() || outbox.has(id)) return;
  const found = await readState(id, thread.etag);
  if (!found || mine !== reading || isAnswering()) return;
  takeIn(found);
  if (isLive(thread)) trying(() => watch(id));
  await loadConversations();
}

/** Update the list once a turn that is not followed has ended. */
async function lookElsewhere(id) {
  const found = await stateOrNull(id);
  if (found && isLive(found.state)) return;
  leftAlone.delete(id);
  await loadConversations();
}

/** Show the open conversation again, after a change by this page. */
export async function refresh(id) {
  await loadConversations();
  if (id === activeConversationId && !following) await read(id);
}

// ------------------------------------------------------------------------------------------------------------------ turns

/** Begin a turn by *open*, and follow it. Raises if the server refuses. */
export async function turn(id, open) {
  beginning.add(id);
  reading += 1;
  draw();
  // the pressed button may have been removed
  if (document.activeElement === document.body) messages.focus({ preventScroll: true });
  let response;
  try {
    response = await open();
  } finally {
    beginning.delete(id);
    if (id === activeConversationId) draw();
  }
  if (id === activeConversationId) return void trying(() => watch(id, response));
  response?.body.cancel();
  leftAlone.add(id);
}

/** Follow a turn to its end, and the queued turns after it. */
async function watch(id, response = null) {
  following?.abort();
  const mine = (following = new AbortController());
  const line = { signal: mine.signal, lost: showLost };
  reading += 1;
  draw();
  try {
    do {
      let received = false;
      for await (const event of follow(id, response, line)) {
        if (mine.signal.aborted) return;
        received = true;
        apply(thread, event);
        draw();
        if (event.event === "message.created") quietly(loadConversations);
      }
      response = null;
      const found = await persist(() => readState(id, null, mine.signal), line);
      if (mine.signal.aborted) return;
      takeIn(found);
      if (!received && isLive(thread)) await pause(2, mine.signal);
    } while (isLive(thread));
    announceEnd();
  } catch (failure) {
    if (mine.signal.aborted) return;
    if (failure.status !== 404) throw failure;
    await notFound();
  } finally {
    if (following === mine) {
      following = null;
      showLost(false);
      draw();
    }
  }
  quietly(loadConversations);
}

const quietly = (run) => run().catch((failure) => console.warn(failure.message));

function showLost(isLost) {
  $("#connection").hidden = !isLost;
}

function announceEnd() {
  const last = thread.messages.at(-1);
  if (thread.state === "awaiting_approval") announce("The assistant asks whether a tool may run.");
  else if (last?.role === "assistant") announce(`${textOf(last)} ${markOf(last)}`);
}

/** Cancel the active turn; the answer so far stays. */
export async function stop() {
  const id = activeConversationId;
  const state = await request("POST", address(id, "actions/cancel"), {});
  if (id === activeConversationId && !following) takeIn({ state, etag: null });
}

async function regenerate(message) {
  const id = activeConversationId;
  await trying(() => turn(id, () => begin(id, "actions/regenerate", { message_id: message.id })));
}

function edit(message) {
  const [id, client_id] = [activeConversationId, newId()];
  editMessage(bubbles.get(keyOf(message)), message, async (content) => {
    try {
      await turn(id, () => begin(id, "actions/edit", { message_id: message.id, content, client_id }));
      return true;
    } catch (failure) {
      console.error(failure);
      warn(failure.message);
      return false;
    }
  });
}

async function decide(callId, approved) {
  const id = activeConversationId;
  await trying(async () => {
    decided(thread, callId, approved);
    try {
      await turn(id, () => begin(id, "actions/approve_tools", { tool_call_ids: [callId], approved }));
    } catch (failure) {
      await quietly(() => read(id)); // another tab may have decided it
      throw failure;
    }
  });
}

/** Show another sibling, with the messages after it. */
async function turnTo(messageId, arrow) {
  const id = activeConversationId;
  await trying(async () => {
    await request("POST", address(id, `branches/${encodeURIComponent(messageId)}/switch`), {});
    await read(id);
    [...bubbles.values()].find((each) => each.dataset.id === messageId)?.querySelector(`.${arrow}`)?.focus();
    await loadConversations();
  });
}

// ---------------------------------------------------------------------------------------------------- questions being sent

/** Show a question before the server has it; `{text, clientId, at}`. */
export function post(id, sent) {
  outbox.set(id, sent);
  draw();
  messages.scrollTop = messages.scrollHeight;
}

export function takeOut(id) {
  outbox.delete(id);
  draw();
}

/** Whether the server has stored a question whose request failed. If so, follow the turn. */
export async function wasStored(id, { clientId }) {
  const found = await readState(id, null).catch(() => null);
  const isThere = [...(found?.state.messages ?? []), ...(found?.state.waiting ?? [])].some(({ client_id }) => client_id === clientId);
  if (isThere && id === activeConversationId) {
    takeIn(found);
    if (isLive(thread)) trying(() => watch(id));
  }
  return isThere;
}

// --------------------------------------------------------------------------------------------------------------- drawing

const isSpoken = ({ role }) => role === "user" || role === "assistant";
const keyOf = ({ id, client_id }) => client_id ?? id;

function draw() {
  const isAtEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 60;
  const spoken = thread.messages.filter(isSpoken);
  const unsent = unsentOf(spoken);
  const nodes = [...spoken.filter(isVisible).map((message) => bubbleFor(message, spoken.at(-1))), ...unsent.map(unsentBubble)];
  if (thread.next_cursor) nodes.unshift(earlierButton(thread.next_cursor));
  nodes.push(...notes(spoken, unsent));
  if (messages.ariaBusy !== "true") arrange(messages, nodes.length ? nodes : [messages.querySelector(".welcome") ?? welcome()]);
  if (isAtEnd) messages.scrollTop = messages.scrollHeight;
  messages.dataset.state = isAnswering() || unsent.length ? "answering" : thread.state;
  showTitle(thread.conversation ?? { title: "New Conversation", status: "active" });
  on.drawn();
}

/** An empty answer is shown as three dots. */
const isVisible = (message) => message.status !== "streaming" || partsOf(message).length > 0;

function bubbleFor(message, last) {
  const key = keyOf(message);
  if (!bubbles.has(key)) bubbles.set(key, bubbleOf(message));
  const bubble = bubbles.get(key);
  bubble.dataset.id = message.id;
  const isFree = !isAnswering() && thread.state !== "awaiting_approval" && thread.conversation?.status !== "deleted";
  const asked = new Set(isAnswering() ? [] : thread.pending_actions.map(({ tool_call_id }) => tool_call_id));
  showMessage(bubble, message, {
    asked,
    place: thread.siblings[message.id],
    mark: markOf(message),
    isLast: message === last,
    can: { decide, ...(isFree && { turnTo, regenerate: () => regenerate(message), edit: () => edit(message) }) },
  });
  return bubble;
}

/** The sentence about the end of an incomplete answer. */
function markOf({ id, status, metadata }) {
  if (status === "failed") return metadata?.error?.detail ?? "This question could not be answered.";
  if (status !== "interrupted") return "";
  const isStopped = thread.turn?.answer_id === id && thread.turn.outcome === "cancelled";
  return isStopped ? "You stopped this answer." : "This answer was interrupted and is not complete.";
}

function unsentOf(spoken) {
  const sent = outbox.get(activeConversationId);
  const mine = sent ? [{ id: sent.clientId, client_id: sent.clientId, content: sent.text, created_at: sent.at }] : [];
  const others = thread.waiting.map((each) => ({ id: each.turn_id, created_at: new Date().toISOString(), ...each }));
  const known = new Set(spoken.map(({ client_id }) => client_id).filter(Boolean));
  if (sent && known.has(sent.clientId)) outbox.delete(activeConversationId);
  const all = [...others, ...mine.filter(({ id }) => !others.some(({ client_id }) => client_id === id))];
  return all.filter(({ client_id, kind }) => kind !== "regenerate" && !known.has(client_id));
}

function unsentBubble(given) {
  const message = { ...given, role: "user", status: "pending" };
  const key = keyOf(message);
  if (!bubbles.has(key)) bubbles.set(key, bubbleOf(message));
  showMessage(bubbles.get(key), message, { isUnsent: true });
  return bubbles.get(key);
}

function notes(spoken, unsent) {
  const last = spoken.at(-1);
  if (unsent.length || (isAnswering() && !(last?.role === "assistant" && last.status === "streaming" && isVisible(last))))
    return [messages.querySelector(".thinking") ?? thinking()];
  if (last?.role !== "user" || isAnswering() || thread.state === "awaiting_approval") return [];
  const note = messages.querySelector(".unanswered") ?? noteOf("There is no answer yet. ");
  if (note.classList.contains("unanswered")) return [note];
  note.classList.add("unanswered");
  note.append(textButton("Ask again", () => regenerate(thread.messages.at(-1))));
  return [note];
}

function earlierButton(cursor) {
  const there = messages.querySelector(".earlier");
  if (there?.dataset.cursor === cursor) return there;
  const button = textButton("Show earlier messages", () => trying(() => loadEarlier(cursor)), "quiet earlier");
  button.dataset.cursor = cursor;
  return button;
}

async function loadEarlier(cursor) {
  const id = activeConversationId;
  const page = await request("GET", `${address(id, "messages")}?include=siblings&before=${encodeURIComponent(cursor)}`);
  if (id !== activeConversationId || cursor !== thread.next_cursor) return;
  const below = messages.scrollHeight - messages.scrollTop; // keeps the scroll position
  thread.messages = [...page.messages, ...thread.messages];
  thread.siblings = { ...page.siblings, ...thread.siblings };
  thread.next_cursor = page.next_cursor;
  draw();
  messages.scrollTop = messages.scrollHeight - below;
}

function showTitle({ title, status }) {
  $("#title").textContent = title;
  document.title = `${title} · Example chat`;
  $("#badge").hidden = status === "active";
  $("#badge").textContent = status;
}
