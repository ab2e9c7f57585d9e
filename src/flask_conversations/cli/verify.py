"""`flask conversations verify`: do the conversations agree with their messages, and the cache with the database?"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import click

from ..ops.finding import Finding
from ..ops.verify import Progress, Verification
from ..schemas import rules
from ..service.unit_of_work import Units
from .group import current_state, explained, group

PROGRESS_INTERVAL = 2.0
"""Seconds between two lines about the progress."""


@group.command("verify")
@click.option(
    "--repair", is_flag=True, help="Correct the values that follow from the messages; never touch the messages."
)
@click.option(
    "--accept-content", is_flag=True, help="With --repair: take messages changed by other means as they are now."
)
@click.option(
    "--dry-run", is_flag=True, help="With --repair: report the findings that it would repair, and change nothing."
)
@click.option("--yes", is_flag=True, help="With --repair: do not ask.")
@click.option("--user", metavar="ID", help="Only the conversations of this user.")
@click.option("--org", metavar="ID", help="Only those of this organisation; with --user, of the user in it.")
@click.option("--conversation", metavar="ID", help="Only this conversation.")
@click.option(
    "--batch", type=click.IntRange(1, 1000), default=100, show_default=True, help="Conversations looked at at once."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: each finding, and a summary last.")
@click.pass_context
def verify(
    context: click.Context,
    repair: bool,
    accept_content: bool,
    dry_run: bool,
    yes: bool,
    user: str | None,
    org: str | None,
    conversation: str | None,
    batch: int,
    as_json: bool,
) -> None:
    """Compare every conversation with its messages, and the cache with both.

    Looks at the sequence, the counters, the checksum, each message against its digest, head, preview, tags, owners, and rows that
    belong to nothing. Says ids and numbers only, never content. Exits with 1 if anything is wrong, or is left so after --repair.
    """
    if accept_content and not repair:
        raise click.UsageError("--accept-content goes with --repair.")
    only = rules.uuid_or_none(conversation) if conversation else None
    if conversation and only is None:
        raise click.BadParameter("Must be the id of a conversation, a UUID.", param_hint="--conversation")
    owner = {"user_id": user, "org_id": org or ("" if user else None)}
    if repair and not dry_run and not yes:
        click.confirm("This changes counters, checksums, heads, previews and tags that are wrong. Go on?", abort=True)
    state = current_state()
    report = _Report(as_json)
    with explained():
        batches = Verification(Units(lambda: state.backend, None)).walk(
            owner={name: value for name, value in owner.items() if value is not None} or None,
            only=only,
            batch=batch,
            repair=repair and not dry_run,
            accept=accept_content,
        )
        for one in batches:
            report.add(one)
    report.close(repair_requested=repair, cache=state.backend.cache is not None)
    context.exit(1 if report.left or report.unanswered else 0)


class _Report:
    """The output of the command, during the run and at its end."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.conversations = self.messages = self.left = self.unanswered = 0
        self.kinds: Counter[str] = Counter()
        self.repaired: Counter[str] = Counter()
        self._reported_at = time.monotonic()

    def add(self, batch: Progress) -> None:
        self.conversations += batch.conversations
        self.messages += batch.messages
        self.unanswered += batch.unanswered
        for finding in batch.findings:
            self.kinds[finding.name] += 1
            self.repaired[finding.name] += finding.repaired
            self.left += not finding.repaired
            click.echo(json.dumps(_members(finding)) if self.as_json else _line(finding))
        if time.monotonic() - self._reported_at > PROGRESS_INTERVAL:
            self._reported_at = time.monotonic()
            click.echo(f"{self._so_far()}, {self.kinds.total()} findings ...", err=True)

    def close(self, *, repair_requested: bool, cache: bool) -> None:
        repaired = self.kinds.total() - self.left
        if self.as_json:
            summary: dict[str, Any] = {
                "conversations": self.conversations,
                "messages": self.messages,
                "cache": cache,
                "findings": dict(self.kinds),
                "repaired": repaired,
                "left": self.left,
                "unanswered": self.unanswered,
            }
            click.echo(json.dumps({"summary": summary}))
            return
        if self.unanswered:
            click.echo(
                f"The cache did not answer for {self.unanswered} conversations: see 'flask conversations doctor'."
            )
        click.echo(f"{self._so_far()}{', and the cache' if cache else ''}: {self._verdict(repaired, repair_requested)}")

    def _so_far(self) -> str:
        return f"{self.conversations} conversations with {self.messages} messages"

    def _verdict(self, repaired: int, repair_requested: bool) -> str:
        if not self.kinds:
            return "nothing else is wrong." if self.unanswered else "all is well."
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        outcome = f" {repaired} repaired, {self.left} left." if repair_requested else ""
        return f"{self.kinds.total()} findings ({kinds}).{outcome}"


def _members(finding: Finding) -> dict[str, Any]:
    found = finding._asdict()
    del found["state"]
    return {"kind": found.pop("name"), **found}


def _line(finding: Finding) -> str:
    place = f"{finding.conversation_id}{f' message {finding.message_id}' if finding.message_id else ''}"
    outcome = "  [repaired]" if finding.repaired else ("  [--repair puts it right]" if finding.repairable else "")
    return f"{finding.name:<16}{place}  {finding.text}{outcome}"
