// Asks for some words before something is done: a dialog with one field.

import { make } from "./make.js";

/** Resolves with what was written, or with null where it is left alone. */
export function askWords({ title, about, label, placeholder, act, most, required = false }) {
  const words = make("input", { id: "dialog-words", maxlength: String(most), placeholder, required, autocomplete: "off" });
  const dialog = make("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-about" },
    make("form", { method: "dialog" },
      make("h2", { id: "dialog-title" }, title),
      make("p", { class: "dim", id: "dialog-about" }, about),
      make("label", { for: "dialog-words" }, label), words,
      make("div", { class: "buttons" },
        make("button", { class: "quiet", type: "button", onclick: () => dialog.close() }, "Leave it"),
        make("button", { value: "yes", class: "primary" }, act))));
  document.body.append(dialog);
  dialog.showModal();
  words.focus();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.returnValue === "yes" ? words.value.trim() : null);
  }));
}
