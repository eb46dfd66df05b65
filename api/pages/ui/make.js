// Makes and changes elements. Text goes in as text and as nothing else: what tasks hold was written by anybody.

/** An element. Attributes that begin with `on` are listeners; children are elements, texts, or nothing. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Writes a text where it differs, so that nothing flickers and no selection is lost. */
export function say(element, text) {
  const words = text === null || text === undefined ? "" : String(text);
  if (element.textContent !== words) element.textContent = words;
}

/** Sets an attribute where it differs; null takes it away. */
export function set(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/**
 * Makes a parent's children those of `items`, in their order. Who stays is not moved, and keeps its focus.
 *
 * `build(item)` makes an element once, `refresh(element, item)` brings it up to date each time.
 */
export function keep(parent, items, keyOf, build, refresh = () => {}) {
  const wanted = new Set(items.map((item) => String(keyOf(item))));
  const here = new Map();
  for (const element of [...parent.children]) {
    if (wanted.has(element.dataset.key)) here.set(element.dataset.key, element);
    else element.remove();
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let element = here.get(key);
    if (!element) {
      element = build(item);
      element.dataset.key = key;
    }
    refresh(element, item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
}

/** Puts a text into the clipboard, also where the page came over plain HTTP. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = make("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" });
    field.value = text;
    const before = document.activeElement;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    before?.focus?.();
  }
}

/** Tells something in passing, to eyes and to screen readers. */
export function tell(words) {
  const place = document.getElementById("said");
  place.replaceChildren(make("p", {}, words));
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => place.replaceChildren(), 6_000);
}
