// The list of tasks: what is asked for stands in the address, and the list keeps itself up to date in place.

import { get, repeat } from "./ask.js";
import { keep, make, say, set } from "./make.js";
import { bar, bones, empty, linkTo, listOf, pill, setPill, setSince, since } from "./parts.js";
import { count } from "./overview.js";
import { PRIORITIES, STATES, ago, brief, isOver, local, now, secondsBetween, secondsSince, short, span, spaced } from "./words.js";
import { taskTypes } from "./schema.js";

const LOOK_SECONDS = 2;
const IN_A_PAGE = 50;

/** How far back; the words are those of the address. */
const TIMES = {
  "": ["at any time", 0],
  "15m": ["in the last 15 minutes", 900],
  "1h": ["in the last hour", 3_600],
  "24h": ["in the last day", 86_400],
  "7d": ["in the last week", 604_800],
};
/** Filters by a time of one's own; the names are those of the API. */
const BOUNDS = {
  created_after: "Submitted after",
  created_before: "Submitted before",
  finished_after: "Ended after",
  finished_before: "Ended before",
};
/** A year that is half typed in is none yet. */
const FIRST_TIME = "2000-01-01T00:00";
/** Tags that are shown of a task in the list, and of one that has a note. */
const MOST_TAGS_SHOWN = 2;
const MOST_BESIDE_A_NOTE = 1;
const ID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;

export function tasks(page, route, signal) {
  const list = new List(page, signal);
  list.update(route.query);
  const step = (by) => () => list.step(by);
  return {
    title: "Tasks",
    update: (next) => !next.id && (list.update(next.query), true),
    keys: {
      j: step(1), k: step(-1), "/": () => list.search.focus(), "#": () => list.tag.focus(),
      "[": () => list.newer.click(), "]": () => list.older.click(),
      Escape: () => document.activeElement?.blur(),
    },
  };
}

class List {
  constructor(page, signal) {
    this.signal = signal;
    this.query = new URLSearchParams();
    /** Cursors of the pages before this one. */
    this.trail = [];
    this.next = null;
    this.round = null;
    this.counting = null;
    this.counted = [];
    this.build(page);
    taskTypes().then((types) => this.offerTypes(types), () => {});
  }

  // --- what there is to see ---------------------------------------------------------------------------------------

  build(page) {
    this.chips = make("div", { class: "chips", role: "group", "aria-label": "States" });
    this.search = make("input", { type: "search", "aria-label": "Search: a task's id, or a part of an error", placeholder: "Id, or a part of an error", maxlength: "200", autocomplete: "off", spellcheck: "false" });
    this.type = this.choice("task_type", "Type", [["", "every type"]]);
    this.priority = this.choice("priority", "Priority", [["", "every priority"], ...PRIORITIES.map((each) => [each, each])]);
    this.time = this.choice("time", "Submitted", Object.entries(TIMES).map(([name, [words]]) => [name, words]));
    this.tag = make("input", { type: "text", name: "tag", "aria-label": "Tag", placeholder: "Tag", maxlength: "40", autocomplete: "off", autocapitalize: "off", spellcheck: "false", enterkeyhint: "search" });
    this.opener = make("button", { type: "button", class: "quiet small", "aria-controls": "times", onclick: () => this.openTimes(this.times.hidden) }, "Times…");
    this.bounds = Object.entries(BOUNDS).map(([name, words]) => this.bound(name, words));
    this.times = make("fieldset", { id: "times", class: "times", hidden: true },
      make("legend", { class: "unseen" }, "Times"), ...this.bounds.map((field) => field.parentElement),
      make("p", { class: "hint" }, `Times of your own zone, ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`));
    this.chosen = make("div", { class: "chosen", role: "group", "aria-label": "Tags that are asked for" });
    this.clear = make("button", { type: "button", class: "quiet small", onclick: () => (location.hash = "#/tasks") }, "Clear");
    this.form = make("form", { class: "filters", role: "search", "aria-label": "Which tasks" },
      this.search, this.type, this.priority, this.tag, this.time, this.opener, this.clear, this.times, this.chosen,
      // Without one the Enter key sends no form of more than one field.
      make("button", { hidden: true }));
    this.form.addEventListener("submit", (event) => (event.preventDefault(), this.searched()));
    this.search.addEventListener("input", () => this.search.value || this.searched());
    this.tag.addEventListener("change", () => this.searched());
    this.openTimes(false);

    this.body = make("tbody", { role: "rowgroup" });
    const head = (words, kind) => make("th", { scope: "col", role: "columnheader", class: kind }, words);
    this.table = make("table", { class: "tasks", role: "table", "aria-label": "Tasks" },
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" },
        head("State", "c-state"), head("Task", "c-task"), head("Priority", "c-priority"), head("Submitted", "c-when"),
        head("Time", "c-time"), head("Attempt", "c-attempt"), head("Note", "c-note"))),
      this.body);
    this.nothing = make("div", { class: "nothing" }, bones(12));
    this.fault = make("p", { class: "fault", role: "alert" });
    this.newer = make("button", { type: "button", class: "small", onclick: () => this.goBack() }, "← Newer");
    this.older = make("button", { type: "button", class: "small", onclick: () => this.goOn() }, "Older →");
    this.place = make("span", { class: "dim", "aria-live": "polite" });
    page.append(
      make("div", { class: "title" }, make("h1", {}, "Tasks")),
      this.chips, this.form, this.fault,
      make("div", { class: "card flush" }, this.table, this.nothing),
      make("nav", { class: "pager", "aria-label": "Pages of the list" }, this.newer, this.place, this.older),
    );
    this.showCounts({});
  }

  choice(name, label, options) {
    const select = make("select", { "aria-label": label, name }, ...options.map(([value, words]) => make("option", { value }, words)));
    select.addEventListener("change", () => this.ask({
      [name]: select.value ? [select.value] : [],
      ...(name === "time" && { created_after: [] }),
    }));
    return select;
  }

  bound(name, words) {
    const field = make("input", { type: "datetime-local", name, min: FIRST_TIME });
    make("label", {}, make("span", {}, words), field);
    field.addEventListener("change", () => {
      if (field.validity.badInput || field.validity.rangeUnderflow) return;
      this.ask({
        [name]: field.value ? [new Date(field.value).toISOString()] : [],
        ...(name === "created_after" && { time: [] }),
      });
    });
    return field;
  }

  openTimes(isOpen) {
    this.times.hidden = !isOpen;
    set(this.opener, "aria-expanded", String(isOpen));
  }

  offerTypes(types) {
    const chosen = this.query.get("task_type") ?? "";
    const names = [...new Set([...Object.keys(types), ...(chosen ? [chosen] : [])])];
    this.type.replaceChildren(make("option", { value: "" }, "every type"), ...names.map((name) => make("option", { value: name }, name)));
    this.type.value = chosen;
  }

  /** Counts the tasks with the tags that are asked for, and begins anew when they are others. */
  count() {
    const tags = this.tags();
    if (this.counting && String(tags) === String(this.counted)) return;
    this.counting?.abort();
    [this.counting, this.counted] = [new AbortController(), tags];
    const signal = AbortSignal.any([this.signal, this.counting.signal]);
    repeat(LOOK_SECONDS, () => count((counts) => this.showCounts(counts), signal, tags), signal);
  }

  showCounts(counts) {
    this.counts = counts;
    keep(this.chips, STATES, (state) => state,
      (state) => make("button", { type: "button", class: "chip", "data-state": state, onclick: () => this.toggle(state) },
        spaced(state), make("b")),
      (chip, state) => {
        set(chip, "aria-pressed", String(this.query.getAll("state").includes(state)));
        say(chip.lastElementChild, counts[state] === undefined ? "–" : brief(counts[state]));
        set(chip, "data-none", counts[state] ? null : "yes");
      });
  }

  // --- what is asked for ------------------------------------------------------------------------------------------

  toggle(state) {
    const chosen = new Set(this.query.getAll("state"));
    if (!chosen.delete(state)) chosen.add(state);
    this.ask({ state: [...chosen] });
  }

  searched() {
    const words = this.search.value.trim();
    if (ID.test(words)) location.hash = linkTo(words);
    else this.ask({ error: words ? [words] : [], tag: this.tags(this.tag.value.trim()) });
  }

  /** Those that are asked for, and perhaps another. */
  tags(another = "") {
    return [...new Set([...this.query.getAll("tag"), ...(another ? [another] : [])])];
  }

  showTags() {
    if (this.tags().includes(this.tag.value.trim())) this.tag.value = "";
    keep(this.chosen, this.tags(), (tag) => tag, (tag) => make("button", {
      type: "button", class: "chip", "aria-label": `Not only those with the tag ${tag}`,
      onclick: () => (this.ask({ tag: this.tags().filter((each) => each !== tag) }), this.tag.focus()),
    }, tag, make("span", { "aria-hidden": "true" }, "×")));
  }

  /** Another question; it begins at its first page. */
  ask(change) {
    const query = new URLSearchParams(this.query);
    query.delete("cursor");
    for (const [name, values] of Object.entries(change)) {
      query.delete(name);
      values.forEach((value) => query.append(name, value));
    }
    go(query);
  }

  goOn() {
    if (!this.next) return;
    this.trail.push(this.query.get("cursor") ?? "");
    this.goTo(this.next);
  }

  goBack() {
    if (this.query.has("cursor")) this.goTo(this.trail.pop() ?? "");
  }

  goTo(cursor) {
    const query = new URLSearchParams(this.query);
    if (cursor) query.set("cursor", cursor);
    else query.delete("cursor");
    go(query);
  }

  /** The address has changed, or is new. */
  update(query) {
    this.query = query;
    sessionStorage.setItem("sluice.list", location.hash);
    if (!query.has("cursor")) this.trail = [];
    if (document.activeElement !== this.search || query.get("error")) this.search.value = query.get("error") ?? "";
    for (const select of [this.type, this.priority, this.time]) {
      const value = query.get(select.name) ?? "";
      if (value && ![...select.options].some((option) => option.value === value)) select.append(make("option", { value }, value));
      select.value = value;
    }
    for (const field of this.bounds) {
      // Who types in it is not interrupted.
      if (document.activeElement !== field) field.value = local(query.get(field.name) ?? "");
    }
    if (Object.keys(BOUNDS).some((name) => query.has(name))) this.openTimes(true);
    this.showTags();
    set(this.clear, "data-idle", [...query.keys()].length ? null : "yes");
    this.showCounts(this.counts);
    this.count();
    this.round?.abort();
    this.round = new AbortController();
    const signal = AbortSignal.any([this.signal, this.round.signal]);
    set(this.table, "aria-busy", "true");
    repeat(LOOK_SECONDS, () => this.look(signal), signal, (error) => {
      say(this.fault, error.message);
      this.show([]);
      return false;
    });
  }

  async look(signal) {
    const found = await get(`api/tasks?${this.asked()}`, { signal });
    say(this.fault, "");
    this.next = found.next_cursor;
    this.show(found.items);
  }

  asked() {
    const asked = new URLSearchParams({ limit: IN_A_PAGE });
    for (const [name, value] of this.query) {
      if (name === "time") {
        const seconds = TIMES[value]?.[1];
        if (seconds && !this.query.has("created_after")) asked.set("created_after", new Date(now() - seconds * 1_000).toISOString());
      } else asked.append(name, value);
    }
    return asked;
  }

  // --- the rows ---------------------------------------------------------------------------------------------------

  show(items) {
    const focused = this.body.contains(document.activeElement) ? this.rowOf(document.activeElement) : null;
    const at = focused ? [...this.body.children].indexOf(focused) : -1;
    keep(this.body, items, (item) => item.task_id, buildRow, refreshRow);
    if (focused && !focused.isConnected) this.focus(Math.min(at, items.length - 1));
    set(this.table, "aria-busy", null);
    this.table.hidden = !items.length;
    this.nothing.hidden = Boolean(items.length);
    if (!items.length) this.nothing.replaceChildren(this.whyNothing());
    this.newer.disabled = !this.query.has("cursor");
    this.older.disabled = !this.next;
    say(this.place, this.query.has("cursor") ? `Page ${this.trail.length + 1}` : "");
  }

  whyNothing() {
    if ([...this.query.keys()].length) return empty("No task fits", "Take a filter away, or clear all of them.");
    return empty("No task yet", make("a", { href: "#/new" }, "Submit one"), " and see it here.");
  }

  rowOf(element) {
    return element.closest("tbody > tr");
  }

  focus(index) {
    this.body.children[index]?.querySelector("a")?.focus();
  }

  step(by) {
    const at = this.rowOf(document.activeElement);
    const index = at ? [...this.body.children].indexOf(at) + by : 0;
    this.focus(Math.max(0, Math.min(index, this.body.children.length - 1)));
    this.rowOf(document.activeElement)?.scrollIntoView({ block: "nearest" });
  }
}

function go(query) {
  location.hash = listOf(query);
}

function buildRow(item) {
  const cell = (kind, ...children) => make("td", { role: "cell", class: kind }, ...children);
  const progress = bar();
  const row = make("tr", { role: "row" },
    cell("c-state", pill(item.state)),
    cell("c-task", make("a", { href: linkTo(item.task_id) }, make("b", {}, item.task_type), make("span", { class: "id", title: item.task_id }, short(item.task_id)))),
    cell("c-priority", make("span", { "data-priority": item.priority })),
    cell("c-when", since(item.created_at)),
    cell("c-time", make("span", { class: "span" }), progress),
    cell("c-attempt"),
    cell("c-note", make("div", { class: "note" }, make("span", { class: "words" }), make("span", { class: "tags" }))));
  row.progress = progress;
  row.addEventListener("click", (event) => {
    if (!event.target.closest("a") && !getSelection().toString()) row.querySelector("a").click();
  });
  return row;
}

function refreshRow(row, item) {
  setPill(row.querySelector(".pill"), item.state);
  const priority = row.querySelector(".c-priority span");
  set(priority, "data-priority", item.priority);
  say(priority, item.priority);
  setSince(row.querySelector("time"), item.created_at);
  const isAtWork = !isOver(item.state) && item.state !== "queued" && item.progress;
  row.progress.show(isAtWork ? item.progress : null);
  const took = row.querySelector(".span");
  took.hidden = Boolean(isAtWork);
  say(took, timeOf(item));
  say(row.querySelector(".c-attempt"), item.attempt ? `${item.attempt} of ${item.attempt - item.retries + item.max_retries}` : "–");
  const [note, words] = [row.querySelector(".c-note"), noteOf(item)];
  say(note.querySelector(".words"), words);
  showTagsOf(note.querySelector(".tags"), item.tags, words ? MOST_BESIDE_A_NOTE : MOST_TAGS_SHOWN);
  set(note, "title", [words, item.tags.join(", ")].filter(Boolean).join("\n") || null);
  set(note, "data-none", words || item.tags.length ? null : "yes");
  set(note, "data-mood", item.error && !item.resolved ? "bad" : null);
}

function showTagsOf(place, tags, most) {
  const more = tags.length - most;
  const shown = [...tags.slice(0, most), ...(more > 0 ? [`+${more}`] : [])];
  keep(place, shown, (tag) => tag, (tag) => make("span", { class: "tag" }, tag));
}

function timeOf(item) {
  if (item.started_at && item.finished_at) return span(secondsBetween(item.started_at, item.finished_at));
  if (item.started_at && item.state === "running") return span(Math.floor(secondsSince(item.started_at)));
  return "–";
}

function noteOf(item) {
  if (item.resolved) return `Dealt with: ${item.resolved.note}`;
  if (item.error && item.state !== "succeeded") return [item.error.type, item.error.message].filter(Boolean).join(": ");
  if (["scheduled", "retrying"].includes(item.state) && item.due_at) return `due ${ago(item.due_at)}`;
  return item.worker && !isOver(item.state) ? item.worker : "";
}
