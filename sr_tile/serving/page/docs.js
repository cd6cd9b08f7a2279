// The OpenAPI document of this server, to be read.

import { description } from "./api.js";

const place = document.getElementById("routes");

/** An element with a text or children. */
function make(name, content, attributes = {}) {
  const element = Object.assign(document.createElement(name), attributes);
  element.append(...[content].flat());
  return element;
}

/** A type in a few words. */
function words(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.const !== undefined) return String(schema.const);
  if (schema.enum) return schema.enum.join(" | ");
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.filter((one) => one.type !== "null").map((one) => words(one)).join(" | ");
  if (schema.type === "array") return `${words(schema.items)}, several`;
  const bounds = [schema.minimum ?? schema.exclusiveMinimum, schema.maximum ?? schema.exclusiveMaximum];
  const range = bounds.some((bound) => bound !== undefined) ? `, ${bounds[0] ?? ""} to ${bounds[1] ?? ""}` : "";
  return `${schema.format === "binary" ? "file" : schema.type ?? "any"}${range}`;
}

/** Names with their types and what is said of them. */
function table(rows, title) {
  if (!rows.length) return "";
  const body = rows.map(([name, type, text]) => make("tr", [
    make("th", make("code", name), { scope: "row" }), make("td", type), make("td", text ?? ""),
  ]));
  return make("div", make("table", [make("caption", title), make("tbody", body)]), { className: "scroll", tabIndex: 0 });
}

function value(schema) {
  const fallback = schema?.default;
  return words(schema) + (fallback === undefined || fallback === null ? "" : `; ${fallback} by default`);
}

function route(path, method, said) {
  const parameters = (said.parameters ?? []).map((one) => [one.name, value(one.schema), one.description ?? one.schema?.description]);
  const bodies = Object.keys(said.requestBody?.content ?? {});
  const answers = Object.entries(said.responses ?? {}).map(([status, answer]) => [
    status, Object.keys(answer.content ?? {}).join(", "), answer.description,
  ]);
  return make("details", [
    make("summary", [make("code", method.toUpperCase()), " ", make("code", path), make("span", said.summary ?? "")]),
    make("p", said.description ?? ""),
    bodies.length ? make("p", `Body: ${bodies.join(", ")}`) : "",
    table(parameters, "Options"),
    table(answers, "Answers"),
  ], { className: "route" });
}

function schema(name, said) {
  const needed = new Set(said.required ?? []);
  const rows = Object.entries(said.properties ?? {}).map(([field, one]) => [
    field, `${value(one)}${needed.has(field) ? "" : " (or absent)"}`, one.description,
  ]);
  return make("details", [make("summary", make("code", name)), make("p", said.description ?? ""), table(rows, "Fields")], { className: "route" });
}

function show(document) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, said] of Object.entries(methods)) {
      const tag = said.tags?.[0] ?? "others";
      groups.set(tag, [...(groups.get(tag) ?? []), route(path, method, said)]);
    }
  }
  const title = (text) => make("h2", text[0].toUpperCase() + text.slice(1));
  place.replaceChildren(
    make("p", `${document.info.title} ${document.info.version}. ${document.info.description}`),
    ...[...groups].map(([tag, routes]) => make("section", [title(tag), ...routes])),
    make("section", [title("what answers hold"), ...Object.entries(document.components?.schemas ?? {}).map(([name, said]) => schema(name, said))]),
  );
}

description().then(show, (error) => place.replaceChildren(make("p", error.message, { className: "notice" })));
