// The playground: one picture, one call of Upscaler.UpscaleTiles, tiles drawn as they arrive.
// Answers are one JSON object a line; a stream that ends without `done` is broken (HTTP cannot say why).

import { Assembled, CallFailed, base64Of, call, lines } from "./call.js";
import { showCode } from "./code.js";
import { compare, drawTile, isShrunk, prepare, stopComparing } from "./picture.js";

const $ = (id) => document.getElementById(id);
const EXTENSIONS = { FORMAT_PNG: "png", FORMAT_JPEG: "jpg", FORMAT_WEBP: "webp", FORMAT_AVIF: "avif", FORMAT_TIFF: "tif" };
const WITH_QUALITY = new Set(["FORMAT_JPEG", "FORMAT_WEBP", "FORMAT_AVIF"]);

const state = { file: null, bitmap: null, models: [], running: null, url: null };

// ---- what is asked for

function key() {
  return $("key").value.trim();
}

function chosenModel() {
  return state.models.find((model) => model.name === $("model").value);
}

function options() {
  const byWidth = document.querySelector("input[name=size]:checked").value === "width";
  const format = $("format").value;
  return {
    model: $("model").value,
    ...(byWidth ? { width: Number($("width").value) } : { scale: Number($("scale").value) }),
    format,
    ...(WITH_QUALITY.has(format) && { quality: Number($("quality").value) }),
    ...($("colors").checked && { keep_colors: true }),
  };
}

function outputName() {
  const stem = (state.file?.name ?? "picture").replace(/\.[^.]*$/, "");
  return `${stem}_upscaled.${EXTENSIONS[$("format").value]}`;
}

async function loadModels() {
  try {
    const { models = [] } = await (await call("/v1/models", key())).json();
    const before = $("model").value;
    state.models = models;
    $("model").replaceChildren(...models.map((model) => new Option(model.name, model.name, model.is_default, model.is_default)));
    if (models.some((model) => model.name === before)) $("model").value = before;
    hideError();
  } catch (error) {
    showError(error);
  }
  describe();
}

function describe() {
  const model = chosenModel();
  const speed = Number(model?.seconds_per_megapixel ?? 0);
  const pixels = state.bitmap ? state.bitmap.width * state.bitmap.height : 0;
  const seconds = Math.ceil((pixels / 1e6) * speed);
  const about = seconds ? ` About ${duration(seconds)} for this picture.` : "";
  $("model-said").textContent = model ? `${model.description}.${about}` : "";
  const byWidth = document.querySelector("input[name=size]:checked").value === "width";
  $("scale-field").hidden = byWidth;
  $("width-field").hidden = !byWidth;
  $("quality-field").hidden = !WITH_QUALITY.has($("format").value);
  $("run").disabled = !(state.file && model) || state.running !== null;
}

async function choose(file) {
  if (!file) return;
  state.file = file;
  state.bitmap?.close();
  state.bitmap = null;
  try {
    state.bitmap = await createImageBitmap(file);
  } catch {
    // TIFF and HEIC, for instance: the server reads more than a browser does.
  }
  const size = state.bitmap ? `${state.bitmap.width} × ${state.bitmap.height} pixels, ` : "";
  $("file-said").textContent = `${file.name}, ${size}${amount(file.size)}`;
  reset();
  if (state.bitmap) {
    prepare(state.bitmap.width, state.bitmap.height, state.bitmap);
    $("after").getContext("2d").drawImage(state.bitmap, 0, 0, $("after").width, $("after").height);
    $("after").setAttribute("aria-label", "The picture as it is now");
  }
  describe();
}

// ---- the run

async function run() {
  const abort = new AbortController();
  state.running = abort;
  reset();
  $("cancel").hidden = false;
  $("progress").hidden = false;
  $("bar").removeAttribute("value");
  say("Sending …");
  describe();
  const began = performance.now();
  try {
    const body = JSON.stringify({
      source: { image: await base64Of(state.file) },
      options: { ...options(), tiles: { enabled: true, size: 256, encoding: "TILE_ENCODING_PNG" } },
    });
    const response = await call("/v1/upscale:tiles", key(), { method: "POST", body, signal: abort.signal });
    const file = new Assembled();
    let done = null;
    for await (const event of lines(response)) {
      if (event.plan) begin(event.plan);
      else if (event.tile) await drawTile(event.tile);
      else if (event.chunk) file.add(event.chunk);
      else if (event.progress) showProgress(event.progress, began);
      else if (event.done) done = event.done;
      else if (event.code) throw new CallFailed(event.message);
    }
    if (!done) throw new CallFailed("The answer broke off before the picture was whole. Try again.");
    await finish(done, await file.checked(done.outputs[0]));
  } catch (error) {
    if (error.name === "AbortError") say("Cancelled. The server has stopped working on it.");
    else showError(error);
  } finally {
    state.running = null;
    $("cancel").hidden = true;
    $("progress").hidden = true;
    describe();
  }
}

function begin(plan) {
  prepare(plan.output_width, plan.output_height, state.bitmap);
  const wait = Number(plan.estimated_wait_seconds ?? 0);
  say(wait > 1 ? `Waiting for a device, about ${duration(wait)} …` : "Working …");
}

function showProgress(progress, began) {
  const fraction = progress.fraction ?? 0;
  if (progress.stage === "STAGE_QUEUE") {
    const ahead = progress.queue_position ?? 0;
    say(ahead ? `Waiting for a device, ${ahead} before this …` : "Waiting for a device …");
    return;
  }
  if (fraction) $("bar").value = fraction;
  const left = progress.remaining_seconds;
  const rows = progress.rows_total ? `${progress.rows_done ?? 0} of ${progress.rows_total} rows, ` : "";
  const time = left === undefined ? "" : `, about ${duration(left)} left`;
  say(`${rows}${duration((performance.now() - began) / 1000)}${time}`);
}

async function finish(done, blob) {
  const [output] = done.outputs;
  state.url = URL.createObjectURL(blob);
  const link = $("download");
  link.href = state.url;
  link.download = outputName();
  $("facts").textContent = `${outputName()}, ${amount(blob.size)}`;
  numbers(done, output);
  showCode(options(), state.file.name, outputName(), key() !== "");
  $("result").hidden = false;
  $("after").setAttribute("aria-label", "The enlarged picture");
  if (state.bitmap) compare();
  const shrunk = isShrunk() ? " Shown smaller than it is; the file has every pixel." : "";
  say(`Done.${shrunk}`);
  link.focus();
}

function numbers(done, output) {
  const facts = [
    ["Size", `${output.width} × ${output.height}`],
    ["Time", duration(done.timings?.total_seconds ?? 0)],
    ["Network", duration(done.timings?.stages?.find((each) => each.stage === "STAGE_INFER")?.seconds ?? 0)],
    ["Runs on", [done.provenance?.device, done.provenance?.backend, done.provenance?.precision].filter(Boolean).join(", ")],
  ];
  if (done.credits?.charged) facts.push(["Credits", String(done.credits.charged)]);
  if (done.credits?.remaining !== undefined) facts.push(["Credits left", String(done.credits.remaining)]);
  for (const warning of done.warnings ?? []) facts.push(["Remark", warning]);
  $("numbers").replaceChildren(
    ...facts.map(([name, value]) => {
      const pair = document.createElement("div");
      const [term, said] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      said.textContent = value;
      pair.append(term, said);
      return pair;
    }),
  );
}

// ---- small things

function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${Number(seconds).toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

function amount(count) {
  return count < 1e6 ? `${Math.ceil(count / 1e3)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

function say(text) {
  $("status").textContent = text;
}

function hideError() {
  $("error").hidden = true;
  $("error").textContent = "";
}

function showError(error) {
  if (!(error instanceof CallFailed)) console.error(error);
  $("error").hidden = false;
  $("error").textContent = error instanceof CallFailed ? error.message : `Something went wrong on this page: ${error.message}`;
  say("");
  if (error.status === 401) {
    $("key-field").open = true;
    $("key").focus();
  }
}

function reset() {
  hideError();
  say("");
  if (state.url) URL.revokeObjectURL(state.url);
  state.url = null;
  $("result").hidden = true;
  stopComparing();
}

// ---- wiring

$("file").addEventListener("change", (event) => choose(event.target.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") choose(event.dataTransfer.files[0]);
  });
}
$("form").addEventListener("change", describe);
$("model").addEventListener("change", () => { $("scale").value = chosenModel()?.scale ?? 4; });
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("run").disabled) run();
});
$("cancel").addEventListener("click", () => state.running?.abort());
$("key").value = sessionStorage.getItem("upscaled-key") ?? "";
$("key").addEventListener("change", () => {
  sessionStorage.setItem("upscaled-key", key());
  loadModels();
});
loadModels();
