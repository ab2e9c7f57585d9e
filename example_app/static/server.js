/** Requests to the server: JSON, events, and errors. */

const { user, api, login } = document.body.dataset;

const TRIES = 3;
const MAY_WORK_LATER = new Set([0, 502, 503, 504]);

/** A request that the server refused or did not get; for the latter, `status` is 0. */
export class Failure extends Error {
  constructor(message, status, code = null) {
    super(message);
    Object.assign(this, { status, code });
  }

  get mayWorkLater() {
    return MAY_WORK_LATER.has(this.status);
  }
}

export const list = api;
export const address = (id, action) => `${api}/${encodeURIComponent(id)}${action ? `/${action}` : ""}`;

/** A new UUID; `crypto.randomUUID` exists only where the page came over https or from this machine. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Send a request and read its JSON answer. */
export async function request(method, url, body) {
  return jsonOf(await send(method, url, body));
}

/** The state of a conversation as `{state, etag}`; null if *etag* is still current. */
export async function readState(id, etag, signal) {
  const response = await send("GET", address(id, "state"), undefined, { ...(etag && { "If-None-Match": etag }) }, signal);
  if (response.status === 304) return null;
  const state = await jsonOf(response);
  return { state, etag: response.headers.get("ETag") };
}

/**
 * Begin a turn. Returns the response with its events, or null if the server has reached its limit of streams.
 *
 * A retry is safe: the question has a client id, all other requests an idempotency key.
 */
export async function begin(id, action, body) {
  const key = body.client_id ? {} : { "Idempotency-Key": newId() };
  const events = { ...key, Accept: "text/event-stream" };
  try {
    return await trySeveralTimes(async () => accepted(await send("POST", address(id, action), body, events)));
  } catch (failure) {
    if (failure.code !== "too_many_streams") throw failure;
  }
  const path = action === "messages" ? "actions/send_message" : action;
  await trySeveralTimes(async () => accepted(await send("POST", address(id, path), body, { ...key, Prefer: "respond-async" })));
  return null;
}

async function trySeveralTimes(run) {
  for (let tried = 1; ; tried++) {
    try {
      return await run();
    } catch (failure) {
      if (!failure.mayWorkLater || failure.code === "too_many_streams" || tried === TRIES) throw failure;
    }
    await new Promise((done) => setTimeout(done, 300 * tried * (0.5 + Math.random())));
  }
}

/** The events of the active turn after the event *last*; null without further events. */
export async function openStream(id, last, signal) {
  const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
  const response = await accepted(await send("GET", address(id, "stream"), undefined, headers, signal));
  return response.status === 204 ? null : response;
}

async function send(method, url, body, headers = {}, signal) {
  const json = body && { headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) };
  return fetch(url, { method, headers, signal, cache: "no-store", ...json }).catch(() => {
    throw new Failure("The server cannot be reached.", 0);
  });
}

async function jsonOf(response) {
  await accepted(response);
  const data = await response.json().catch(() => {
    throw new Failure("The answer of the server was cut off.", 0);
  });
  // another user has logged in in another tab: this page must not show their data
  const shown = [data, data.conversation, ...(data.conversations ?? [])];
  if (shown.some((each) => each?.user_id && each.user_id !== user)) return elsewhere(() => location.reload());
  return data;
}

/** *response*, unless it is a refusal. */
async function accepted(response) {
  if (response.ok) return response;
  if (response.status === 401) return elsewhere(() => location.assign(login));
  const data = await response.json().catch(() => null);
  throw new Failure(data?.detail ?? data?.error ?? `The server answered ${response.status}.`, response.status, data?.code);
}

/** Leave this page; the returned promise never resolves. */
export function elsewhere(leave) {
  document.body.hidden = true;
  leave();
  return new Promise(() => {});
}
