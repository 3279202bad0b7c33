// The page: one pair at a time, its labels, and the ways to look at it. What is labelled is saved before the next pair
// is shown, and a pair takes a label only when its images are there to be seen.

import { cut, draw, fetchVolume, placed, windowTable } from "./volume.js";

const SIDES = { training: "Training", synthetic: "Synthetic", difference: "Difference" };
const KEYS = { 1: "copy", c: "copy", 2: "novel", n: "novel", 3: "unsure", u: "unsure" };
const WINDOW = { level: 127.5, width: 255 };
const MOST_ZOOM = 16;
const NOTCH = 40; // pixels of the wheel a slice: less than any mouse's step, more than a touch pad's

const $ = (id) => document.getElementById(id);
const images = new Map(); // address -> promise of a volume: of this pair and its neighbours only
let review = null; // what the program told of the review
let at = 0; // the pair on show, in this reader's order
let isShown = false; // whether its images are on show
let isSaving = false;
let asking = 0; // counts what was asked to be shown: an answer that came late is not
let isTurned = false;
let hasDifference = false;
let volumes = null; // { training, synthetic }
let canvases = []; // { canvas, side, plane }
let slices = []; // of each plane, the one on show
let views = []; // of each plane: zoom, and the point of the image in the middle, in parts of its size
let travelled = 0; // by the wheel since the last slice
let active = 0; // the plane that the pointer was over last

async function open(reader) {
  const answer = await fetch(`review?${new URLSearchParams({ reader })}`);
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  review = told;
  history.replaceState(null, "", `?${new URLSearchParams({ reader: told.reader })}`);
  $("start").hidden = true;
  $("review").hidden = false;
  $("who").textContent = `Reader: ${told.reader}`;
  const isVolume = told.planes.length > 1;
  for (const row of document.querySelectorAll(".volumes")) row.hidden = !isVolume;
  $("channels").hidden = told.channels.length < 2;
  for (const { name } of told.channels) $("channel").add(new Option(name));
  layOut();
  await show(Math.max(0, nextOpen(-1)));
}

/** Make a canvas for each side and plane, and a slider for each plane of volumes. */
function layOut() {
  const planes = review.planes;
  const sides = Object.keys(SIDES).filter((side) => side !== "difference" || hasDifference);
  $("images").style.setProperty("--across", planes.length > 1 ? planes.length : sides.length);
  canvases = sides.flatMap((side) => planes.map((_, plane) => ({ side, plane, canvas: newCanvas(plane) })));
  $("images").replaceChildren(
    ...canvases.map(({ side, plane, canvas }) => {
      const [figure, caption] = [document.createElement("figure"), document.createElement("figcaption")];
      caption.textContent = `${SIDES[side]} `;
      const name = document.createElement("span");
      name.className = "plane";
      name.textContent = planes[plane].name;
      caption.append(name);
      figure.append(caption, canvas);
      return figure;
    }),
  );
  if (planes.length > 1 && !$("slices").hasChildNodes()) $("slices").append(...planes.map(newSlider));
}

function newCanvas(plane) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.addEventListener("pointerenter", () => (active = plane));
  canvas.addEventListener("wheel", (event) => turnWheel(event, plane, canvas), { passive: false });
  canvas.addEventListener("pointerdown", () => (active = plane));
  canvas.addEventListener("pointermove", (event) => drag(event, plane, canvas));
  new ResizeObserver(drawAll).observe(canvas);
  return canvas;
}

function newSlider({ name, slices: count }, plane) {
  const [label, slider, told] = ["label", "input", "output"].map((tag) => document.createElement(tag));
  Object.assign(slider, { type: "range", min: 1, max: count, id: `slice-${plane}` });
  slider.addEventListener("input", () => scroll(plane, slider.value - 1 - slices[plane]));
  label.append(`${name}, slice `, slider, told);
  return label;
}

/** Show a pair of this reader's order. */
async function show(to) {
  const mine = ++asking;
  at = to;
  isShown = false;
  volumes = null;
  tell();
  const { id } = review.pairs[to];
  const wanted = ["synthetic", trainingOf(to)].map((side) => load(id, side));
  try {
    const [synthetic, training] = await Promise.all(wanted);
    if (mine !== asking) return;
    volumes = { training, synthetic };
  } catch (error) {
    if (mine !== asking) return;
    $("message").textContent = `The images cannot be shown: ${error.message}. Is launch.review still running?`;
    return;
  }
  $("message").textContent = "";
  resetView();
  isShown = true;
  tell();
  fetchAhead();
}

function trainingOf(number) {
  return isTurned && review.pairs[number].turn ? "turned" : "training";
}

function addressOf(id, side) {
  const { channel } = review.channels[Math.max(0, $("channel").selectedIndex)];
  return `pairs/${id}/${side}.png?channel=${channel}`;
}

function load(id, side) {
  const address = addressOf(id, side);
  if (!images.has(address)) {
    const [first] = review.planes;
    const parts = review.channels[0].channel === null ? 3 : 1;
    const found = fetchVolume(address, [first.slices, first.rows, first.columns], review.columns, parts);
    found.catch(() => images.delete(address)); // to be tried again
    images.set(address, found);
  }
  return images.get(address);
}

/** Load the neighbours of the pair on show, and let go of all others. */
function fetchAhead() {
  const near = [at, at + 1, at - 1].filter((number) => number in review.pairs);
  const kept = near.flatMap((number) => ["synthetic", "training", "turned"].map((side) => addressOf(review.pairs[number].id, side)));
  for (const address of images.keys()) if (!kept.includes(address)) images.delete(address);
  if (at + 1 in review.pairs) {
    for (const side of ["synthetic", trainingOf(at + 1)]) load(review.pairs[at + 1].id, side).catch(() => {});
  }
}

/** Bring all words and buttons up to date. */
function tell() {
  const { pairs } = review;
  const { label, turn } = pairs[at];
  const done = pairs.filter((pair) => pair.label).length;
  $("where").textContent = `${at + 1} of ${pairs.length}`;
  $("count").textContent = done < pairs.length ? `${done} labelled` : "All pairs are labelled; you can close the page.";
  Object.assign($("progress"), { max: pairs.length, value: done });
  for (const button of document.querySelectorAll(".label")) {
    button.setAttribute("aria-disabled", String(!isShown)); // disabled, it would lose the focus
    button.setAttribute("aria-pressed", String(button.dataset.label === label));
  }
  $("back").disabled = at === 0;
  $("forward").disabled = at === pairs.length - 1;
  $("turn").disabled = !turn;
  $("turn").setAttribute("aria-pressed", String(isTurned && Boolean(turn)));
  $("difference").setAttribute("aria-pressed", String(hasDifference));
  const applied = isTurned ? "The training image is shown" : "The training image is most like the synthetic one";
  $("turned").textContent = turn ? `${applied} ${turn}.` : "No mirroring or turning makes the training image more like the synthetic one.";
}

async function say(label) {
  if (!isShown || isSaving) return;
  const pair = review.pairs[at];
  isSaving = true;
  try {
    const answer = await fetch("labels", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ reader: review.reader, pair: pair.id, label }),
    });
    if (!answer.ok) throw new Error((await answer.json()).error);
  } catch (error) {
    $("message").textContent = `The label was not saved: ${error.message}. Is launch.review still running?`;
    return;
  } finally {
    isSaving = false;
  }
  $("message").textContent = "";
  pair.label = label;
  const next = nextOpen(at);
  if (next < 0) tell();
  else await show(next);
}

/** Return the next pair without a label, from the beginning again after the last; -1 if there is none. */
function nextOpen(from) {
  const { pairs } = review;
  for (let step = 1; step <= pairs.length; step++) {
    const number = (from + step) % pairs.length;
    if (!pairs[number].label) return number;
  }
  return -1;
}

async function go(step) {
  if (at + step in review.pairs) await show(at + step);
}

async function reload() {
  const [kept, seen] = [views, slices];
  await show(at);
  if (volumes) {
    [views, slices] = [kept, seen];
    drawAll();
  }
}

async function turn() {
  if (!review.pairs[at].turn) return;
  isTurned = !isTurned;
  await reload();
}

function toggleDifference() {
  hasDifference = !hasDifference;
  layOut();
  tell();
  drawAll();
}

function resetView() {
  views = review.planes.map(() => ({ zoom: 1, x: 0.5, y: 0.5 }));
  slices = review.planes.map((plane) => Math.floor(plane.slices / 2));
  $("level").value = WINDOW.level;
  $("width").value = WINDOW.width;
  drawAll();
}

function zoomOn() {
  const zoom = views[active].zoom;
  const next = zoom < 2 ? 2 : zoom < 4 ? 4 : 1;
  for (const plane of views.keys()) setView(plane, { ...views[plane], zoom: next });
  drawAll();
}

function setView(plane, { zoom, x, y }) {
  const edge = Math.min(0.5, 0.5 / zoom);
  const within = (place) => Math.min(1 - edge, Math.max(edge, place));
  views[plane] = { zoom, x: within(x), y: within(y) };
}

function turnWheel(event, plane, canvas) {
  event.preventDefault();
  if (!isShown) return;
  if (review.planes.length > 1 && !event.ctrlKey) {
    travelled += event.deltaMode ? Math.sign(event.deltaY) * NOTCH : event.deltaY;
    if (Math.abs(travelled) < NOTCH) return;
    scroll(plane, Math.sign(travelled));
    travelled = 0;
    return;
  }
  const view = views[plane];
  const zoom = Math.min(MOST_ZOOM, Math.max(1, view.zoom * 2 ** (-event.deltaY / 300)));
  const { across, down } = boxOf(plane, canvas);
  const dx = (event.offsetX - canvas.clientWidth / 2) / across; // from the middle to the pointer, which stays
  const dy = (event.offsetY - canvas.clientHeight / 2) / down;
  const part = 1 - view.zoom / zoom;
  setView(plane, { zoom, x: view.x + dx * part, y: view.y + dy * part });
  drawAll();
}

function drag(event, plane, canvas) {
  if (!isShown || !(event.buttons & 1)) return;
  const view = views[plane];
  const { across, down } = boxOf(plane, canvas);
  setView(plane, { zoom: view.zoom, x: view.x - event.movementX / across, y: view.y - event.movementY / down });
  drawAll();
}

function boxOf(plane, canvas) {
  const { rows, columns, aspect } = review.planes[plane];
  return placed(canvas.clientWidth, canvas.clientHeight, { width: columns, height: rows }, aspect, views[plane]);
}

function scroll(plane, step) {
  if (review.planes.length < 2 || !isShown) return;
  slices[plane] = Math.min(review.planes[plane].slices - 1, Math.max(0, slices[plane] + step));
  drawAll();
}

function drawAll() {
  if (!volumes) return;
  const table = windowTable(Number($("level").value), Number($("width").value));
  for (const { canvas, side, plane } of canvases) {
    const { name, aspect, slices: count } = review.planes[plane];
    const volume = volumes[side] ?? volumes.training;
    const other = side === "difference" ? volumes.synthetic : null;
    draw(canvas, cut(volume, plane, slices[plane], table, other), aspect, views[plane]);
    canvas.setAttribute("aria-label", `${SIDES[side]}${count > 1 ? `, ${name}, slice ${slices[plane] + 1} of ${count}` : ""}`);
  }
  $("zoom").querySelector("span").textContent = `Zoom ${Math.round(views[active].zoom * 10) / 10}×`;
  for (const [plane, slider] of $("slices").querySelectorAll("input").entries()) {
    slider.value = slices[plane] + 1;
    slider.nextSibling.textContent = `${slider.value} of ${slider.max}`;
  }
}

function press(event) {
  if (!review || $("help").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const inField = event.target.matches("input, select");
  if (inField && (event.key.startsWith("Arrow") || event.target.matches("select"))) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const does = {
    ArrowLeft: () => go(-1),
    ArrowRight: () => go(1),
    ArrowUp: () => scroll(active, -1),
    ArrowDown: () => scroll(active, 1),
    o: turn,
    d: toggleDifference,
    z: zoomOn,
    r: resetView,
    "?": () => $("help").showModal(),
  }[key];
  if (key in KEYS && !event.repeat) say(KEYS[key]);
  else if (does) does();
  else return;
  if (key !== "ArrowUp" && key !== "ArrowDown" || review.planes.length > 1) event.preventDefault();
}

function listen() {
  document.addEventListener("keydown", press);
  for (const button of document.querySelectorAll(".label")) {
    button.addEventListener("click", () => say(button.dataset.label));
  }
  const clicks = {
    back: () => go(-1),
    forward: () => go(1),
    turn,
    difference: toggleDifference,
    zoom: zoomOn,
    reset: resetView,
    "help-open": () => $("help").showModal(),
  };
  for (const [id, does] of Object.entries(clicks)) $(id).addEventListener("click", does);
  for (const id of Object.keys(WINDOW)) $(id).addEventListener("input", drawAll);
  $("channel").addEventListener("change", reload);
  // Keys go to the page again once a slider or the list of channels was used with the pointer.
  document.addEventListener("pointerup", (event) => event.target.matches("input[type=range]") && event.target.blur());
  $("channel").addEventListener("change", () => $("channel").blur());
  $("name").addEventListener("submit", (event) => {
    event.preventDefault();
    open($("reader").value).catch((error) => ($("refused").textContent = error.message));
  });
}

listen();
const asked = new URLSearchParams(location.search).get("reader");
$("start").hidden = false;
if (asked) {
  $("reader").value = asked;
  open(asked).catch((error) => ($("refused").textContent = error.message));
} else $("reader").focus();
