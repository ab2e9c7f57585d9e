/* Shows the OpenAPI description that lies beside this page, and sends requests to this site only. */

/** @typedef {Record<string, any>} Json */

const METHODS = ["get", "post", "put", "patch", "delete"];

/** An element; attributes that are null are left out, children are elements or text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value != null) made.setAttribute(key, value);
  made.append(...children.filter((child) => child != null));
  return made;
}

/** What a `$ref` stands for. */
export function resolved(description, what) {
  if (!what?.$ref) return what;
  return what.$ref.split("/").slice(1).reduce((found, step) => found[step], description);
}

/** The address of a request, from the values of its form. */
export function address(server, path, parameters, values) {
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(values[`path ${name}`] ?? ""));
  const query = new URLSearchParams();
  for (const { in: place, name } of parameters) {
    const value = values[`${place} ${name}`];
    if (place === "query" && value) query.append(name, value);
  }
  return server.replace(/\/$/, "") + filled + (query.size ? `?${query}` : "");
}

/** A type in words: `string or null`, `array of Message`. */
export function typeOf(schema) {
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.oneOf ?? schema.anyOf) return (schema.oneOf ?? schema.anyOf).map(typeOf).join(" or ");
  if (schema.enum && !schema.type) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  const kinds = [schema.type ?? "anything"].flat();
  return kinds.map((kind) => (kind === "array" && schema.items ? `array of ${typeOf(schema.items)}` : kind)).join(" or ");
}

const nameOf = (reference) => reference.split("/").pop();

/** An example of a schema: its own, or that of what it consists of. */
export function exampleOf(description, schema) {
  const found = resolved(description, schema);
  if (found?.examples) return found.examples[0];
  if (found?.oneOf) return exampleOf(description, found.oneOf[0]);
  return found?.type === "array" ? [exampleOf(description, found.items)] : undefined;
}

/** Text with `code` in it; lines that begin with "- " are a list. */
function prose(text) {
  const blocks = [];
  for (const line of text.split("\n").filter(Boolean)) {
    if (!line.startsWith("- ")) blocks.push(element("p", {}, ...inline(line)));
    else {
      if (blocks.at(-1)?.tagName !== "UL") blocks.push(element("ul"));
      blocks.at(-1).append(element("li", {}, ...inline(line.slice(2))));
    }
  }
  return blocks;
}

const inline = (text) => text.split("`").map((part, at) => (at % 2 ? element("code", {}, part) : part));

/** A type whose names lead to their schemas. */
function linkedType(schema) {
  const words = typeOf(schema).split(/(\b[A-Z]\w+)/);
  return element("span", { class: "faint" }, ...words.map((word) => (/^[A-Z]/.test(word) ? element("a", { href: `#schema-${word}` }, word) : word)));
}

/** The bounds of a value in words. */
function bounds(schema) {
  const said = [];
  if (schema.type && schema.enum) said.push(`one of ${schema.enum.join(", ")}`);
  if (schema.format) said.push(schema.format);
  if (schema.default !== undefined) said.push(`default ${JSON.stringify(schema.default)}`);
  if (schema.minimum !== undefined) said.push(`at least ${schema.minimum}`);
  if (schema.maximum !== undefined) said.push(`at most ${schema.maximum}`);
  if (schema.maxLength !== undefined) said.push(`at most ${schema.maxLength} characters`);
  if (schema.maxItems !== undefined) said.push(`at most ${schema.maxItems} items`);
  return said.length ? said.join("; ") : null;
}

function entry(name, schema, required, text, place) {
  const term = element("dt", {}, element("code", {}, name), " ", linkedType(schema), place ? ` in ${place} ` : " ");
  if (required) term.append(element("span", { class: "required" }, "required"));
  const limits = bounds(schema);
  return [term, element("dd", {}, ...inline([text, limits].filter(Boolean).join(" – ")))];
}

function schemaView(name, schema) {
  const required = new Set(schema.required);
  const members = Object.entries(schema.properties ?? {}).flatMap(([member, one]) => entry(member, one, required.has(member), one.description));
  const view = element("details", { id: `schema-${name}` }, element("summary", {}, element("h3", { class: "path" }, name)));
  view.append(...prose(schema.description ?? ""), element("dl", {}, ...members));
  if (schema.examples) view.append(element("h4", {}, "Example"), pretty(schema.examples[0]));
  return view;
}

const pretty = (value) => element("pre", { tabindex: "0" }, typeof value === "string" ? value : JSON.stringify(value, null, 2));

function operationView(description, path, method, operation) {
  const parameters = operation.parameters.map((one) => resolved(description, one));
  const isPublic = operation.security?.length === 0;
  const heading = element(
    "h3", {},
    element("span", { class: `method ${method}` }, method.toUpperCase()),
    element("span", { class: "path" }, path),
    element("span", { class: "faint" }, operation.summary),
    isPublic ? element("span", { class: "public" }, "public") : null,
  );
  const view = element("details", { id: operation.operationId }, element("summary", {}, heading));
  view.addEventListener("toggle", () => view.childElementCount === 1 && view.append(...operationBody(description, path, method, operation, parameters)));
  return view;
}

function operationBody(description, path, method, operation, parameters) {
  const parts = [];
  if (parameters.length) {
    const entries = parameters.flatMap((one) => entry(one.name, one.schema, one.required, one.description, one.in));
    parts.push(element("h4", {}, "Parameters"), element("dl", {}, ...entries));
  }
  const body = operation.requestBody?.content["application/json"].schema;
  if (body) {
    const needed = operation.requestBody.required ? "" : ", may be left out";
    parts.push(element("h4", {}, "Body"), element("p", {}, "JSON: ", linkedType(body), needed));
  }
  parts.push(element("h4", {}, "Answers"), answersView(description, operation), tryView(description, path, method, parameters, body));
  return parts;
}

function answersView(description, operation) {
  const entries = Object.entries(operation.responses).flatMap(([status, one]) => {
    const answer = resolved(description, one);
    const [kind, content] = Object.entries(answer.content ?? {})[0] ?? [];
    const headers = Object.keys(answer.headers ?? {}).filter((name) => name !== "X-Request-ID");
    const term = element("dt", {}, element("code", {}, status), " ", content?.schema?.type || content?.schema?.$ref ? linkedType(content.schema) : kind ?? "");
    return [term, element("dd", {}, ...inline(answer.description), headers.length ? ` – headers ${headers.join(", ")}` : "")];
  });
  return element("dl", {}, ...entries);
}

function tryView(description, path, method, parameters, body) {
  const form = element("form", { class: "try", autocomplete: "off" }, element("h4", {}, "Try it"));
  const prefix = `${method} ${path}`;
  form.append(...parameters.map((one) => field(prefix, one)));
  if (body) form.append(bodyField(prefix, JSON.stringify(exampleOf(description, body) ?? {}, null, 2)));
  const button = element("button", { type: "submit" }, "Send");
  const answer = element("output", { class: "answer", "aria-live": "polite" });
  form.append(button, answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    answer.replaceChildren(...(await sent(description, path, method, parameters, new FormData(form))));
    button.disabled = false;
  });
  return form;
}

function field(prefix, { name, in: place, required, schema }) {
  const id = `${prefix} ${place} ${name}`;
  const choices = schema.enum ?? (schema.type === "boolean" ? ["true", "false"] : null);
  const shared = { id, name: `${place} ${name}`, required: required ? "" : null };
  const input = choices
    ? element("select", shared, ...["", ...choices].map((choice) => element("option", { value: choice }, choice)))
    : element("input", { ...shared, placeholder: schema.default ?? null, spellcheck: "false" });
  return element("div", { class: "field" }, element("label", { for: id }, name), input);
}

function bodyField(prefix, text) {
  const id = `${prefix} body`;
  return element("div", { class: "field tall" }, element("label", { for: id }, "Body"), element("textarea", { id, name: "body", spellcheck: "false" }, text));
}

/** The elements that show what the server answered, or why there is no answer. */
async function sent(description, path, method, parameters, data) {
  const values = Object.fromEntries(data);
  const url = address(description.servers[0].url, path, parameters, values);
  const started = performance.now();
  try {
    const response = await fetch(url, options(method, parameters, values));
    const text = await response.text();
    const took = Math.round(performance.now() - started);
    const status = element("span", { class: response.ok ? "ok" : "failed" }, `${response.status} ${response.statusText}`);
    const headers = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    const more = element("details", {}, element("summary", {}, "Headers"), pretty(headers));
    return [element("p", {}, status, ` in ${took} ms – `, element("code", {}, `${method.toUpperCase()} ${url}`)), more, pretty(formatted(text))];
  } catch (error) {
    return [element("p", { class: "failed" }, `No answer: ${error.message}`)];
  }
}

/** The options of `fetch` for a request: the login cookie of this site, and the token if there is one. */
export function options(method, parameters, values, token = document.getElementById("token").value.trim()) {
  const headers = {};
  for (const { in: place, name } of parameters) if (place === "header" && values[`header ${name}`]) headers[name] = values[`header ${name}`];
  if (token) headers.Authorization = `Bearer ${token}`;
  if (values.body) headers["Content-Type"] = "application/json";
  return { method: method.toUpperCase(), headers, body: values.body || undefined, credentials: "same-origin", redirect: "manual" };
}

function formatted(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text || "(no body)";
  }
}

/** Fill the page. */
export function show(description) {
  const { info, servers, tags, paths, components } = description;
  document.title = `${info.title} API`;
  document.getElementById("title").textContent = document.title;
  document.getElementById("version").textContent = `version ${info.version} at`;
  document.getElementById("server").textContent = servers[0].url;
  const all = Object.entries(paths).flatMap(([path, some]) => METHODS.filter((method) => some[method]).map((method) => ({ path, method, operation: some[method] })));
  const main = document.getElementById("content");
  main.replaceChildren(element("section", { "aria-label": "About" }, ...prose(info.description)));
  for (const tag of tags) main.append(group(description, tag, all.filter(({ operation }) => operation.tags.includes(tag.name))));
  const schemas = Object.entries(components.schemas).map(([name, schema]) => schemaView(name, schema));
  main.append(element("section", {}, element("h2", { id: "schemas" }, "Schemas"), ...schemas));
  addEventListener("hashchange", openTarget);
  openTarget();
}

function group(description, tag, operations) {
  const links = operations.map(({ path, method, operation }) => element(
    "li", {}, element("a", { href: `#${operation.operationId}`, title: path }, element("span", { class: `method ${method}` }, method.toUpperCase()), operation.summary.replace(/\.$/, "")),
  ));
  document.getElementById("operations").append(element("h2", {}, tag.name), element("ul", {}, ...links));
  const views = operations.map(({ path, method, operation }) => operationView(description, path, method, operation));
  return element("section", {}, element("h2", {}, tag.name), element("p", {}, tag.description), ...views);
}

/** Open what the address points at. */
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView();
  }
}

async function start() {
  document.getElementById("login").addEventListener("submit", (event) => event.preventDefault());
  try {
    const response = await fetch(new URL("openapi.json", document.baseURI));
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    show(await response.json());
  } catch (error) {
    document.getElementById("loading").textContent = `The description could not be loaded: ${error.message}`;
  }
}

if (globalThis.document) start();
