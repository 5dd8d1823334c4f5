// The page: a question goes out, its answer streams in.

import { answer, bundles, choose } from "./api.js";
import { factsOf, made, messagesOf, Turn } from "./conversation.js";
import { count, duration, Figures } from "./figures.js";
import { ImagePanel } from "./image_panel.js";
import { KeyField, startTheme } from "./settings.js";
import { say, sayEnd, saySentences } from "./spoken.js";

// Models of LLaVA's family were trained to answer in a word behind this sentence.
const SHORT = "Answer the question using a single word or phrase.";
const of = (id) => document.getElementById(id);
const figures = new Figures();
const key = new KeyField(() => loadBundles());
const panel = new ImagePanel(() => reset()); // another image, another conversation
let served = [];
let turns = [];
let running = null; // aborts the request in progress

// --- bundles

async function loadBundles() {
  notice("");
  try {
    served = await bundles();
  } catch (error) {
    notice(error.message, error.status === 401 ? null : loadBundles);
    if (error.status === 401) key.open();
    return;
  }
  const chosen = of("bundle").value;
  of("bundle").replaceChildren(...served.map(({ id }) => made("option", "", id)));
  if (served.some(({ id }) => id === chosen)) of("bundle").value = chosen;
  of("bundle").disabled = false;
  describeBundle();
}

function describeBundle() {
  const bundle = served.find(({ id }) => id === of("bundle").value);
  const stages = Object.entries(bundle.meta.precision).map(([stage, precision]) => `${stage} ${precision}`);
  const facts = [bundle.id, `target ${bundle.meta.target}`, ...stages, `context ${count(bundle.max_model_len)} tokens`];
  if (!bundle.meta.vision) facts.push("takes no image");
  of("bundle-facts").textContent = facts.join(" · ");
}

/** Shows what is wrong with the server below the header, with a way to try again. */
function notice(text, again = null) {
  of("notice").replaceChildren();
  if (!text) return;
  of("notice").append(made("p", "", text));
  if (!again) return;
  const button = made("button", "", "Try again");
  button.type = "button";
  button.addEventListener("click", () => again());
  of("notice").append(button);
}

// --- asking

function isClosed() {
  return of("composer").elements.mode.value === "closed";
}

/** Returns the choices of a closed question; null where there are too few. */
function choicesGiven() {
  if (!isClosed()) return [];
  const choices = [...new Set(of("choices").value.split(",").map((choice) => choice.trim()))].filter(Boolean);
  const error = choices.length < 2 ? "Give at least two choices." : "";
  of("choices-error").textContent = error;
  of("choices").toggleAttribute("aria-invalid", Boolean(error));
  if (error) of("choices").focus();
  return error ? null : choices;
}

async function ask() {
  const question = of("question").value.trim();
  const choices = choicesGiven();
  if (running || choices === null) return;
  if (!question) {
    of("question").focus();
    return;
  }
  const turn = new Turn(of("turns"), question, choices, choices.length && of("short").checked ? SHORT : "");
  const messages = messagesOf(turns, turn, panel.image?.url ?? null);
  const asked = { bundle: served.length ? of("bundle").value : undefined, messages };
  turns.push(turn);
  begin();
  try {
    if (choices.length) await askClosed(turn, asked, choices);
    else await askFree(turn, asked);
  } catch (error) {
    if (turns.includes(turn)) failed(turn, error);
  } finally {
    if (turns.includes(turn)) end(turn);
  }
}

async function askFree(turn, { bundle, messages }) {
  let timings = null;
  let usage = null;
  let finish = "stop";
  for await (const chunk of answer(bundle, messages, running.signal)) {
    const [choice] = chunk.choices;
    if (choice?.delta.content) {
      turn.add(choice.delta.content, figures.piece());
      saySentences(choice.delta.content);
      follow();
    }
    finish = choice?.finish_reason ?? finish;
    timings = chunk.timings ?? timings;
    usage = chunk.usage ?? usage;
  }
  figures.finish(timings, usage, panel.image !== null);
  turn.add("");
  if (!turn.text) turn.shown.textContent = "(The answer is empty.)";
  turn.end(factsOf(timings, finish, served.length > 1 ? bundle : ""));
  sayEnd(finish === "length" ? "The answer was cut: the context is full." : "");
}

async function askClosed(turn, { bundle, messages }, choices) {
  const begun = performance.now();
  const chosen = await choose(bundle, messages, choices, running.signal);
  figures.leave();
  turn.choose(chosen);
  const facts = `${duration(performance.now() - begun)} as this page sees it`;
  turn.end(served.length > 1 ? `${facts} · ${bundle}` : facts);
  const spoken = chosen.choices.map(({ choice, probability }) => `${choice} ${Math.round(probability * 100)} percent`);
  sayEnd(`${chosen.answer ?? "No answer"}. ${spoken.join(", ")}.`);
}

/** Ends a turn that has no whole answer; its question goes back into the field where it got no answer at all. */
function failed(turn, error) {
  figures.leave();
  if (error.name === "AbortError") {
    turn.end(turn.text ? "stopped" : "stopped before the first token");
    sayEnd("Stopped.");
  } else {
    turn.fail(error); // an alert, which a screen reader says
    sayEnd();
    if (error.status === 401) key.open();
  }
  if (!turn.counts && !of("question").value) of("question").value = turn.question;
}

function begin() {
  running = new AbortController();
  figures.begin();
  of("question").value = "";
  of("hello").hidden = true;
  document.body.classList.add("talking");
  of("reset").hidden = false;
  const hadFocus = document.activeElement === of("ask");
  of("ask").hidden = true;
  of("stop").hidden = false;
  if (hadFocus) of("stop").focus();
  grow();
  follow(true);
}

function end() {
  running = null;
  const hadFocus = document.activeElement === of("stop");
  of("stop").hidden = true;
  of("ask").hidden = false;
  if (hadFocus) of("ask").focus();
  grow();
  follow();
}

function stop() {
  running?.abort();
}

/** Begins a new conversation. */
function reset() {
  if (running) {
    stop();
    figures.leave();
    end();
  }
  if (turns.length) say("New conversation.");
  turns = [];
  of("turns").replaceChildren();
  of("hello").hidden = false;
  document.body.classList.remove("talking");
  of("reset").hidden = true;
}

// --- the page

/** Keeps the end of the conversation in view, unless the person has scrolled away from it. */
function follow(always = false) {
  const below = document.documentElement.scrollHeight - innerHeight - scrollY;
  if (always || below < 160) scrollTo({ top: document.documentElement.scrollHeight });
}

/** Makes the field as high as its text. */
function grow() {
  const field = of("question");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
}

/** Puts an example into the fields; the person sends it. */
function takeExample({ textContent, dataset }) {
  of("composer").elements.mode.value = dataset.choices ? "closed" : "free";
  if (dataset.choices) of("choices").value = dataset.choices;
  of("question").value = textContent;
  showMode();
  of("question").focus();
}

function showMode() {
  of("choices-field").hidden = !isClosed();
  of("choices-error").textContent = "";
}

function onKey(event) {
  if (event.key !== "Escape" || event.isComposing) return;
  if (running) stop();
  else if (panel.isCameraOpen) panel.closeCamera();
  else if (key.isOpen) key.close();
}

function onQuestionKey(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
}

startTheme();
of("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
of("composer").addEventListener("change", ({ target }) => target.name === "mode" && showMode());
of("question").addEventListener("keydown", onQuestionKey);
of("question").addEventListener("input", grow);
of("stop").addEventListener("click", stop);
of("bundle").addEventListener("change", describeBundle);
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () => takeExample(example));
}
of("reset").addEventListener("click", () => {
  reset();
  of("question").focus();
});
document.addEventListener("keydown", onKey);
showMode();
loadBundles();
