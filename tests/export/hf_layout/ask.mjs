// Asks the export through transformers.js in Node: `node ask.mjs FOLDER DTYPE`, questions as JSON on stdin.
// A question is {image, messages, pixels}: a file, the chat's messages, and pixel_values to take for the image's own.
import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration, RawImage, Tensor, env } from "@huggingface/transformers";

const [folder, dtype] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const name = basename(folder);
const processor = await AutoProcessor.from_pretrained(name);
const tokenizer = await AutoTokenizer.from_pretrained(name);
const options = dtype === "config" ? {} : { dtype: dtype.startsWith("{") ? JSON.parse(dtype) : dtype };
const model = await LlavaForConditionalGeneration.from_pretrained(name, options);

const answers = [];
for (const { image, messages, pixels } of JSON.parse(readFileSync(0, "utf-8"))) {
  const prompt = processor.apply_chat_template(messages, { add_generation_prompt: true });
  const inputs = image ? await processor(await RawImage.read(image), prompt) : tokenizer(prompt);
  const own = inputs.pixel_values ? Array.from(inputs.pixel_values.data) : [];
  if (pixels) inputs.pixel_values = new Tensor("float32", Float32Array.from(pixels), inputs.pixel_values.dims);
  const tokens = await model.generate({ ...inputs, max_new_tokens: 48 });
  const answer = tokens.slice(null, [inputs.input_ids.dims.at(-1), null]);
  answers.push({
    text: processor.batch_decode(answer, { skip_special_tokens: true })[0],
    ids: Array.from(inputs.input_ids.data, Number),
    tokens: Array.from(answer.data, Number),
    pixels: own,
  });
}
console.log(JSON.stringify(answers));
