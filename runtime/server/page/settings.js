// Dark mode, and the API key.

import { apiKey, keepApiKey } from "./api.js";

const THEME = "mobilevlm.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** Follows the system's colours until the person chooses others. */
export function startTheme() {
  const theme = document.getElementById("theme");
  const isDark = () => (localStorage.getItem(THEME) ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => {
    document.documentElement.dataset.theme = isDark() ? "dark" : "light";
    theme.setAttribute("aria-checked", String(isDark()));
  };
  theme.addEventListener("click", () => {
    const wanted = isDark() ? "light" : "dark";
    if ((wanted === "dark") === system.matches) localStorage.removeItem(THEME);
    else localStorage.setItem(THEME, wanted);
    show();
  });
  system.addEventListener("change", show);
  show();
}

/** The field of the API key below the header. */
export class KeyField {
  #form = document.getElementById("key-form");
  #field = document.getElementById("key");
  #opener = document.getElementById("key-open");

  /** @param {() => void} changed called with a new key in place */
  constructor(changed) {
    this.#opener.addEventListener("click", () => (this.isOpen ? this.close() : this.open()));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      keepApiKey(this.#field.value.trim());
      this.close();
      changed();
    });
  }

  get isOpen() {
    return !this.#form.hidden;
  }

  /** Shows the field, with the key that is in use. */
  open() {
    this.#form.hidden = false;
    this.#opener.setAttribute("aria-expanded", "true");
    this.#field.value = apiKey();
    this.#field.focus();
  }

  /** Hides it; the focus goes back to its button. */
  close() {
    const had = this.#form.contains(document.activeElement);
    this.#form.hidden = true;
    this.#opener.setAttribute("aria-expanded", "false");
    if (had) this.#opener.focus();
  }
}
