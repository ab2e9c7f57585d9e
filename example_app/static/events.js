/** Server-sent events of a response: `EventSource` can neither post a question nor begin after a given event. */

/** Yields `{id, event, data}`, and null for a keep-alive comment. Ends when *signal* is aborted. */
export async function* eventsOf(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const stop = () => reader.cancel().catch(() => {});
  signal.addEventListener("abort", stop);
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return; // an incomplete event is sent again after a reconnect
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) yield eventOf(block);
    }
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
  }
}

function eventOf(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*): ?(.*)$/.exec(line) ?? [];
    if (name) fields[name] = name === "data" && "data" in fields ? `${fields.data}\n${value}` : value;
  }
  return fields.data === undefined ? null : { id: fields.id, event: fields.event ?? "message", data: JSON.parse(fields.data) };
}
