// Figures of an answer: what the page can time itself while tokens come, then what the engine measured.

/** Returns milliseconds as a person reads them. */
export function duration(milliseconds) {
  if (milliseconds >= 10000) return `${(milliseconds / 1000).toFixed(1)} s`;
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(2)} s`;
  return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}

/** Returns a count with separators of thousands. */
export function count(value, digits = 0) {
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** Returns a number of tokens. */
export function tokens(number) {
  return `${count(number)} token${number === 1 ? "" : "s"}`;
}

function memory(mib) {
  return mib < 1024 ? `${count(mib)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}

/** The panel of the last answer. */
export class Figures {
  #begin = 0;
  #first = 0;
  #pieces = 0;
  #ticking = 0;

  /** Milliseconds from the request to the first token, as this page sees them; 0 before it. */
  get ttft() {
    return this.#first && this.#first - this.#begin;
  }

  /** Starts the clock for a request. */
  begin() {
    clearInterval(this.#ticking);
    this.#begin = performance.now();
    this.#first = this.#pieces = 0;
    for (const name of ["encode", "prefill", "rate", "memory"]) show(name, "…");
    show("ttft", "0 ms");
    this.#ticking = setInterval(() => show("ttft", duration(performance.now() - this.#begin)), 100);
  }

  /** Counts a piece of the answer, about one token; returns what is known so far. */
  piece() {
    const now = performance.now();
    this.#pieces += 1;
    if (!this.#first) {
      this.#first = now;
      clearInterval(this.#ticking);
      show("ttft", duration(this.ttft), "as this page sees it");
    }
    const known = [`${tokens(this.#pieces)} so far`, `TTFT ${duration(this.ttft)}`];
    if (now - this.#first > 200) {
      const rate = `≈ ${count(((this.#pieces - 1) * 1000) / (now - this.#first))}`;
      show("rate", rate, known[0]);
      known.push(`${rate} tokens/s`);
    }
    return known.join(" · ");
  }

  /**
   * Shows what the engine measured.
   *
   * @param {object} timings of the last chunk
   * @param {object} usage tokens; null where the stream did not say
   * @param {boolean} hasImage whether the conversation shows an image
   */
  finish(timings, usage, hasImage) {
    const reused = usage?.prompt_tokens_details.cached_tokens ?? 0;
    const cached = hasImage && !timings.image_encode_ms;
    const encode = timings.image_encode_ms ? "image to tokens" : cached ? "image was encoded before" : "no image";
    show("encode", timings.image_encode_ms ? duration(timings.image_encode_ms) : "–", encode);
    show("prefill", duration(timings.prompt_ms), `${tokens(timings.prompt_n)}${reused ? `, ${count(reused)} reused` : ""}`);
    show("ttft", duration(timings.ttft_ms), this.ttft ? `${duration(this.ttft)} as this page sees it` : "");
    show("rate", timings.predicted_per_second ? count(timings.predicted_per_second) : "–", tokens(timings.predicted_n));
    show("memory", memory(timings.peak_rss_mib), "peak of the engine's process");
  }

  /** Ends without the engine's figures: of a closed question, or no whole answer. Those that the page has stay. */
  leave() {
    clearInterval(this.#ticking);
    for (const name of ["encode", "prefill", "rate", "memory"]) {
      if (document.getElementById(name).textContent === "…") show(name, "–");
    }
    if (!this.#first) show("ttft", "–");
  }
}

function show(name, text, more = "") {
  document.getElementById(name).textContent = text;
  document.getElementById(`${name}-more`).textContent = more;
}
