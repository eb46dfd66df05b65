// How the service does: its parts, its tasks by state, its queues, its workers.

import { ask, get, may, repeat } from "./ask.js";
import { askWords } from "./dialog.js";
import { keep, make, say, set, tell } from "./make.js";
import { bar, bones, empty, idLink, setPill, pill, setSince, since } from "./parts.js";
import { PRIORITIES, STATES, brief, capital, counted, number, span, spaced } from "./words.js";

/** Seconds between two looks. */
const LOOK_SECONDS = 2;
const HEALTH_SECONDS = 5;
/** Counting all tasks may take long in a big ledger: it may cost this share of the time. */
const COUNTING_SHARE = 0.1;

const KINDS = ["data", "email", "file"];

export function overview(page, _route, signal) {
  const health = make("ul", { class: "health", "aria-label": "Parts of the service" });
  const counts = make("ul", { class: "counts", "aria-label": "Tasks by state" });
  const queues = make("div", { class: "kinds" }, ...KINDS.map(() => make("section", { class: "card" }, bones(4))));
  const workers = make("div", { class: "workers" }, bones(3));
  page.append(
    make("div", { class: "title" }, make("h1", {}, "Overview"), health),
    make("section", { "aria-label": "Tasks" }, counts),
    make("h2", { class: "above" }, "Queues"), queues,
    make("h2", { class: "above" }, "Workers"), workers,
  );
  showCounts(counts, Object.fromEntries(STATES.map((state) => [state, null])));
  const refused = (error) => (tell(error.message), false);
  repeat(HEALTH_SECONDS, () => look(health, signal), signal, refused);
  repeat(LOOK_SECONDS, async () => showQueues(queues, (await get("api/queues", { signal })).items), signal, refused);
  repeat(LOOK_SECONDS, async () => showWorkers(workers, (await get("api/workers", { signal })).items), signal, refused);
  repeat(LOOK_SECONDS, () => count((found) => showCounts(counts, found), signal), signal, refused);
  return { title: "Overview" };
}

// --- parts --------------------------------------------------------------------------------------------------------

const WELL = { pass: "well", warn: "trouble", fail: "down" };

async function look(place, signal) {
  const { body } = await ask("GET", "readyz", { signal, answers: [503], isAside: true });
  keep(place, Object.entries(body.checks ?? {}), ([name]) => name,
    () => make("li", {}, make("i", { class: "lamp" }), make("span")),
    (element, [name, check]) => {
      set(element, "data-status", check.status);
      set(element, "title", check.detail ?? `answers in ${span(check.ms / 1_000)}`);
      say(element.lastElementChild, check.status === "pass" ? name : `${name}: ${check.detail ?? WELL[check.status]}`);
    });
}

// --- tasks by state -----------------------------------------------------------------------------------------------

/** Counts the tasks, or those with some tags; answers the seconds until that may be done again. */
export async function count(show, signal, tags = []) {
  const began = performance.now();
  const asked = new URLSearchParams([["limit", 1], ["counts", 1], ...tags.map((tag) => ["tag", tag])]);
  const { counts } = await get(`api/tasks?${asked}`, { signal });
  show(counts);
  return Math.max(LOOK_SECONDS, (performance.now() - began) / 1_000 / COUNTING_SHARE);
}

function showCounts(place, counts) {
  keep(place, STATES, (state) => state,
    (state) => make("li", {}, make("a", { href: `#/tasks?state=${state}`, "data-state": state },
      make("b"), make("span", {}, spaced(state)))),
    (element, state) => {
      const known = counts[state] !== null && counts[state] !== undefined;
      say(element.querySelector("b"), known ? brief(counts[state]) : "–");
      set(element.firstElementChild, "title", known ? number(counts[state]) : null);
      set(element.firstElementChild, "data-none", counts[state] ? null : "yes");
    });
}

// --- queues -------------------------------------------------------------------------------------------------------

function showQueues(place, items) {
  place.querySelectorAll(".bones").forEach((each) => each.parentElement.remove());
  const kinds = [...new Set(items.map((item) => item.kind))];
  keep(place, kinds, (kind) => kind, buildKind, (element, kind) => {
    refreshKind(element, items.filter((item) => item.kind === kind));
  });
}

function buildKind(kind) {
  const head = (words, more = {}) => make("th", { scope: "col", ...more }, words);
  const isAdmin = may.scopes.includes("admin");
  return make("section", { class: "card kind", "aria-label": `Queues of ${kind} workers` },
    make("div", { class: "head" }, make("h3", {}, capital(kind)), make("span", { class: "dim serving" }),
      isAdmin && make("button", { type: "button", class: "small", "data-act": kind })),
    make("table", {},
      make("thead", {}, make("tr", {}, head("Priority"), head("Waiting", { class: "figure" }),
        head("Running", { class: "figure" }), head("Later", { class: "figure later", title: "Scheduled, between two attempts, or waiting for a place under a limit" }),
        head("Oldest", { class: "figure", title: "For how long the first of those that wait has been ready" }),
        make("td", {}))),
      make("tbody")));
}

function refreshKind(element, queues) {
  const workers = Math.max(...queues.map((queue) => queue.workers));
  const serving = element.querySelector(".serving");
  say(serving, workers ? counted(workers, "worker") : "no worker");
  set(serving, "data-none", workers ? null : "yes");
  const act = element.querySelector("button[data-act]");
  if (act) actOn(act, queues.every((queue) => queue.paused_at), "all");
  const ordered = [...queues].sort((a, b) => PRIORITIES.indexOf(priorityOf(a)) - PRIORITIES.indexOf(priorityOf(b)));
  keep(element.querySelector("tbody"), ordered, (queue) => queue.name, buildQueue, refreshQueue);
}

const priorityOf = (queue) => queue.name.split(".").pop();

function buildQueue(queue) {
  const figure = (name) => make("td", { class: "figure", "data-is": name });
  const [kind, priority] = [queue.kind, priorityOf(queue)];
  return make("tr", {},
    make("th", { scope: "row" }, make("span", { "data-priority": priority }, priority), make("span", { class: "paused", hidden: true }, "paused")),
    figure("ready"), figure("running"), figure("later"), figure("oldest"),
    make("td", { class: "act" }, may.scopes.includes("admin")
      && make("button", { type: "button", class: "quiet small", "data-act": queue.name, "aria-label": `${kind} ${priority}` })));
}

function refreshQueue(row, queue) {
  const values = {
    ready: number(queue.ready),
    running: number(queue.running),
    later: number(queue.scheduled + queue.retrying + queue.throttled),
    oldest: queue.oldest_seconds === null ? "–" : span(queue.oldest_seconds),
  };
  for (const [name, words] of Object.entries(values)) {
    const cell = row.querySelector(`[data-is="${name}"]`);
    say(cell, words);
    set(cell, "data-none", words === "0" || words === "–" ? "yes" : null);
  }
  const paused = row.querySelector(".paused");
  paused.hidden = !queue.paused_at;
  set(paused, "title", queue.paused_at ? `since ${queue.paused_at}${queue.pause_reason ? `: ${queue.pause_reason}` : ""}` : null);
  const act = row.querySelector("button");
  if (act) actOn(act, Boolean(queue.paused_at), queue.name);
}

function actOn(button, isPaused, what) {
  say(button, isPaused ? (what === "all" ? "Resume all" : "Resume") : what === "all" ? "Pause all" : "Pause");
  set(button, "aria-label", `${isPaused ? "Resume" : "Pause"} ${button.dataset.act}`);
  button.onclick = () => (isPaused ? change(button, "resume") : askWhy(button));
}

async function askWhy(button) {
  const name = button.dataset.act;
  const reason = await askWords({
    title: `Pause ${name}`,
    about: "None of its tasks starts until you resume it. Those that run go on.",
    label: "Why, for those who wonder", placeholder: "The database moves until six", most: 500, act: "Pause",
  });
  if (reason !== null) change(button, "pause", { reason: reason || null });
}

async function change(button, verb, body) {
  button.disabled = true;
  try {
    const { body: said } = await ask("POST", `api/queues/${encodeURIComponent(button.dataset.act)}/${verb}`, { body });
    tell(said.message);
    const rows = new Map(said.items.map((item) => [item.name, item]));
    for (const row of document.querySelectorAll(".kind tbody tr")) {
      if (rows.has(row.dataset.key)) refreshQueue(row, rows.get(row.dataset.key));
    }
  } catch (error) {
    tell(capital(error.message));
  } finally {
    button.disabled = false;
  }
}

// --- workers ------------------------------------------------------------------------------------------------------

function showWorkers(place, items) {
  place.querySelector(".bones")?.remove();
  place.querySelector(".empty")?.remove();
  if (!items.length) {
    place.replaceChildren(empty("No worker is here", "Tasks wait until one comes: ", make("code", {}, "celery -A workers.data worker")));
    return;
  }
  keep(place, items, (worker) => worker.name, buildWorker, refreshWorker);
}

function buildWorker(worker) {
  return make("section", { class: "card worker" },
    make("div", { class: "head" }, make("h3", {}, make("i", { class: "lamp" }), worker.name), make("span", { class: "places" })),
    make("p", { class: "dim how" }), make("ul", { class: "held" }));
}

function refreshWorker(element, worker) {
  const busy = worker.concurrency - worker.free;
  const troubles = [
    !worker.reaches_broker && "does not reach RabbitMQ",
    worker.leaving && "is leaving",
    worker.seen_seconds_ago > 5 && `silent for ${span(worker.seen_seconds_ago)}`,
  ].filter(Boolean);
  set(element, "data-status", troubles.length ? "warn" : "pass");
  const places = element.querySelector(".places");
  keep(places, [...Array(Math.min(worker.concurrency, 16)).keys()], (n) => n, () => make("i"),
    (slot, n) => set(slot, "data-busy", n < busy ? "yes" : null));
  set(places, "title", `${busy} of ${worker.concurrency} places are taken`);
  set(places, "role", "img");
  set(places, "aria-label", `${busy} of ${worker.concurrency} places are taken`);
  say(element.querySelector(".how"), capital(troubles.join(", ") || (worker.running.length ? "at work" : "idle")));
  keep(element.querySelector(".held"), worker.running, (held) => held.task_id, buildHeld, refreshHeld);
}

function buildHeld(held) {
  const progress = bar();
  const row = make("li", {}, idLink(held.task_id, held.task_type), pill(held.state),
    held.started_at ? since(held.started_at) : null, progress);
  row.progress = progress;
  return row;
}

function refreshHeld(row, held) {
  setPill(row.querySelector(".pill"), held.state);
  const time = row.querySelector("time");
  if (time && held.started_at) setSince(time, held.started_at);
  row.progress.show(held.progress);
}
