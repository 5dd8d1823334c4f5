// The panel of the image: choosing, dropping, pasting and taking it.

import { Camera, readImage } from "./image.js";
import { say } from "./spoken.js";

const of = (id) => document.getElementById(id);

export class ImagePanel {
  /** The image that questions are about, as `readImage` gives it; null for none. */
  image = null;
  #camera = new Camera(of("video"));
  #changed;

  /** @param {() => void} changed called when there is another image, or none */
  constructor(changed) {
    this.#changed = changed;
    for (const id of ["empty", "replace"]) of(id).addEventListener("click", () => of("file").click());
    for (const id of ["file", "capture"]) {
      of(id).addEventListener("change", () => {
        if (of(id).files.length) this.show(of(id).files[0]);
        of(id).value = ""; // the same file may be chosen again
      });
    }
    of("take").addEventListener("click", () => this.#take());
    of("shoot").addEventListener("click", () => this.#shoot());
    of("camera-close").addEventListener("click", () => this.closeCamera());
    of("remove").addEventListener("click", () => this.#remove());
    this.#takeDrops();
    document.addEventListener("paste", (event) => {
      const file = imageIn(event.clipboardData?.files);
      const isText = event.target.matches?.("input, textarea") && event.clipboardData.types.includes("text/plain");
      if (!file || isText) return; // office programs copy text with an image of it
      event.preventDefault();
      this.show(file);
    });
  }

  get isCameraOpen() {
    return this.#camera.isOpen;
  }

  /** Shows an image; one that cannot be read leaves the one before. */
  async show(file) {
    const hadFocus = ["empty", "shoot"].includes(document.activeElement?.id);
    this.#camera.close();
    try {
      this.image = await readImage(file);
    } catch (error) {
      this.#draw();
      this.#complain(error);
      return;
    }
    of("image").src = this.image.url;
    of("image").alt = `The image that the questions are about: ${this.image.name}`;
    this.#draw();
    say(`Image: ${this.image.facts}`);
    if (hadFocus) of("question").focus(); // its button is gone
    this.#changed();
  }

  /** Leaves the camera without a photo. */
  closeCamera() {
    this.#camera.close();
    this.#draw();
    of("take").focus();
  }

  async #take() {
    if (!Camera.isThere) {
      of("capture").click(); // over http from another machine a phone still offers its camera here
      return;
    }
    try {
      await this.#camera.open();
    } catch (error) {
      this.#camera.close();
      this.#complain(error);
      return;
    }
    this.#draw();
    of("shoot").focus();
  }

  async #shoot() {
    await this.show(await this.#camera.shoot());
  }

  #remove() {
    this.image = null;
    of("image").removeAttribute("src");
    this.#draw();
    of("empty").focus();
    this.#changed();
  }

  #draw() {
    const [live, shown] = [this.#camera.isOpen, this.image !== null];
    of("video").hidden = of("shoot").hidden = of("camera-close").hidden = !live;
    of("take").hidden = live;
    of("image").hidden = live || !shown;
    of("replace").hidden = of("remove").hidden = live || !shown;
    of("empty").hidden = live || shown;
    of("frame").classList.toggle("filled", live || shown);
    this.#remark(shown && !live ? this.image.facts : "");
  }

  #complain(error) {
    this.#remark(error.message, true);
    say(error.message);
  }

  #remark(text, isError = false) {
    of("image-facts").textContent = text;
    of("image-facts").classList.toggle("error", isError);
  }

  #takeDrops() {
    const isFile = (event) => event.dataTransfer?.types.includes("Files");
    const over = (isOver) => (of("drop").hidden = !isOver);
    addEventListener("dragover", (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      over(true);
    });
    addEventListener("dragleave", (event) => event.relatedTarget === null && over(false));
    addEventListener("drop", (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      over(false);
      const file = imageIn(event.dataTransfer.files);
      if (file) this.show(file);
      else this.#complain(new Error("what was dropped is no image"));
    });
  }
}

function imageIn(files) {
  return [...(files ?? [])].find((file) => file.type.startsWith("image/"));
}
