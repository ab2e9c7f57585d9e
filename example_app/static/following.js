/** Follows a turn to its end across lost connections: by its events, or by polling its state without a stream. */

import { eventsOf } from "./events.js";
import { openStream, readState } from "./server.js";

const SILENCE = 40_000; // milliseconds; the server sends a comment every 15 seconds
const LONGEST_PAUSE = 8_000;
const FAILURES = 3; // after so many in a row the state is read instead

/** Whether a turn is active or waiting in a conversation. */
export const isLive = ({ state, waiting }) =>
  state === "processing" || state === "streaming" || (state !== "awaiting_approval" && waiting.length > 0);

/**
 * The events of the active turn of a conversation; *response*, if given, has them from the beginning.
 *
 * After a lost connection it resumes after the last event. If no stream can be opened, it yields an event `read` with the
 * whole state and its `etag`. It calls *lost* with true when the connection is lost, and with false when it is back.
 */
export async function* follow(id, response, { signal, lost }) {
  let [last, failures] = [null, 0];
  while (!signal.aborted) {
    const line = lineUntil(signal);
    try {
      if (failures >= FAILURES) {
        const { state, etag } = await readState(id, null, signal);
        lost(false);
        yield { event: "read", data: state, etag };
        if (!isLive(state)) return;
        last = null; // the state may be newer or older than the last event: the stream starts from its beginning
      }
      const open = response ?? (await openStream(id, last, line.signal));
      if (!open) return; // no further events
      for await (const event of eventsOf(open.body, line.signal)) {
        line.isAlive();
        if (!event) continue;
        [failures, last] = [0, event.id ?? last];
        lost(false);
        yield event;
        if (event.event === "done") return;
      }
    } catch (failure) {
      if (failure.status === 400) last = null; // its turn no longer exists
      else if (isFinal(failure)) throw failure;
    } finally {
      line.end();
    }
    response = null;
    failures += 1;
    if (failures > 1 || !navigator.onLine) lost(true);
    await pause(failures, signal);
  }
}

/** Call *run* until it succeeds or fails for another reason than the connection; null if *signal* is aborted before. */
export async function persist(run, { signal, lost }) {
  for (let failures = 1; !signal.aborted; failures++) {
    try {
      const result = await run();
      lost(false);
      return result;
    } catch (failure) {
      if (isFinal(failure)) throw failure;
    }
    lost(true);
    await pause(failures, signal);
  }
  return null;
}

/** Whether a retry is useless. A failure without a status is a broken connection. */
const isFinal = ({ status, mayWorkLater }) => status > 0 && status !== 429 && !mayWorkLater;

/** A connection's own signal: it is aborted with *signal*, when the browser goes offline, and after a long silence. */
function lineUntil(signal) {
  const line = new AbortController();
  const cut = () => line.abort();
  let timer = setTimeout(cut, SILENCE);
  const isAlive = () => {
    clearTimeout(timer);
    timer = setTimeout(cut, SILENCE);
  };
  const end = () => {
    clearTimeout(timer);
    signal.removeEventListener("abort", cut);
    removeEventListener("offline", cut);
    cut();
  };
  signal.addEventListener("abort", cut);
  addEventListener("offline", cut);
  return { signal: line.signal, isAlive, end };
}

/** Wait longer with each failure, with a random jitter; stop waiting when the browser is online again. */
export function pause(failures, signal) {
  const longest = Math.min(250 * 2 ** failures, LONGEST_PAUSE);
  return new Promise((done) => {
    const timer = setTimeout(over, longest * (0.5 + Math.random() / 2));
    addEventListener("online", over);
    signal.addEventListener("abort", over);
    function over() {
      clearTimeout(timer);
      removeEventListener("online", over);
      signal.removeEventListener("abort", over);
      done();
    }
  });
}
