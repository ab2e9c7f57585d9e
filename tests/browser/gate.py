"""Stops the stream of an answer to a page at a chosen event, so that the page can be cut off exactly there.

The server notices nothing of it and goes on. What happens to the connection while it is stopped reaches the page.
"""

from __future__ import annotations

from playwright.sync_api import Page, expect

SCRIPT = """
(() => {
  const asked = window.fetch;
  let wanted = null;
  window.stopAt = (where) => (wanted = where);
  window.fetch = async (...given) => {
    const response = await asked(...given);
    const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream");
    if (wanted === null || !isStream) return response;
    const where = wanted;
    wanted = null;
    return new Response(stopped(response.body, where), { status: response.status, headers: response.headers });
  };

  function stopped(body, where) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const encoder = new TextEncoder();
    let [rest, words, isStopped] = ["", 0, false];
    const pass = (controller, text) => {
      const blocks = (rest + text).split("\\n\\n");
      rest = blocks.pop();
      for (const block of blocks) {
        if (isStopped) return;
        controller.enqueue(encoder.encode(`${block}\\n\\n`));
        const [, event] = /event: (.*)/.exec(block) ?? [];
        if (event === "message.delta") words += JSON.parse(/data: (.*)/.exec(block)[1]).delta.trim().split(" ").length;
        isStopped = typeof where === "number" ? words >= where : event === where;
        if (isStopped) document.documentElement.dataset.stopped = "yes";
      }
    };
    return new ReadableStream({
      async start(controller) {
        try {
          for (;;) {
            const { value, done } = await reader.read();
            if (done) break;
            pass(controller, value);
          }
          if (!isStopped) controller.close();
        } catch (failure) {
          controller.error(failure);
        }
      },
      cancel: () => reader.cancel(),
    });
  }
})();
"""


def put_into(page: Page) -> None:
    """For every document of *page* from now on."""
    page.add_init_script(SCRIPT)


def stop_at(page: Page, where: int | str) -> None:
    """Let the next stream end at so many words, or at the first event of that name."""
    page.evaluate("(where) => window.stopAt(where)", where)


def is_stopped(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.dataset.stopped === 'yes'"))


def expect_stopped(page: Page) -> None:
    expect(page.locator("html")).to_have_attribute("data-stopped", "yes")
