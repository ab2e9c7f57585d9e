/** The parts of a message: text, reasoning, tool calls with their results, and components. */

import { componentOf } from "./components.js";
import { arrange, element, showText, textButton } from "./dom.js";

/**
 * Let *content* show *parts*. Parts that are shown already are changed as little as possible.
 *
 * *asked* are the ids of the tool calls that wait for a decision; *decide* is called with an id and the decision.
 */
export function showParts(content, parts, { asked, decide }) {
  const results = new Map(parts.filter(({ type }) => type === "tool_result").map((part) => [part.tool_call_id, part]));
  const shown = parts.filter((part) => part.type !== "tool_result" || !isCalled(parts, part));
  arrange(content, shown.map((part, place) => {
    const there = content.children[place];
    if (part.type === "text") return textPart(there, part);
    if (part.type === "reasoning") return reasoningPart(there, part);
    const facts = part.type === "tool_call" ? { part, result: results.get(part.id), isAsked: asked.has(part.id) } : { part };
    return fixedPart(there, facts, decide);
  }));
}

const isCalled = (parts, { tool_call_id }) => parts.some(({ type, id }) => type === "tool_call" && id === tool_call_id);

function textPart(there, { text }) {
  const part = there?.matches(".part.text") ? there : element("div", "part text");
  showText(part, text);
  return part;
}

function reasoningPart(there, { text }) {
  const part = there?.matches(".part.reasoning")
    ? there
    : element("details", "part reasoning", element("summary", "", "Reasoning"), element("div"));
  showText(part.lastChild, text);
  return part;
}

/** A part that does not grow: drawn again only after a change. */
function fixedPart(there, facts, decide) {
  const drawnFrom = JSON.stringify(facts);
  if (there?.drawnFrom === drawnFrom) return there;
  const part = facts.part.type === "tool_call" ? toolPart(facts, decide) : plainPart(facts.part);
  part.drawnFrom = drawnFrom;
  return part;
}

function toolPart({ part: call, result, isAsked }, decide) {
  const part = element("div", "part tool", element("b", "", call.name), " ", element("span", "fate", fateOf(call, result, isAsked)));
  part.dataset.id = call.id;
  if (!isEmpty(call.arguments)) part.append(element("pre", "", asText(call.arguments)));
  if (result) part.append(element("pre", result.is_error ? "error" : "", asText(result.content)));
  if (isAsked)
    part.append(
      element(
        "div",
        "buttons",
        textButton("Decline", () => decide(call.id, false), ""),
        textButton("Approve", () => decide(call.id, true), "primary"),
      ),
    );
  return part;
}

function fateOf({ requires_approval: asks, approval }, result, isAsked) {
  if (isAsked) return "may this tool run?";
  if (approval === "denied") return "declined";
  if (result) return result.is_error ? "failed" : approval === "approved" ? "approved, done" : "done";
  if (approval === "approved") return "approved";
  return asks ? "was not decided" : "is running";
}

const isEmpty = (value) => value == null || (typeof value === "object" && !Object.keys(value).length);

function asText(value) {
  if (typeof value === "string") return value;
  const line = JSON.stringify(value);
  return line.length <= 60 ? line : JSON.stringify(value, null, 1);
}

function plainPart(part) {
  if (part.type === "component") return element("div", "part component", componentOf(part));
  const { type, ...rest } = part;
  return element("div", "part", element("pre", "", `${type}: ${asText(rest.content ?? rest)}`));
}
