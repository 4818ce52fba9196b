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
