// Answers questions about an image in the browser: transformers.js runs a folder of `--layout hf`, nothing is sent.
// The address may name it: index.html?model=FOLDER&dtype=q8&device=wasm
import {
  AutoProcessor,
  LlavaForConditionalGeneration,
  RawImage,
  TextStreamer,
  env,
} from "./node_modules/@huggingface/transformers/dist/transformers.min.js";

const options = new URLSearchParams(location.search);
const folder = options.get("model") ?? "model";
const dtype = options.get("dtype") ?? undefined; // without one: what the folder's config.json says
const device = options.get("device") ?? "wasm";

env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = new URL(".", location.href).pathname;
env.useBrowserCache = false;
env.backends.onnx.wasm.wasmPaths = new URL("node_modules/onnxruntime-web/dist/", location.href).href;

const [state, file, canvas, form, question, button, answer] = [
  ..."state file image form question ask answer".split(" "),
].map((id) => document.getElementById(id));

const begin = performance.now();
const processor = await AutoProcessor.from_pretrained(folder);
const model = await LlavaForConditionalGeneration.from_pretrained(folder, { dtype, device });
state.textContent = `Ready after ${((performance.now() - begin) / 1000).toFixed(1)} s.`;

// The browser's own smoothing shrinks an image better than transformers.js does, so the square is drawn here: the whole
// image in its middle, on the mean colour, where the model was trained on padded images; else its middle alone.
async function show() {
  const [chosen] = file.files;
  if (!chosen) return;
  button.disabled = true; // or a question asked meanwhile would be about the image before
  const picture = await createImageBitmap(chosen).catch(() => null);
  if (chosen !== file.files[0]) return; // another one was chosen meanwhile
  if (!picture) {
    state.textContent = `${chosen.name} is no image that this browser can read.`;
    return;
  }
  const { crop_size, image_mean, do_pad } = processor.image_processor.config;
  const size = crop_size.height;
  const fit = do_pad ? Math.max(picture.width, picture.height) : Math.min(picture.width, picture.height);
  const [width, height] = [picture.width, picture.height].map((edge) => (edge * size) / fit);
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = `rgb(${image_mean.map((mean) => Math.floor(mean * 255)).join(" ")})`;
  context.fillRect(0, 0, size, size);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, (size - width) / 2, (size - height) / 2, width, height);
  canvas.hidden = false;
  button.disabled = false;
}

async function ask() {
  button.disabled = true;
  answer.setAttribute("aria-busy", "true");
  answer.textContent = "";
  const content = [{ type: "image" }, { type: "text", text: question.value }];
  const prompt = processor.apply_chat_template([{ role: "user", content }], { add_generation_prompt: true });
  const inputs = await processor(RawImage.fromCanvas(canvas), prompt);
  const streamer = new TextStreamer(processor.tokenizer, {
    skip_prompt: true,
    skip_special_tokens: true,
    callback_function: (text) => (answer.textContent += text),
  });
  const asked = performance.now();
  const tokens = await model.generate({ ...inputs, max_new_tokens: 128, streamer });
  const count = tokens.dims.at(-1) - inputs.input_ids.dims.at(-1);
  state.textContent = `${count} tokens in ${((performance.now() - asked) / 1000).toFixed(2)} s.`;
  answer.setAttribute("aria-busy", "false");
  button.disabled = false;
}

file.addEventListener("change", show);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
await show(); // one that was chosen while the model was loading
