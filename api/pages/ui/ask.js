// Asks the API: with the key of this tab, in words of its own when it refuses, and again when it was away.

import { setClock } from "./words.js";

const KEY = "sluice.key";
/** Seconds until a request counts as not answered; a stop may take five, and its client's line some more. */
const PATIENCE_SECONDS = 20;
const MOST_WAIT_SECONDS = 10;

/** Tells `up`, `down` (detail: words) and `shut` (detail: words, when the key opens nothing any more). */
export const line = new EventTarget();

/** The API said no. `status` and `problem` (RFC 9457) say why. */
export class Refused extends Error {
  constructor(status, problem, seconds) {
    super(problem.detail ?? problem.title ?? `The API answered ${status}.`);
    this.status = status;
    this.problem = problem;
    this.seconds = seconds;
  }
}

/** The API, or its ledger, does not answer. */
export class Away extends Error {}

export const key = () => sessionStorage.getItem(KEY);
export const hasKey = () => Boolean(key());
export const keepKey = (words) => sessionStorage.setItem(KEY, words);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** What the key may do; filled at the sign-in. */
export const may = { owner: "", scopes: [] };

/**
 * One request. Answers `{status, body}`; throws Refused, Away, or the abort of the signal.
 *
 * `answers` are statuses that are no fault; `isAside` says that it tells nothing of whether the API answers others.
 */
export async function ask(method, path, { body, signal, shown = key(), headers: more = {}, answers = [], isAside = false } = {}) {
  const headers = { Accept: "application/json", "X-API-Key": shown ?? "", ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const patience = AbortSignal.timeout(PATIENCE_SECONDS * 1_000);
  let answer, told;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
    });
    told = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw down("The API does not answer.", isAside);
  }
  setClock(answer.headers.get("Date"));
  const said = parsed(told);
  if (answer.ok || answers.includes(answer.status)) {
    if (!isAside) up();
    return { status: answer.status, body: said };
  }
  throw refusal(answer, said, isAside);
}

export const get = async (path, options) => (await ask("GET", path, options)).body;

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

function refusal(answer, said, isAside = false) {
  if ([502, 503, 504].includes(answer.status)) {
    return down(said.detail ? `The API says: ${said.detail}.` : "The API does not answer.", isAside);
  }
  if (!isAside) up();
  const refused = new Refused(answer.status, said, Number(answer.headers.get("Retry-After")) || 0);
  if (answer.status === 401) line.dispatchEvent(new CustomEvent("shut", { detail: refused.message }));
  return refused;
}

function up() {
  line.dispatchEvent(new Event("up"));
}

function down(words, isAside = false) {
  if (!isAside) line.dispatchEvent(new CustomEvent("down", { detail: words }));
  return new Away(words);
}

/** Resolves after some seconds, or at once when the signal is given. */
export function pause(seconds, signal) {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1_000);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** A signal that is given when nobody looks any more. */
function unseen() {
  const gone = new AbortController();
  document.addEventListener("visibilitychange", () => document.hidden && gone.abort(), { signal: gone.signal });
  return gone;
}

/** Resolves when somebody looks at the page, or the signal is given. */
function seen(signal) {
  if (!document.hidden || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => document.hidden || (document.removeEventListener("visibilitychange", look), resolve());
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", resolve, { once: true });
  });
}

/**
 * Does something again and again while somebody looks, with a wait in between that grows while the API is away.
 *
 * `act` may answer with the seconds until the next time; `onRefused` is told of a no, and ends it unless it says true.
 */
export async function repeat(seconds, act, signal, onRefused = () => false) {
  for (let missed = 0; !signal.aborted; ) {
    let wait = seconds;
    try {
      wait = (await act()) ?? seconds;
      missed = 0;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status === 429) wait = Math.max(seconds, error.seconds || 5);
      else if (error instanceof Refused) {
        if (!onRefused(error)) return;
      } else if (error instanceof Away) wait = Math.min(MOST_WAIT_SECONDS, 2 ** missed++);
      else throw error;
    }
    await pause(wait, signal);
    await seen(signal);
  }
}

/**
 * Follows a stream of Server-Sent Events to its end; a lost line is taken up where it was. EventSource cannot send a key.
 *
 * While nobody looks there is no line: a browser has six to one host, which hidden tabs would take from the one in front.
 * `onFrame({id, event, data})` is told each frame. Answers the id of the last event.
 */
export async function follow(path, last, onFrame, signal) {
  for (let missed = 0; !signal.aborted; ) {
    await seen(signal);
    const gone = unseen();
    try {
      for await (const frame of frames(path, last, AbortSignal.any([signal, gone.signal]))) {
        missed = 0;
        last = frame.id ?? last;
        if (frame.event === "end") return last;
        onFrame(frame);
      }
    } catch (error) {
      if (gone.signal.aborted) continue;
      if (error instanceof Refused) throw error;
    } finally {
      gone.abort();
    }
    await pause(Math.min(MOST_WAIT_SECONDS, 2 ** missed++), signal);
  }
  return last;
}

async function* frames(path, last, signal) {
  const headers = { Accept: "text/event-stream", "X-API-Key": key() ?? "" };
  if (last) headers["Last-Event-ID"] = String(last);
  let answer;
  try {
    answer = await fetch(path, { headers, cache: "no-store", signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw down("The API does not answer.");
  }
  if (answer.status === 204) {
    yield { id: null, event: "end", data: null };
    return;
  }
  if (!answer.ok) {
    const said = parsed(await answer.text());
    // Too many follow already: the line is there, this stream is not.
    if (said.title === "Too many streams") throw new Refused(answer.status, said, 0);
    throw refusal(answer, said);
  }
  up();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const frame = parsedFrame(block);
      if (frame) yield frame;
    }
  }
}

function parsedFrame(block) {
  const frame = { id: null, event: "message", data: null };
  let text = "";
  for (const row of block.split("\n")) {
    const [name, value] = [row.slice(0, row.indexOf(":")), row.slice(row.indexOf(":") + 1).trimStart()];
    if (name === "id") frame.id = value;
    if (name === "event") frame.event = value;
    if (name === "data") text += value;
  }
  if (!text) return null;
  frame.data = parsed(text);
  return frame;
}
