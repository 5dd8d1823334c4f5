// Continue's adapters against the server: argv is its URL and a data: URL's file; prints JSON.
import { readFileSync } from "node:fs";
import { constructLlmApi } from "@continuedev/openai-adapters";

const [url, image, question] = process.argv.slice(2);
const api = constructLlmApi({ provider: "openai", apiKey: "none", apiBase: `${url}/v1/` });
const source = `data:image/png;base64,${readFileSync(image).toString("base64")}`;
const body = {
  model: "demo",
  messages: [{ role: "user", content: [{ type: "text", text: question }, { type: "image_url", image_url: { url: source } }] }],
};
const signal = new AbortController().signal;
const whole = await api.chatCompletionNonStream({ ...body, stream: false }, signal);
let streamed = "";
for await (const chunk of api.chatCompletionStream({ ...body, stream: true }, signal)) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
console.log(JSON.stringify({ whole: whole.choices[0].message.content, streamed, finish: whole.choices[0].finish_reason }));
