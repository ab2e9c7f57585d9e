/** The field in which questions are written and sent. A question that the server refuses goes back into its field. */

import * as conversation from "./conversation.js";
import { forgive, trying, warn } from "./dialogs.js";
import { $ } from "./dom.js";
import { begin, newId } from "./server.js";
import { createConversation } from "./sidebar.js";

const [question, send, stop] = ["#question", "#send", "#stop"].map($);
const drafts = new Map(); // unsent text, by conversation id
const doubtful = new Map(); // questions that the server may or may not have, by conversation id

async function onSend() {
  const text = question.value.trim();
  const from = conversation.activeId();
  if (!text || conversation.isBusy()) return;
  forgive();
  question.value = "";
  // with the same id, so that the server answers a repeated question once
  const again = doubtful.get(from)?.text === text ? doubtful.get(from) : null;
  const sent = again ?? { text, clientId: newId(), newConversationId: newId(), at: new Date().toISOString() };
  doubtful.delete(from);
  conversation.post(from, sent);
  const id = from ?? (await beginConversation(sent));
  if (id) await ask(id, sent);
}

/** Create a conversation for the first question of a blank one. Returns its id; null if that failed. */
async function beginConversation(sent) {
  try {
    const id = await createConversation(sent.newConversationId);
    const isOpen = conversation.activeId() === null;
    conversation.takeOut(null);
    if (isOpen) {
      drafts.set(id, question.value);
      question.value = "";
      conversation.activate(id);
    }
    conversation.post(id, sent);
    return id;
  } catch (failure) {
    takeBack(null, sent, failure);
    return null;
  }
}

async function ask(id, sent) {
  try {
    await conversation.turn(id, () => begin(id, "messages", { content: sent.text, client_id: sent.clientId }));
  } catch (failure) {
    if (failure.mayWorkLater && (await conversation.wasStored(id, sent))) return;
    takeBack(id, sent, failure);
  }
}

function takeBack(id, sent, failure) {
  console.error(failure);
  if (failure.mayWorkLater) doubtful.set(id, sent);
  conversation.takeOut(id);
  if (id !== conversation.activeId()) return void drafts.set(id, sent.text);
  if (!question.value) question.value = sent.text;
  followComposer();
  warn(failure.message);
}

/** Fit the height of the composer to its text, and enable the buttons that can be used. */
export function followComposer() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
  send.disabled = !question.value.trim() || conversation.isBusy();
  if (stop.contains(document.activeElement) && !conversation.canStop()) question.focus();
  stop.hidden = !conversation.canStop();
}

/** After another conversation is opened: keep the unsent text with its own conversation. */
export function changeDraft(from, to) {
  drafts.set(from, question.value);
  question.value = drafts.get(to) ?? "";
  followComposer();
}

export const focusComposer = () => question.focus();

stop.addEventListener("click", () => trying(conversation.stop));
$("#composer").addEventListener("submit", (event) => {
  event.preventDefault();
  onSend();
});
question.addEventListener("input", followComposer);
question.addEventListener("keydown", (event) => {
  // Enter that confirms a Chinese or Japanese word in an input method sends nothing
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  onSend();
});
