// The words of the page: for states, moves, verdicts, times and numbers.

/** The states in the order of a life; the last four are ends. */
export const STATES = [
  "scheduled", "blocked", "queued", "throttled", "running", "committing", "revoking", "retrying",
  "succeeded", "failed", "revoked", "expired",
];
const ENDS = new Set(["succeeded", "failed", "revoked", "expired"]);
export const isOver = (state) => ENDS.has(state);
export const mayRetry = (state) => isOver(state) && state !== "succeeded";

export const PRIORITIES = ["high", "normal", "low"];

const EVENTS = {
  accepted: "Accepted: it is on disk",
  due: "Its time came",
  postponed: "Put off",
  unblocked: "What it waited for has succeeded",
  unblocked_early: "What it waited for has succeeded; its own time has not come",
  parent_failed: "A task that it depends on did not succeed",
  expired: "Expired before it began",
  throttled: "A limit is reached: it waits for a place",
  admitted: "There is a place for it",
  claimed: "A worker took it",
  decided: "Decided: it becomes true",
  finished: "Finished",
  retried: "The attempt failed; another follows",
  given_up: "Given up",
  handed_back: "Handed back by its worker",
  undeliverable: "No ticket could be delivered",
  stopped: "Stopped before it began",
  stopping: "Stopped: being undone",
  rolled_back: "Rolled back",
  replayed: "Tried again by hand",
  redispatched: "Its lost ticket was sent again",
  explained: "Why it waits",
  edited: "Changed",
  resolved: "Dealt with",
};
export const eventWords = (event) => EVENTS[event] ?? spaced(event);

/** Each verdict of a stop: a title, and whether the task's work is gone (good), stays (bad), or is not decided here. */
export const VERDICTS = {
  stopped_before_start: { title: "Stopped before it began", mood: "good" },
  rolled_back: { title: "Stopped and rolled back", mood: "good" },
  stopping: { title: "Being undone", mood: "busy" },
  too_late_committed: { title: "Too late: it was already committed", mood: "late" },
  already_finished: { title: "It had already ended", mood: "late" },
};

export const spaced = (word) => String(word).replaceAll("_", " ");
export const capital = (words) => words.slice(0, 1).toUpperCase() + words.slice(1);

const NUMBERS = new Intl.NumberFormat("en");
export const number = (value) => NUMBERS.format(value);
export const counted = (value, thing) => `${number(value)} ${thing}${value === 1 ? "" : "s"}`;

/** 12345 as 12 k, where there is little room. */
export function brief(value) {
  if (value < 10_000) return number(value);
  return value < 1_000_000 ? `${Math.floor(value / 1_000)} k` : `${(value / 1_000_000).toFixed(1)} M`;
}

/** A duration as one says it. */
export function span(seconds) {
  const s = Math.max(0, seconds);
  if (s < 1) return `${Math.round(s * 1_000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7_200) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${Math.round(s / 3_600)} h`;
  return `${Math.round(s / 86_400)} days`;
}

let skew = 0;
/** The page goes by the API's clock: a machine's own may be off. Its header has whole seconds, so a second is nothing. */
export function setClock(header) {
  const off = Date.parse(header) - Date.now();
  if (Number.isFinite(off)) skew = Math.abs(off) > 2_000 ? off : 0;
}
export const now = () => Date.now() + skew;

export const secondsSince = (moment) => (now() - Date.parse(moment)) / 1_000;
export const secondsBetween = (from, to) => (Date.parse(to) - Date.parse(from)) / 1_000;

/** "12 s ago", or "in 3 min". */
export function ago(moment) {
  const seconds = secondsSince(moment);
  if (seconds < -1) return `in ${span(-seconds)}`;
  return seconds < 1 ? "just now" : `${span(Math.floor(seconds))} ago`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });

export const whole = (moment) => WHOLE.format(new Date(moment));
/** The time, with the day where it is another than today. */
export function clock(moment) {
  const at = new Date(moment);
  const today = new Date(now()).toDateString() === at.toDateString();
  return today ? CLOCK.format(at) : `${DAY.format(at)}, ${CLOCK.format(at)}`;
}

/** A moment as a field for times of this place has it; Swedes write them that way. */
export const local = (moment) => new Date(moment).toLocaleString("sv").replace(" ", "T");

/** An id where there is little room: its beginning says when, its end says which. */
export const short = (id) => (id.length > 20 ? `${id.slice(0, 8)}…${id.slice(-6)}` : id);
