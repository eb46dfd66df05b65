// Parts that several views show: a state, a time, a bar, a link to a task, a piece of JSON.

import { copy, make, say, set, tell } from "./make.js";
import { ago, number, short, spaced, whole } from "./words.js";

export const linkTo = (id) => `#/tasks/${encodeURIComponent(id)}`;

/** The address of a list: of what is asked for, or of all tasks. */
export function listOf(asked) {
  const words = new URLSearchParams(asked).toString();
  return words ? `#/tasks?${words}` : "#/tasks";
}

export const pill = (state, more = "") => make("span", { class: `pill ${more}`, "data-state": state }, spaced(state));

export function setPill(element, state) {
  set(element, "data-state", state);
  say(element, spaced(state));
}

/** A moment as its distance from now, which goes on by itself; the whole of it on a long look. */
export const since = (moment) => make("time", { datetime: moment, title: whole(moment), "data-ago": true }, ago(moment));

export function setSince(element, moment) {
  set(element, "datetime", moment);
  set(element, "title", whole(moment));
  say(element, ago(moment));
}

/** How far something is. Its words stand beside it, so that it says more than a length. */
export function bar() {
  const fill = make("i");
  const words = make("span", { class: "bar-words" });
  const track = make("span", { class: "track", role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
  const element = make("span", { class: "bar" }, track, words);
  element.show = (progress) => {
    element.hidden = !progress;
    if (!progress) return;
    const { done, total, percent } = progress;
    fill.style.inlineSize = `${percent ?? 0}%`;
    set(track, "aria-valuenow", percent === null ? null : Math.round(percent));
    set(track, "data-open", percent === null ? "yes" : null);
    say(words, total ? `${number(done)} of ${number(total)}` : `${number(done)} done`);
  };
  return element;
}

export const idLink = (id, text = short(id)) => make("a", { href: linkTo(id), class: "id", title: id }, text);

export function copyButton(text, label) {
  return make("button", {
    type: "button", class: "quiet small", "aria-label": label,
    onclick: () => copy(text()).then(() => tell("Copied.")),
  }, "Copy");
}

/** Characters of one piece of JSON that are shown at once. */
const MOST_SHOWN = 20_000;

/** A titled piece of JSON, which is shown as it is: as text. */
export function json(title) {
  const pre = make("pre", { tabindex: "0", role: "group", "aria-label": title });
  const more = make("button", { type: "button", class: "quiet small", hidden: true }, "Show all of it");
  let text = "";
  let all = false;
  const draw = () => {
    more.hidden = all || text.length <= MOST_SHOWN;
    say(pre, more.hidden ? text : `${text.slice(0, MOST_SHOWN)}…`);
  };
  more.addEventListener("click", () => ((all = true), draw()));
  const element = make("section", { class: "card block" },
    make("div", { class: "head" }, make("h2", {}, title), copyButton(() => text, `Copy: ${title}`)), pre, more);
  element.show = (value) => {
    text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    draw();
  };
  return element;
}

/** What is said where there is nothing. */
export const empty = (title, ...words) => make("div", { class: "empty" }, make("p", { class: "empty-title" }, title), make("p", {}, ...words));

/** Rows of the height of those that come, so that nothing jumps when they do. */
export const bones = (rows) => make("div", { class: "bones", "aria-hidden": "true" }, ...Array.from({ length: rows }, () => make("i")));
