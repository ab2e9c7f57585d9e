/** Following a turn to its end, whatever becomes of the connection: by its events, and by its state where there are none. */

import { eventsOf } from "./events.js";
import { openStream, readState } from "./server.js";

const SILENCE = 40_000; // milliseconds; the server says something every 15 seconds
const LONGEST_PAUSE = 8_000;
const FAILURES = 3; // after so many in a row the state is asked for

/** Whether somebody answers in a conversation, or is about to. */
export const isLive = ({ state, waiting }) =>
  state === "processing" || state === "streaming" || (state !== "awaiting_approval" && waiting.length > 0);

/**
 * The events of the turn that is under way in a conversation; *response* has them from the beginning if it is given.
 *
 * After a lost connection it goes on behind the last event. Besides the events of the server it yields `read` with the whole
 * state and its `etag`, wherever no stream can be had. *lost* is told whether the connection is lost.
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
        last = null; // the state may be behind the last event, or before it: the stream is told from its beginning
      }
      const open = response ?? (await openStream(id, last, line.signal));
      if (!open) return; // nothing more to tell
      for await (const event of eventsOf(open.body, line.signal)) {
        line.isAlive();
        if (!event) continue;
        [failures, last] = [0, event.id ?? last];
        lost(false);
        yield event;
        if (event.event === "done") return;
      }
    } catch (failure) {
      if (failure.status === 400) last = null; // what it stands for is gone
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

/** Do *run*, again and again as long as it only fails for the connection; null if *signal* is aborted before. */
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

/** Whether there is no use in trying again. What has no status broke off on its way. */
const isFinal = ({ status, mayWorkLater }) => status > 0 && status !== 429 && !mayWorkLater;

/** A connection's own signal: it is over with *signal*, when the browser goes offline, and after a long silence. */
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

/** Wait longer with each failure, and never as long as everybody else; once the browser is online again, no longer. */
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
