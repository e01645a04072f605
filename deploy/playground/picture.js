// The picture: the output drawn as it comes, the input laid over it, a divider and a magnifier between the two.

import { bytes } from "./call.js";

const $ = (id) => document.getElementById(id);
// Browsers refuse larger canvases. A larger output is shown smaller; the file is always whole.
const MAX_CANVAS_PIXELS = 64e6;
const MAX_CANVAS_SIDE = 8192;
const LENS_ZOOM = 3;
const COMPARED = ["compare", "before", "divider", "label-before", "label-after"];

// The share of the output's sides that is shown, and where the magnifier is, as shares of the picture.
let shrink = 1;
let lens = { x: 0.5, y: 0.5 };

// Both canvases in the size of the output (or as much of it as browsers allow), the input stretched over them.
export function prepare(width, height, bitmap) {
  shrink = Math.min(1, MAX_CANVAS_SIDE / width, MAX_CANVAS_SIDE / height, Math.sqrt(MAX_CANVAS_PIXELS / (width * height)));
  for (const id of ["before", "after"]) {
    const canvas = $(id);
    canvas.width = Math.max(1, Math.round(width * shrink));
    canvas.height = Math.max(1, Math.round(height * shrink));
    if (bitmap) {
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    }
  }
  $("before").hidden = true;
  $("empty").hidden = true;
  $("stage").hidden = false;
}

export async function drawTile(tile) {
  const bitmap = await createImageBitmap(new Blob([bytes(tile.data)], { type: "image/png" }));
  const [x, y, width, height] = [tile.x ?? 0, tile.y ?? 0, tile.width, tile.height].map((value) => value * shrink);
  const context = $("after").getContext("2d");
  context.clearRect(x, y, width, height);
  context.drawImage(bitmap, x, y, width, height);
  bitmap.close();
}

// Whether the picture is shown smaller than it is.
export function isShrunk() {
  return shrink < 1;
}

export function compare() {
  for (const id of COMPARED) $(id).hidden = false;
  divide();
  placeLens();
}

export function stopComparing() {
  for (const id of [...COMPARED, "lens"]) $(id).hidden = true;
}

function divide() {
  const share = Number($("slider").value);
  $("before").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  $("divider").style.left = `${share}%`;
  $("slider").setAttribute("aria-valuetext", `${share} percent input, ${100 - share} percent output`);
}

function placeLens() {
  const on = $("magnify").checked && !$("compare").hidden;
  $("lens").hidden = !on;
  if (!on) return;
  const { x, y } = lens;
  $("lens").style.left = `${x * 100}%`;
  $("lens").style.top = `${y * 100}%`;
  const view = $("lens-canvas");
  const context = view.getContext("2d");
  const side = view.height / LENS_ZOOM;
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, view.width, view.height);
  [$("before"), $("after")].forEach((canvas, index) => {
    const [left, top] = [x * canvas.width - side / 2, y * canvas.height - side / 2];
    context.drawImage(canvas, left, top, side, side, index * view.height, 0, view.height, view.height);
  });
  context.fillStyle = "#fff";
  context.fillRect(view.height - 1, 0, 2, view.height);
}

function moveLens(event) {
  const box = $("stage").getBoundingClientRect();
  lens = { x: clamp((event.clientX - box.left) / box.width), y: clamp((event.clientY - box.top) / box.height) };
  placeLens();
}

function stepLens(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step || !$("magnify").checked) return;
  event.preventDefault();
  lens = { x: clamp(lens.x + step[0] * 0.02), y: clamp(lens.y + step[1] * 0.02) };
  placeLens();
}

const clamp = (value) => Math.min(1, Math.max(0, value));

$("slider").addEventListener("input", divide);
$("magnify").addEventListener("change", placeLens);
$("magnify").addEventListener("keydown", stepLens);
$("stage").addEventListener("pointermove", moveLens);
$("stage").addEventListener("pointerdown", moveLens);
