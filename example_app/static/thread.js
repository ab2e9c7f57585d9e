/** A conversation as the page shows it: the last state from the server, with the later events of a turn. */

/** The thread of a *state* from the server. It keeps the earlier messages that were loaded in *before*. */
export function threadOf(state, etag, before = null) {
  const earlier = before?.conversation?.id === state.conversation.id ? messagesBefore(before, state.messages[0]) : [];
  return {
    ...state,
    etag,
    messages: [...earlier, ...state.messages],
    siblings: { ...(earlier.length && before.siblings), ...state.siblings },
    next_cursor: earlier.length ? before.next_cursor : state.next_cursor,
  };
}

/** A conversation that is not on the server yet. */
export const blankThread = () => ({
  conversation: null, etag: null, messages: [], siblings: {}, next_cursor: null,
  state: "idle", turn: null, pending_actions: [], waiting: [],
});

function messagesBefore({ messages }, first) {
  const place = messages.findIndex(({ id }) => id === first?.id);
  return place > 0 ? messages.slice(0, place) : [];
}

/** Apply an event of a turn to *thread*. */
export function apply(thread, { event, data, etag }) {
  if (event === "read") return void Object.assign(thread, threadOf(data, etag, thread));
  if (event === "state") return void enter(thread, data.state);
  if (event === "message.created" || event === "message.completed") return void place(thread, data);
  if (event === "message.started") return void start(thread, data);
  const message = thread.messages.find(({ id }) => id === data.message_id);
  if (message) grow(message, event, data);
}

function enter(thread, state) {
  thread.state = state === "waiting" ? "processing" : state;
  if (state !== "awaiting_approval") thread.pending_actions = [];
}

/** Record the decision about a tool call. */
export function decided(thread, callId, approved) {
  thread.pending_actions = thread.pending_actions.filter(({ tool_call_id }) => tool_call_id !== callId);
  for (const message of thread.messages)
    message.parts = message.parts?.map((part) =>
      part.type === "tool_call" && part.id === callId ? { ...part, approval: approved ? "approved" : "denied" } : part,
    );
}

/** Replace a message, or put it after its parent. The messages that were there belong to another branch. */
function place(thread, message) {
  const there = thread.messages.findIndex((each) => isSame(each, message));
  if (there >= 0) return void (thread.messages[there] = message);
  const parent = thread.messages.findIndex(({ id }) => id === message.parent_id);
  if (parent >= 0) thread.messages.length = parent + 1;
  else if (!message.parent_id) thread.messages.length = 0;
  thread.messages.push(message);
}

const isSame = (a, b) => a.id === b.id;

/** An answer streams again from its beginning. Its text so far stays until the first delta. */
function start(thread, message) {
  const shown = thread.messages.find((each) => isSame(each, message));
  place(thread, shown ? { ...shown, status: "streaming", restarted: true } : message);
}

function grow(message, event, data) {
  const { message_id: _, ...said } = data;
  if (message.restarted) Object.assign(message, { restarted: false, content: "", parts: null });
  message.parts = [...partsOf(message)];
  if (event === "message.delta") growText(message.parts, "text", data.delta);
  else if (event === "message.reasoning") growText(message.parts, "reasoning", data.delta);
  else message.parts.push(said);
}

function growText(parts, type, delta) {
  const last = parts.at(-1);
  if (last?.type === type) parts[parts.length - 1] = { type, text: last.text + delta };
  else parts.push({ type, text: delta });
}

/** The parts of a message, in order. */
export function partsOf({ parts, content }) {
  if (parts?.length) return parts;
  if (typeof content === "string") return content ? [{ type: "text", text: content }] : [];
  return (content ?? []).map((part) => ({ type: "text", text: part.text ?? `[${part.type}]` }));
}

/** The text of a message. */
export const textOf = (message) =>
  partsOf(message).filter(({ type }) => type === "text").map(({ text }) => text).join("\n");
