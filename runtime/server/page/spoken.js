// What a screen reader says: an answer by sentences, as they come, instead of token by token.

const KEPT = 20;
let rest = "";

/** Says a text now. */
export function say(text) {
  const log = document.getElementById("spoken");
  const line = document.createElement("p");
  line.textContent = text;
  log.append(line);
  while (log.childElementCount > KEPT) log.firstElementChild.remove();
}

/** Takes a piece of an answer; says the sentences that it ends. */
export function saySentences(piece) {
  rest += piece;
  const ended = rest.match(/^[\s\S]*[.!?:](?=\s)/);
  if (!ended) return;
  say(ended[0].trim());
  rest = rest.slice(ended[0].length);
}

/** Says what is left of an answer, and how it ended. */
export function sayEnd(how = "") {
  const text = `${rest.trim()} ${how}`.trim();
  rest = "";
  if (text) say(text);
}
