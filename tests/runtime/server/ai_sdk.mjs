// Vercel's AI SDK against the server: argv is its URL and an image file; prints JSON.
import { readFileSync } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const [url, image, question] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "local", baseURL: `${url}/v1`, includeUsage: true });
const messages = [
  { role: "user", content: [{ type: "text", text: question }, { type: "image", image: readFileSync(image) }] },
];
const whole = await generateText({ model: provider("demo"), messages });
const stream = streamText({ model: provider("demo"), messages });
let streamed = "";
for await (const piece of stream.textStream) streamed += piece;
console.log(JSON.stringify({ whole: whole.text, streamed, finish: whole.finishReason, tokens: whole.usage.outputTokens }));
