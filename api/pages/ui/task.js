// One task: why it is where it is, what has happened to it and what happens now, and a way to stop it or try it again.

import { Away, Refused, ask, follow, get, may, pause, repeat } from "./ask.js";
import { askWords } from "./dialog.js";
import { copy, keep, make, say, set, tell } from "./make.js";
import { bar, bones, copyButton, empty, idLink, json, listOf, pill, setPill, since } from "./parts.js";
import { VERDICTS, capital, clock, counted, eventWords, isOver, mayRetry, number, secondsBetween, span, spaced, whole } from "./words.js";

/** Seconds between two looks for why a task is where it is, and at a task without a stream. */
const WHY_SECONDS = 3;
const LOOK_SECONDS = 2;
/** Seconds between two looks whether a task that is over was tried again by somebody. */
const OVER_SECONDS = 5;

export function task(page, route, signal) {
  const view = new Task(page, route.id, signal);
  view.begin();
  return {
    title: `Task ${route.id.slice(0, 8)}`,
    update: (next) => next.id === route.id,
    keys: { c: () => view.copyId(), Escape: () => view.back() },
  };
}

class Task {
  constructor(page, id, signal) {
    this.id = id;
    this.path = `api/tasks/${encodeURIComponent(id)}`;
    this.signal = signal;
    this.page = page;
    /** The id of the last event that was told, and what was told. */
    this.last = 0;
    this.events = [];
    /** When the task had moved last, as its stream ended. */
    this.endSeen = null;
    this.build();
  }

  // --- what there is to see ---------------------------------------------------------------------------------------

  build() {
    this.state = pill("queued", "large");
    this.name = make("h1", {}, "…");
    this.stopButton = make("button", { type: "button", class: "danger", onclick: () => this.stop() }, "Stop");
    this.resolveButton = make("button", { type: "button", onclick: () => this.resolve() }, "Resolve");
    this.retryButton = make("button", { type: "button", class: "primary", onclick: () => this.retry() }, "Retry");
    this.verdict = make("div", { class: "verdict", role: "status", tabindex: "-1", hidden: true });
    this.sentence = make("p", { class: "sentence" });
    this.next = make("p", { class: "dim" });
    this.also = make("p", { class: "hint" });
    this.evidence = make("dl", { class: "facts small" });
    this.why = make("section", { class: "card why", "aria-label": "Why it is where it is" },
      this.sentence, this.next, this.also,
      make("details", {}, make("summary", {}, "Evidence"), this.evidence));
    this.progress = bar();
    this.progress.hidden = true;
    this.facts = make("dl", { class: "facts" });
    this.timeline = make("ol", { class: "timeline" });
    this.attempts = make("tbody");
    this.attemptsCard = make("section", { class: "card block", hidden: true }, make("h2", {}, "Attempts"),
      make("table", { class: "attempts" }, make("thead", {}, make("tr", {}, ...["No.", "Worker", "Began", "Took", "Outcome"].map((words) => make("th", { scope: "col" }, words)))), this.attempts));
    this.error = json("Error");
    this.result = json("Result");
    this.undone = json("Undone");
    this.parameters = json("Parameters");
    for (const block of [this.error, this.result, this.undone]) block.hidden = true;
    set(this.error, "data-mood", "bad");
    this.head = make("div", { class: "task-head" },
      make("a", { href: "#/tasks", class: "back", onclick: (event) => (event.preventDefault(), this.back()) }, "← Tasks"),
      make("div", { class: "title" }, this.name, this.state,
        make("div", { class: "buttons" }, this.stopButton, this.resolveButton, this.retryButton)),
      make("p", { class: "whole-id" }, make("code", {}, this.id), copyButton(() => this.id, "Copy the id")));
    for (const button of [this.stopButton, this.resolveButton, this.retryButton]) button.hidden = true;
    this.content = make("div", { class: "task", "data-fresh": "yes" },
      make("div", { class: "main" }, this.verdict, this.why, this.progress, this.error,
        make("section", { class: "card block" }, make("h2", {}, "Timeline"), this.timeline), this.attemptsCard),
      make("div", { class: "side" }, make("section", { class: "card block" }, make("h2", {}, "Facts"), this.facts), this.result, this.undone, this.parameters));
    this.timeline.append(bones(4));
    this.page.replaceChildren(this.head, this.content);
  }

  begin() {
    const refused = (error) => this.refused(error);
    repeat(WHY_SECONDS, () => this.lookWhy(), this.signal, () => false);
    repeat(0, () => this.live(), this.signal, refused);
  }

  refused(error) {
    if (error.status === 404) this.content.replaceChildren(empty("No such task", "No task has this id, or it belongs to somebody else, or it is not kept any more."));
    else tell(error.message);
    return false;
  }

  // --- what happens ----------------------------------------------------------------------------------------------

  /** One life, to its end. What is over may be tried again, by anybody: then the stream goes on where it was. */
  async live() {
    await this.look();
    if (isOver(this.now.state) && this.endSeen === this.now.updated_at) return this.rest(OVER_SECONDS);
    try {
      this.last = await follow(`${this.path}/events`, this.last, (frame) => this.framed(frame), this.signal);
    } catch (error) {
      if (!(error instanceof Refused && error.status === 503)) throw error;
      // Too many follow tasks here already: ask for the history instead.
      await this.lookBack();
      return this.rest(LOOK_SECONDS);
    }
    await this.look();
    this.endSeen = this.now.updated_at;
    return 0;
  }

  /** Waits some seconds, or until something was done here. */
  async rest(seconds) {
    await Promise.race([pause(seconds, this.signal), new Promise((resolve) => (this.wake = resolve))]);
    return 0;
  }

  framed({ event, data }) {
    if (event === "progress") return this.showProgress(data);
    if (!event.startsWith("task.")) return;
    if (!this.events.some((known) => known.seq === data.seq)) this.events.push(data);
    this.showEvents();
    // The events that are there already come all at once: one look after them is enough.
    clearTimeout(this.soon);
    this.soon = setTimeout(() => {
      this.look().catch(() => {});
      this.lookWhy().catch(() => {});
    }, 60);
  }

  async lookBack() {
    const { items } = await get(`${this.path}/history`, { signal: this.signal });
    this.events = items;
    this.last = items.at(-1)?.seq ?? 0;
    this.showEvents();
  }

  async look() {
    this.now = await get(this.path, { signal: this.signal });
    this.showTask();
  }

  async lookWhy() {
    const why = await get(`${this.path}/explain`, { signal: this.signal });
    say(this.sentence, why.sentence);
    say(this.next, why.next);
    say(this.also, why.also.length ? `Also: ${why.also.map(spaced).join(", ")}.` : "");
    set(this.why, "data-state", why.state);
    showPairs(this.evidence, flat(why.evidence));
    return isOver(why.state) ? 2 * OVER_SECONDS : WHY_SECONDS;
  }

  // --- showing it -------------------------------------------------------------------------------------------------

  showTask() {
    const it = this.now;
    say(this.name, it.task_type);
    setPill(this.state, it.state);
    this.content.removeAttribute("data-fresh");
    this.stopButton.hidden = isOver(it.state);
    this.resolveButton.hidden = it.state !== "failed" || Boolean(it.resolved);
    this.retryButton.hidden = !mayRetry(it.state);
    this.allow(this.stopButton, "stop", ["committing", "revoking"].includes(it.state) && `It is ${it.state}: the stop will say so`);
    this.allow(this.resolveButton, "write");
    this.allow(this.retryButton, "write");
    this.showProgress(it.progress);
    showPairs(this.facts, factsOf(it));
    showBlock(this.error, isOver(it.state) || it.state === "retrying" ? it.error : null);
    showBlock(this.result, it.state === "succeeded" ? it.result : null);
    showBlock(this.undone, it.undone);
    this.parameters.show(it.parameters);
    this.showAttempts();
    if (this.awaited && isOver(it.state)) this.showAwaited();
  }

  allow(button, scope, words) {
    const isAllowed = may.scopes.includes(scope);
    button.disabled = !isAllowed || button.dataset.busy === "yes";
    set(button, "title", isAllowed ? words || null : `This key lacks the scope ${scope}`);
  }

  showProgress(progress) {
    const isOn = progress && ["running", "committing", "revoking"].includes(this.now?.state);
    this.progress.show(isOn ? progress : null);
  }

  showEvents() {
    this.events.sort((a, b) => a.seq - b.seq);
    this.timeline.querySelector(".bones")?.remove();
    keep(this.timeline, this.events.map((event, index) => ({ event, before: this.events[index - 1] })), ({ event }) => event.seq, buildEvent);
  }

  showAttempts() {
    this.attemptsCard.hidden = this.now.attempts.length < 1;
    keep(this.attempts, this.now.attempts, (attempt) => attempt.number,
      () => make("tr", {}, make("td"), make("td"), make("td"), make("td"), make("td")),
      (row, attempt) => {
        const took = attempt.ended_at ? span(secondsBetween(attempt.started_at, attempt.ended_at)) : "…";
        const why = attempt.error ? `: ${[attempt.error.type, attempt.error.message].filter(Boolean).join(": ")}` : "";
        const words = [attempt.number, attempt.worker, clock(attempt.started_at), took, `${attempt.outcome ?? "at it"}${why}`];
        words.forEach((each, index) => say(row.children[index], each));
        set(row.lastElementChild, "data-mood", attempt.outcome === "failed" ? "bad" : null);
      });
  }

  // --- doing something about it -----------------------------------------------------------------------------------

  async stop() {
    const answer = await this.act(this.stopButton, "Stopping…", () => ask("POST", `${this.path}/stop`, { answers: [409] }));
    if (!answer) return;
    const { body } = answer;
    this.awaited = body.verdict === "stopping";
    this.showVerdict(body);
    // The button that had the focus may be gone.
    this.verdict.focus();
  }

  showVerdict(said) {
    const { title, mood } = VERDICTS[said.verdict] ?? { title: said.title ?? "Not stopped", mood: "late" };
    const rows = said.rows_undone === undefined || said.rows_undone === null ? null
      : make("dl", { class: "figures" },
        make("div", {}, make("dt", {}, "rows undone"), make("dd", {}, number(said.rows_undone))),
        make("div", {}, make("dt", {}, "rows remaining"), make("dd", {}, said.rows_remaining === null ? "not known" : number(said.rows_remaining))));
    this.verdict.hidden = false;
    set(this.verdict, "data-mood", mood);
    set(this.verdict, "data-verdict", said.verdict);
    this.verdict.replaceChildren(
      make("div", {}, make("strong", {}, title), make("p", {}, said.message ?? said.detail ?? ""), said.verdict ? make("code", {}, said.verdict) : null),
      ...(rows ? [rows] : []));
  }

  /** What was being undone is undone: say how much that was. */
  showAwaited() {
    this.awaited = false;
    const { undone, state } = this.now;
    if (state === "revoked") this.showVerdict({ verdict: "rolled_back", message: "Everything it did was rolled back.", rows_undone: undone?.rows_undone, rows_remaining: undone?.rows_remaining ?? null });
  }

  async retry() {
    const answer = await this.act(this.retryButton, "Queuing…", () => ask("POST", `${this.path}/retry`, { body: {} }));
    if (!answer) return;
    this.verdict.hidden = true;
    tell(answer.body.message);
    this.wake?.();
  }

  /** Notes that the failure is dealt with: it stays failed, and nobody need look at it any more. */
  async resolve() {
    const note = await askWords({
      title: "Resolve the failure",
      about: "The task stays failed; this says that somebody has dealt with it. Retries of many tasks leave it out.",
      label: "What was done about it", placeholder: "Sent by hand on Monday", most: 1_000, act: "Resolve", required: true,
    });
    if (note === null) return;
    const answer = await this.act(this.resolveButton, "Noting…", () => ask("POST", `${this.path}/resolve`, { body: { note } }));
    if (!answer) return;
    tell("It is noted as dealt with.");
    await this.lookBack();
  }

  async act(button, words, what) {
    const before = button.textContent;
    button.dataset.busy = "yes";
    button.disabled = true;
    say(button, words);
    try {
      return await what();
    } catch (error) {
      if (this.signal.aborted) return null;
      if (!(error instanceof Refused || error instanceof Away)) throw error;
      this.showVerdict({ title: "That was refused", message: capital(error.message) });
      return null;
    } finally {
      delete button.dataset.busy;
      say(button, before);
      button.disabled = false;
      this.look().catch(() => {});
      this.lookWhy().catch(() => {});
    }
  }

  copyId() {
    copy(this.id).then(() => tell("The id is copied."));
  }

  back() {
    location.hash = sessionStorage.getItem("sluice.list") ?? "#/tasks";
  }
}

// --- pieces -------------------------------------------------------------------------------------------------------

function buildEvent({ event, before }) {
  const later = before ? secondsBetween(before.at, event.at) : null;
  const detail = event.detail && Object.keys(event.detail).length ? event.detail : null;
  return make("li", { "data-state": event.state },
    make("div", { class: "what" },
      make("b", {}, eventWords(event.event)),
      make("span", { class: "dim" }, spaced(event.state), event.attempt ? ` · attempt ${event.attempt}` : "")),
    make("div", { class: "when" },
      make("time", { datetime: event.at, title: whole(event.at) }, clock(event.at)),
      later === null ? null : make("span", { class: "dim" }, `+${span(later)}`)),
    event.remark ? make("p", { class: "remark" }, event.remark) : null,
    detail ? make("p", { class: "detail" }, Object.entries(detail).map(([name, value]) => `${spaced(name)}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(" · ")) : null);
}

/** What is shown beside a name: a text, or an element that is made anew only when its text differs. */
function showPairs(place, pairs) {
  keep(place, pairs, ([name]) => name,
    ([name]) => make("div", {}, make("dt", {}, name), make("dd")),
    (row, [, value]) => {
      const cell = row.lastElementChild;
      if (value instanceof Node) {
        if (cell.textContent !== value.textContent || !cell.firstElementChild) cell.replaceChildren(value);
      } else say(cell, value);
    });
}

function factsOf(it) {
  const moment = (at) => make("span", {}, make("time", { datetime: at, title: whole(at) }, clock(at)), make("span", { class: "dim" }, " · "), since(at));
  const relatives = (list) => make("span", { class: "relatives" }, ...list.map((each) => make("span", {}, idLink(each.task_id), " ", each.state ? pill(each.state) : "not kept any more")));
  return [
    ["Priority", make("span", { "data-priority": it.priority }, it.priority)],
    ["Queue", it.queue],
    ["Submitted", moment(it.created_at)],
    it.due_at && !isOver(it.state) && ["Due", moment(it.due_at)],
    it.expires_at && ["Expires", moment(it.expires_at)],
    it.started_at && ["Began", moment(it.started_at)],
    it.finished_at && ["Ended", moment(it.finished_at)],
    it.started_at && it.finished_at && ["Took", span(secondsBetween(it.started_at, it.finished_at))],
    ["Attempts", `${it.attempt}, ${it.retries} of ${counted(it.max_retries, "retry").replace("retrys", "retries")} used`],
    ["Time limit", span(it.timeout)],
    it.worker && ["Worker", it.worker],
    it.tags.length && ["Tags", make("span", { class: "tags" }, ...it.tags.map((tag) => make("a", { class: "tag", href: listOf({ tag }) }, tag)))],
    it.resolved && ["Dealt with", `${it.resolved.note} (${it.resolved.by})`],
    it.depends_on.length && ["Depends on", relatives(it.depends_on)],
    it.dependents.length && ["Others wait for it", relatives(it.dependents)],
  ].filter(Boolean);
}

function showBlock(block, value) {
  block.hidden = value === null || value === undefined;
  if (!block.hidden) block.show(value);
}

/** Nested evidence as pairs of a name and a text. */
function flat(value, name = "") {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    return Object.entries(value).flatMap(([key, inner]) => flat(inner, name ? `${name}, ${spaced(key)}` : capital(spaced(key))));
  }
  if (Array.isArray(value) && value.some((each) => typeof each === "object")) {
    return value.flatMap((each, index) => flat(each, `${name} ${index + 1}`));
  }
  const words = Array.isArray(value) ? value.join(", ") || "none" : value === null ? "none" : value === true ? "yes" : value === false ? "no" : String(value);
  return [[name, words]];
}
