// The reference of the API, drawn from the server's own description.

import { byId, element } from "./dom.js";

const kinds = (schema) => [schema.type ?? []].flat().filter((kind) => kind !== "null");

function type(schema) {
  if (schema.enum) return schema.enum.filter((value) => value !== null).map((value) => JSON.stringify(value)).join(", ");
  if (schema.anyOf) return [...new Set(schema.anyOf.map(type))].filter(Boolean).join(" or ");
  const [kind] = kinds(schema);
  if (kind === "array") return `list of ${schema.items ? type(schema.items) || "values" : "values"}`;
  return [kind ?? "", range(schema)].filter(Boolean).join(" ");
}

function range({ minimum, maximum }) {
  const short = (value) => (Math.abs(value) >= 1e6 ? value.toExponential(1) : String(value));
  if (minimum === undefined || maximum === undefined) return "";
  return maximum > 1e9 ? `from ${short(minimum)}` : `${short(minimum)} to ${short(maximum)}`;
}

const isRefused = (schema) => schema.type === "null";

function table(properties, required) {
  const rows = properties.map(([name, schema]) => element("tr", {}, [
    element("td", {}, [name, ...(required.includes(name) ? [" ", element("b", {}, ["required"])] : [])]),
    element("td", {}, [type(schema)]),
    element("td", {}, [schema.description ?? ""]),
  ]));
  return element("table", {}, [element("tbody", {}, rows)]);
}

function section(path, method, operation) {
  const id = `${method}${path}`.replace(/\W+/g, "-");
  const nodes = [element("h2", {}, [element("span", { class: "method" }, [method.toUpperCase()]), path]), element("p", {}, [operation.summary ?? ""])];
  const schema = operation.requestBody?.content?.["application/json"]?.schema;
  const fields = Object.entries(schema?.properties ?? {});
  const taken = fields.filter(([, one]) => !isRefused(one));
  const refused = fields.filter(([, one]) => isRefused(one));
  if (taken.length > 0) nodes.push(table(taken, schema.required ?? []));
  if (refused.length > 0) {
    nodes.push(element("details", {}, [element("summary", {}, [`${refused.length} fields that are refused`]), table(refused, [])]));
  }
  return element("section", { id }, nodes);
}

async function draw() {
  const response = await fetch("openapi.json");
  const { info, tags, paths } = await response.json();
  byId("about").replaceChildren(`${info.description} This is version ${info.version}; the description itself is `,
    element("a", { href: "openapi.json" }, ["openapi.json"]), ".");
  const all = Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
  for (const { name } of tags) {
    const own = all.filter(({ operation }) => operation.tags.includes(name));
    const sections = own.map(({ path, method, operation }) => section(path, method, operation));
    byId("reference").append(...sections);
    byId("index").append(element("h2", {}, [name]),
      ...sections.map(({ id }, index) => element("a", { href: `#${id}` }, [own[index].path])));
  }
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

draw().catch(() => { byId("about").textContent = "The description cannot be read; the server may have stopped."; });
