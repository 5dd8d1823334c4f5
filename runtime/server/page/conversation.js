// The conversation: its turns on the page, and as the messages that the server gets. All text that a person or a model
// wrote goes in as text, never as HTML.

import { count, duration, tokens } from "./figures.js";

/** A question and what became of it. */
export class Turn {
  /** Text of the answer so far. */
  text = "";
  /** Whether the next questions follow up on it: not on one that failed, or was stopped before its first token. */
  counts = false;

  /**
   * @param {HTMLElement} list where it is shown
   * @param {string} question as the person wrote it
   * @param {string[]} choices of a closed question; empty for a free answer
   * @param {string} request what the model reads behind the question: the form of the answer; empty for none
   */
  constructor(list, question, choices, request = "") {
    this.question = question;
    this.sent = [question, request].filter(Boolean).join("\n");
    this.element = made("li", "turn");
    const asked = made("div", "asked");
    asked.append(made("h3", "unseen", "Question"), made("p", "text", question));
    if (request) asked.append(made("p", "asked-more", request));
    if (choices.length) asked.append(made("p", "asked-more", choices.join(" / ")));
    this.answer = made("div", "answer waiting");
    this.answer.setAttribute("aria-busy", "true");
    this.shown = made("p", "text");
    this.facts = made("p", "facts");
    this.answer.append(made("h3", "unseen", "Answer"), this.shown, this.facts);
    this.element.append(asked, this.answer);
    list.append(this.element);
  }

  /**
   * Adds a piece of the answer.
   *
   * @param {string} piece
   * @param {string} facts what is known of the answer so far
   */
  add(piece, facts = "") {
    this.text += piece;
    this.counts = true;
    this.answer.classList.remove("waiting");
    this.shown.textContent = this.text;
    this.facts.textContent = facts;
  }

  /**
   * Shows the probabilities of a closed question's choices.
   *
   * @param {{answer: string | null, choices: {choice: string, probability: number}[]}} chosen
   */
  choose(chosen) {
    this.text = chosen.answer ?? "";
    this.counts = chosen.answer !== null;
    this.answer.classList.remove("waiting");
    this.shown.textContent = chosen.answer ?? "No answer: no choice is likely enough.";
    const bars = made("ul", "bars");
    for (const { choice, probability } of chosen.choices) {
      const bar = made("li", choice === chosen.answer ? "bar best" : "bar");
      const percent = `${(probability * 100).toFixed(1)} %`;
      const track = made("span", "track");
      const fill = made("span", "fill");
      fill.style.width = `${probability * 100}%`;
      track.append(fill);
      bar.append(made("span", "choice", choice), track, made("span", "percent", percent));
      bars.append(bar);
    }
    this.facts.before(bars);
  }

  /** Ends with a line of facts below the answer. */
  end(facts = "") {
    this.answer.classList.remove("waiting");
    this.answer.setAttribute("aria-busy", "false");
    this.facts.textContent = facts;
  }

  /** Ends with an error, in the server's words. */
  fail(error) {
    this.counts = false;
    this.end();
    const box = made("div", "failed");
    box.setAttribute("role", "alert");
    const text = made("p", "text");
    text.append(made("strong", "", error.status ? `Error ${error.status}: ` : "Error: "), error.message);
    box.append(text);
    if (error.retryAfter) box.append(made("p", "facts", `Try again in ${error.retryAfter} seconds.`));
    this.answer.append(box);
  }
}

/** Returns the line of figures below an answer. */
export function factsOf(timings, finish, bundle) {
  const facts = [tokens(timings.predicted_n), `TTFT ${duration(timings.ttft_ms)}`];
  if (timings.predicted_per_second) facts.push(`${count(timings.predicted_per_second)} tokens/s`);
  if (bundle) facts.push(bundle);
  if (finish === "length") facts.push("cut: the context is full");
  return facts.join(" · ");
}

/**
 * Returns a conversation as OpenAI's messages: the image stands in the first question.
 *
 * @param {Turn[]} turns answered before
 * @param {Turn} now to be answered
 * @param {string | null} imageUrl `data:` URL; null for none
 */
export function messagesOf(turns, now, imageUrl) {
  const messages = [];
  for (const turn of turns.filter((one) => one.counts)) {
    messages.push({ role: "user", content: turn.sent }, { role: "assistant", content: turn.text });
  }
  messages.push({ role: "user", content: now.sent });
  if (imageUrl) {
    const image = { type: "image_url", image_url: { url: imageUrl } };
    messages[0].content = [image, { type: "text", text: messages[0].content }];
  }
  return messages;
}

/** Returns an element. */
export function made(name, kind = "", text = "") {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  element.textContent = text;
  return element;
}
