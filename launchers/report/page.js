"use strict";
// One button starts all films together from their beginning, and stops them again.
const button = document.getElementById("play");
if (button) {
  const films = [...document.querySelectorAll("video")];
  const moving = () => films.some((film) => !film.paused);
  const name = () => { button.textContent = moving() ? "Pause all" : "Play all from the start"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    const stop = moving();
    for (const film of films) {
      if (stop) { film.pause(); } else { film.currentTime = 0; film.play().catch(name); }
    }
  });
  for (const film of films) { film.addEventListener("play", name); film.addEventListener("pause", name); }
}
// Each chart can be saved, as it is or as pixels.
const PIXELS = 3;  // of a saved picture for one of the page
const save = (address, name) => {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
};
const pixels = (image) => {
  const canvas = document.createElement("canvas");
  canvas.width = PIXELS * image.naturalWidth;
  canvas.height = PIXELS * image.naturalHeight;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png");
};
for (const figure of document.querySelectorAll(".charts figure")) {
  const image = figure.querySelector("img");
  const title = figure.querySelector("figcaption").textContent;
  const name = title.trim().replace(/\W+/g, "-").toLowerCase();
  const row = document.createElement("div");
  row.className = "save";
  for (const [kind, address] of [["SVG", () => image.src], ["PNG", () => pixels(image)]]) {
    const one = document.createElement("button");
    one.type = "button";
    one.textContent = kind;
    one.setAttribute("aria-label", `Save "${title}" as ${kind}`);
    one.addEventListener("click", () => save(address(), `${name}.${kind.toLowerCase()}`));
    row.append(one);
  }
  figure.append(row);
}
// A table that is wider than its box says so until its end has been seen.
for (const box of document.querySelectorAll(".scroll")) {
  const hint = document.createElement("p");
  hint.className = "hint";
  hint.textContent = "scroll sideways for more →";
  hint.setAttribute("aria-hidden", "true");
  box.before(hint);
  let seen = false;
  const look = () => {
    const left = box.scrollWidth - box.clientWidth - box.scrollLeft;
    seen = seen || (box.scrollLeft > 0 && left <= 1);
    box.classList.toggle("goes-on", left > 1);
    hint.hidden = seen || left <= 1;
  };
  box.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(box);
  look();
}
