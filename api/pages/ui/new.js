// Submits a task: a form made of what its type takes, by the API's own document, with each fault beside its field.

import { Refused, ask, may } from "./ask.js";
import { make, say, set, tell } from "./make.js";
import { bones, linkTo } from "./parts.js";
import { PRIORITIES, capital } from "./words.js";
import { taskTypes } from "./schema.js";

/** The fields beside the parameters, with what a reader wants to know. */
const MORE = {
  delay: "Seconds to wait before it may start",
  expires_in: "Seconds after which it is not started any more",
  max_retries: "Further attempts after one that failed",
  timeout: "Seconds that one attempt may take",
};
/** A text that may be longer than this gets several lines. */
const LONG_TEXT = 1_000;

export function newTask(page, route) {
  page.append(make("div", { class: "title" }, make("h1", {}, "New task")), bones(6));
  taskTypes().then(
    (types) => new Form(page, types, route.query.get("type")),
    () => page.lastElementChild.replaceWith(make("p", { class: "fault", role: "alert" }, "The API's document cannot be read. Load the page again when the API answers.")),
  );
  return { title: "New task", keys: {} };
}

class Form {
  constructor(page, types, wanted) {
    this.types = types;
    this.sent = { body: "", once: "" };
    /** Where a fault is told, by the pointer that the API names it with. */
    this.fields = new Map();
    const names = Object.keys(types);
    this.type = make("select", { id: "task_type" }, ...names.map((name) => make("option", { value: name }, name)));
    this.type.value = names.includes(wanted) ? wanted : names.includes("bulk_insert") ? "bulk_insert" : names[0];
    this.summary = make("p", { class: "hint", id: "task_type-hint" });
    set(this.type, "aria-describedby", "task_type-hint");
    this.priority = make("select", { id: "priority" }, ...PRIORITIES.map((each) => make("option", { value: each }, each)));
    this.priority.value = "normal";
    this.place = make("fieldset", {}, make("legend", {}, "Parameters"));
    this.fault = make("p", { class: "fault", role: "alert" });
    this.button = make("button", { class: "primary" }, "Submit");
    this.more = Object.entries(MORE).map(([name, hint]) => this.field(`#/${name}`, name, { type: "number", description: hint }));
    this.form = make("form", { class: "card form", novalidate: true },
      make("div", { class: "field" }, make("label", { for: "task_type" }, "Task type"), this.type, this.summary, this.faultOf("#/task_type")),
      make("div", { class: "field" }, make("label", { for: "priority" }, "Priority"), this.priority, this.faultOf("#/priority")),
      this.place,
      make("details", {}, make("summary", {}, "When, and how often"), make("div", { class: "several" }, ...this.more.map((each) => each.element))),
      this.fault,
      make("div", { class: "buttons" }, make("button", { type: "button", class: "quiet", onclick: () => this.fill() }, "Fill in the example"), this.button));
    this.type.addEventListener("change", () => this.ofType());
    this.form.addEventListener("submit", (event) => (event.preventDefault(), this.submit()));
    page.lastElementChild.replaceWith(this.form);
    if (!may.scopes.includes("write") && may.scopes.length) {
      this.button.disabled = true;
      say(this.fault, "This key may not submit tasks: it lacks the scope write.");
    }
    this.ofType();
  }

  ofType() {
    const type = this.types[this.type.value];
    say(this.summary, type.summary);
    const required = new Set(type.parameters.required ?? []);
    for (const pointer of [...this.fields.keys()]) if (pointer.startsWith("#/parameters/")) this.fields.delete(pointer);
    this.parameters = Object.entries(type.parameters.properties ?? {}).map(([name, schema]) =>
      this.field(`#/parameters/${name}`, name, schema, required.has(name)));
    this.place.replaceChildren(make("legend", {}, "Parameters"),
      ...(this.parameters.length ? this.parameters.map((each) => each.element) : [make("p", { class: "hint" }, "It takes none.")]),
      this.faultOf("#/parameters"));
    say(this.fault, this.button.disabled ? this.fault.textContent : "");
  }

  fill() {
    for (const field of this.parameters) {
      const value = this.types[this.type.value].example[field.name];
      field.input.value = value === undefined ? "" : Array.isArray(value) && value.every((each) => typeof each === "string") ? value.join("\n") : typeof value === "string" ? value : JSON.stringify(value, null, 2);
    }
  }

  // --- fields -----------------------------------------------------------------------------------------------------

  field(pointer, name, schema, isRequired = false) {
    const id = pointer.replaceAll(/[^\w]+/g, "-").replace(/^-/, "");
    const input = inputOf(schema);
    input.id = id;
    set(input, "aria-describedby", `${id}-hint ${id}-fault`);
    set(input, "aria-required", isRequired ? "true" : null);
    const element = make("div", { class: "field" },
      make("label", { for: id }, make("code", {}, name), isRequired ? make("span", { class: "dim" }, " required") : null),
      input, make("p", { class: "hint", id: `${id}-hint` }, hintOf(schema)), this.faultOf(pointer, `${id}-fault`, input));
    return { name, pointer, schema, input, element, isRequired };
  }

  faultOf(pointer, id = null, input = null) {
    const place = make("p", { class: "fault", id });
    this.fields.set(pointer, { place, input });
    return place;
  }

  // --- sending it -------------------------------------------------------------------------------------------------

  body() {
    const body = { task_type: this.type.value, priority: this.priority.value, parameters: {} };
    for (const field of this.parameters) put(body.parameters, field);
    for (const field of this.more) put(body, field);
    return body;
  }

  async submit() {
    this.forgive();
    let body;
    try {
      body = this.body();
    } catch (error) {
      if (!(error instanceof NotJson)) throw error;
      return this.blame([{ pointer: error.pointer, detail: error.message }]);
    }
    this.button.disabled = true;
    try {
      const { body: said } = await ask("POST", "api/tasks", { body, headers: { "Idempotency-Key": this.once(body) } });
      tell("Accepted: it is on disk.");
      location.hash = linkTo(said.task_id);
    } catch (error) {
      if (error instanceof Refused && error.problem.errors) this.blame(error.problem.errors);
      else say(this.fault, capital(error.message));
    } finally {
      this.button.disabled = false;
    }
  }

  /** The same key for the same task, so that one whose answer was lost is not accepted twice. */
  once(body) {
    const words = JSON.stringify(body);
    if (words !== this.sent.body) {
      const bytes = crypto.getRandomValues(new Uint8Array(16));
      this.sent = { body: words, once: [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("") };
    }
    return this.sent.once;
  }

  forgive() {
    say(this.fault, "");
    for (const { place, input } of this.fields.values()) {
      say(place, "");
      if (input) set(input, "aria-invalid", null);
    }
  }

  blame(errors) {
    const others = [];
    for (const { pointer, detail } of errors) {
      const field = this.at(pointer);
      if (!field) others.push(`${pointer.replace("#/", "")}: ${detail}`);
      else {
        say(field.place, [field.place.textContent, capital(detail)].filter(Boolean).join(" · "));
        if (field.input) set(field.input, "aria-invalid", "true");
      }
    }
    say(this.fault, others.join("; "));
    this.form.querySelector("details").open ||= this.more.some((each) => each.input.ariaInvalid === "true");
    this.form.querySelector("[aria-invalid=true]")?.focus();
  }

  /** The field of a pointer, or of what stands around it. */
  at(pointer) {
    const parts = pointer.split("/");
    for (let length = parts.length; length > 1; length--) {
      const found = this.fields.get(parts.slice(0, length).join("/"));
      if (found) return found;
    }
    return null;
  }
}

// --- from a schema to a field, and from a field to a value --------------------------------------------------------

class NotJson extends Error {
  constructor(pointer) {
    super("This is no JSON.");
    this.pointer = pointer;
  }
}

function inputOf(schema) {
  if (schema.enum || schema.type === "boolean") {
    const choices = schema.enum ?? ["true", "false"];
    const nothing = schema.default === undefined ? "" : `${shown(schema.default)} (by default)`;
    return make("select", {}, make("option", { value: "" }, nothing),
      ...choices.map((each) => make("option", { value: String(each) }, shown(each))));
  }
  const hint = schema.default === undefined || schema.default === null ? null : shown(schema.default);
  if (isNumber(schema)) return make("input", { inputmode: "decimal", autocomplete: "off", placeholder: hint });
  if (schema.type === "string" && !(schema.maxLength > LONG_TEXT)) return make("input", { autocomplete: "off", placeholder: hint });
  return make("textarea", { rows: isList(schema) && schema.anyOf ? "2" : "3", autocomplete: "off", spellcheck: "false", placeholder: hint });
}

const isNumber = (schema) => schema.type === "integer" || schema.type === "number";
const isList = (schema) => (schema.type === "array" && schema.items?.type === "string") || Boolean(schema.anyOf?.some(isList));
const shown = (value) => (typeof value === "string" ? (value === "\t" ? "tab" : value) : JSON.stringify(value));

function hintOf(schema) {
  const bounds = [
    isList(schema) && "One a line",
    schema.minimum !== undefined && schema.maximum !== undefined && `${schema.minimum} to ${schema.maximum}`,
    !schema.enum && !isNumber(schema) && !isList(schema) && schema.type !== "string" && schema.type !== "boolean" && (schema.type === "object" ? "JSON" : "JSON, or else it is taken as a text"),
  ].filter(Boolean);
  return [schema.description, ...bounds].filter(Boolean).join(". ");
}

/** Puts what was typed into a field under its name; nothing when nothing was. */
function put(target, { name, pointer, schema, input }) {
  const words = input.value;
  if (words === "") return;
  target[name] = valueOf(words, schema, pointer);
}

function valueOf(words, schema, pointer) {
  if (schema.enum) return schema.enum.find((each) => String(each) === words);
  if (schema.type === "boolean") return words === "true";
  // What is no number goes as it is: the API says what it thinks of it.
  if (isNumber(schema)) return Number.isFinite(Number(words)) && words.trim() ? Number(words) : words;
  if (schema.type === "string") return words;
  if (isList(schema)) {
    const rows = words.split("\n").map((row) => row.trim()).filter(Boolean);
    return rows.length === 1 && schema.anyOf ? rows[0] : rows;
  }
  try {
    return JSON.parse(words);
  } catch {
    if (schema.type === "object" || schema.type === "array") throw new NotJson(pointer);
    return words;
  }
}
