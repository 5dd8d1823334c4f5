// The image: chosen, dropped, pasted or taken, and scaled down before it is sent.

const LONGEST_EDGE = 1600;
const LARGEST_FILE = 1 << 20; // within this and the edge above, a file is sent as it is
const SENT_AS_IT_IS = ["image/jpeg", "image/png", "image/webp"];

/**
 * Reads an image and scales it down where it is large.
 *
 * @param {Blob} file of any format that the browser reads
 * @returns {Promise<{url: string, facts: string, name: string}>} a `data:` URL, and what to say about it
 */
export async function readImage(file) {
  const name = file.name || "pasted image";
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${name} is no image that this browser can read`);
  }
  const { width, height } = bitmap;
  const scale = Math.min(1, LONGEST_EDGE / Math.max(width, height));
  const sent = scale === 1 && file.size <= LARGEST_FILE && SENT_AS_IT_IS.includes(file.type) ? file : await scaled(bitmap, scale);
  bitmap.close();
  const size = `${name} · ${width} × ${height}`;
  const [w, h] = edges(width, height, scale);
  const facts = sent === file ? size : `${size} · sent as ${w} × ${h}, ${Math.ceil(sent.size / 1000)} kB`;
  return { url: await dataUrl(sent), facts, name };
}

function edges(width, height, scale) {
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

function scaled(bitmap, scale) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = edges(bitmap.width, bitmap.height, scale);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // JPEG has no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new Error("the browser cannot scale this image down")));
    canvas.toBlob(done, "image/jpeg", 0.92);
  });
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("the image cannot be read"));
    reader.readAsDataURL(blob);
  });
}

/** The camera's picture in a video element. */
export class Camera {
  #video;
  #stream = null;

  /** @param {HTMLVideoElement} video shows what the camera sees */
  constructor(video) {
    this.#video = video;
  }

  /** Whether this browser gives the camera to this page: only over https, or from the same machine. */
  static get isThere() {
    return Boolean(navigator.mediaDevices?.getUserMedia);
  }

  get isOpen() {
    return this.#stream !== null;
  }

  /** Opens the camera; the browser asks the person. */
  async open() {
    const wanted = { video: { facingMode: "environment", width: { ideal: LONGEST_EDGE } } };
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia(wanted);
    } catch (error) {
      const reasons = { NotAllowedError: "this page may not use it", NotFoundError: "there is none" };
      throw new Error(`the camera cannot be opened: ${reasons[error.name] ?? error.message}`);
    }
    this.#video.srcObject = this.#stream;
    await this.#video.play();
  }

  /** Returns what the camera sees now, as a file. */
  async shoot() {
    const bitmap = await createImageBitmap(this.#video);
    const blob = await scaled(bitmap, 1);
    bitmap.close();
    return new File([blob], "photo.jpg", { type: blob.type });
  }

  close() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = this.#video.srcObject = null;
  }
}
