// The page's frame: who is signed in, which view is shown, the keys of the keyboard, and the line to the API.

import { Refused, forgetKey, get, hasKey, keepKey, line, may, repeat } from "./ask.js";
import { make, say, set, tell } from "./make.js";
import { ago, clock, now } from "./words.js";
import { newTask } from "./new.js";
import { overview } from "./overview.js";
import { bones } from "./parts.js";
import { task } from "./task.js";
import { tasks } from "./tasks.js";

const page = document.getElementById("page");
const trouble = document.getElementById("trouble");
const VIEWS = { "": overview, tasks, new: newTask };

// --- which view ---------------------------------------------------------------------------------------------------

let shown = { view: null, end: new AbortController(), api: {} };

/** `#/tasks/<id>?a=b` as its parts. */
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id = ""] = path.split("/");
  return { name, id: decoded(id), query: new URLSearchParams(query) };
}

function decoded(word) {
  try {
    return decodeURIComponent(word);
  } catch {
    return word;
  }
}

function show() {
  if (!hasKey()) return signIn();
  const where = route();
  const view = where.name === "tasks" && where.id ? task : (VIEWS[where.name] ?? overview);
  mark(where.name);
  if (shown.view === view && shown.api.update?.(where)) return;
  const first = shown.view === null;
  shown.end.abort();
  shown = { view, end: new AbortController(), api: {} };
  page.replaceChildren();
  scrollTo(0, 0);
  shown.api = view(page, where, shown.end.signal) ?? {};
  document.title = `${shown.api.title ?? "Overview"} · Sluice`;
  // Whoever listens to the page is told where it is; the first time the browser does.
  if (!first) page.focus({ preventScroll: true });
}

function mark(name) {
  for (const link of document.querySelectorAll("#pages a")) {
    set(link, "aria-current", link.hash.replace("#/", "") === name ? "page" : null);
  }
}

addEventListener("hashchange", show);

// --- who is signed in ---------------------------------------------------------------------------------------------

function signIn(words = "") {
  shown.end.abort();
  shown = { view: null, end: new AbortController(), api: {} };
  frame(false);
  trouble.hidden = true;
  document.title = "Sign in · Sluice";
  const field = make("input", {
    id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true,
    placeholder: "sluice_a1b2c3d4_…", "aria-describedby": "key-fault key-hint",
  });
  const fault = make("p", { id: "key-fault", class: "fault", role: "alert" }, words);
  const button = make("button", { class: "primary" }, "Sign in");
  const form = make("form", { class: "card sign-in", novalidate: true },
    make("img", { src: "ui/favicon.svg", alt: "", width: "44", height: "44" }),
    make("h1", {}, "Sluice"),
    make("p", { class: "dim" }, "How the service does, and what becomes of a task."),
    make("label", { for: "key" }, "API key"),
    field, fault, button,
    make("p", { class: "hint", id: "key-hint" },
      "After ", make("code", {}, "make up"), " on this machine, ", make("code", {}, "make env"),
      " prints one. It stays in this tab until you close it or sign out."),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    say(fault, "");
    const found = await tried(field.value.trim());
    button.disabled = false;
    if (found) return say(fault, found), field.focus(), field.select();
    keepKey(field.value.trim());
    enter();
  });
  page.replaceChildren(form);
  field.focus();
}

/** What speaks against a key; nothing when it opens the page. */
async function tried(words) {
  if (!words) return "Type in a key.";
  if (!/^[\x21-\x7e]+$/.test(words)) return "This is no key: a key has no blanks and no letters beyond ASCII.";
  try {
    Object.assign(may, await get("api/keys/mine", { shown: words, isAside: true }));
    return "";
  } catch (error) {
    if (error instanceof Refused && error.status === 403) {
      return "This key may not look at tasks: it lacks the scope read.";
    }
    return sentence(error.message);
  }
}

const sentence = (words) => `${words.slice(0, 1).toUpperCase()}${words.slice(1).replace(/\.?$/, ".")}`;

function enter() {
  frame(true);
  set(document.getElementById("leave"), "title", `Signed in for ${may.owner || "nobody"}: ${may.scopes.join(", ")}`);
  show();
}

function frame(isIn) {
  for (const id of ["pages", "leave", "line"]) document.getElementById(id).hidden = !isIn;
}

document.getElementById("leave").addEventListener("click", () => {
  forgetKey();
  signIn();
});

line.addEventListener("shut", (event) => {
  if (!hasKey()) return;
  forgetKey();
  signIn(sentence(event.detail));
});

// --- the line to the API ------------------------------------------------------------------------------------------

let lastUp = null;

line.addEventListener("up", () => {
  if (!trouble.hidden) tell("The API answers again.");
  lastUp = now();
  trouble.hidden = true;
  lamp(true, "Live");
});

line.addEventListener("down", (event) => {
  const since = lastUp ? ` What you see is of ${clock(lastUp)}.` : "";
  say(trouble, `${event.detail}${since} Trying again…`);
  trouble.hidden = false;
  lamp(false, "Not connected");
});

function lamp(isUp, words) {
  const place = document.getElementById("line");
  set(place, "data-up", isUp ? "yes" : "no");
  set(place, "title", words);
  say(document.getElementById("line-words"), words);
}

// --- the colours --------------------------------------------------------------------------------------------------

const COLOURS = { system: "as the system has them", light: "light", dark: "dark" };
const switchOfColours = document.getElementById("colours");

function paint(choice) {
  if (choice === "system") delete document.documentElement.dataset.colours;
  else document.documentElement.dataset.colours = choice;
  for (const name of ["title", "aria-label"]) set(switchOfColours, name, `Colours: ${COLOURS[choice]}`);
}

switchOfColours.addEventListener("click", () => {
  const all = Object.keys(COLOURS);
  const next = all[(all.indexOf(document.documentElement.dataset.colours ?? "system") + 1) % all.length];
  paint(next);
  try {
    if (next === "system") localStorage.removeItem("sluice.colours");
    else localStorage.setItem("sluice.colours", next);
  } catch {
    // It holds until the page is loaded anew, then.
  }
});
paint(document.documentElement.dataset.colours ?? "system");

// --- the keyboard -------------------------------------------------------------------------------------------------

const help = document.getElementById("help");
document.getElementById("ask-help").addEventListener("click", () => help.showModal());

const GO = { o: "#/", t: "#/tasks", n: "#/new" };

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "?") help.showModal();
  else if (hasKey() && shown.api.keys?.[event.key]) shown.api.keys[event.key]();
  else if (hasKey() && GO[event.key]) location.hash = GO[event.key];
  else return;
  event.preventDefault();
});

// --- times that go on ---------------------------------------------------------------------------------------------

setInterval(() => {
  for (const time of document.querySelectorAll("time[data-ago]")) say(time, ago(time.dateTime));
}, 1_000);

// --- the beginning ------------------------------------------------------------------------------------------------

/** What the key may do is asked anew each time the page is loaded: it may have changed, and buttons depend on it. */
async function begin() {
  if (!hasKey()) return signIn();
  frame(true);
  page.replaceChildren(bones(8));
  const known = new AbortController();
  await repeat(2, async () => {
    Object.assign(may, await get("api/keys/mine"));
    known.abort();
  }, known.signal, (error) => signIn(sentence(error.message)));
  if (hasKey() && known.signal.aborted) enter();
}

begin();
