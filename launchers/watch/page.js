"use strict";
// Shows what the server tells, and sends what is asked for; nothing is decided here.
const at = (id) => document.getElementById(id);
const part = (name, attributes = {}, space = null) => {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) { made.setAttribute(key, value); }
  return made;
};
const SVG = "http://www.w3.org/2000/svg";
const WIDE = 300;  // units of a belief's bar
const signed = (value) => value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "\u2212");

// Orders go out one after the other; of those of one kind that wait, the last counts.
const waiting = new Map();
let sending = false;
const order = async (name, value) => {
  waiting.set(name, value);
  if (sending) { return; }
  sending = true;
  while (waiting.size) {
    const [[first, wanted]] = waiting;
    waiting.delete(first);
    try {
      const answer = await fetch("order", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ [first]: wanted }),
      });
      at("trouble").textContent = answer.ok ? "" : await answer.text();
    } catch { at("trouble").textContent = "The command does not answer: has it ended?"; }
  }
  sending = false;
};

// A slider that is being moved is left alone.
const slider = (label, low, high, step, asked) => {
  const input = part("input", { type: "range", min: low, max: high, step, "aria-label": label });
  input.addEventListener("input", () => { input.dataset.held = "yes"; asked(input, false); });
  input.addEventListener("change", () => { delete input.dataset.held; asked(input, true); });
  return input;
};
const put = (input, value) => { if (!input.dataset.held) { input.value = value; } };

const start = (about) => {
  const params = [], dimensions = [];
  let last = null, wishes = null, hand = Array(about.size).fill(0);

  at("family").textContent = about.family;
  document.title = `metaslac watch: ${about.family}`;
  const how = about.goals ? "Click in the picture, or use the sliders, to hide a goal. All that the agent learns of it is rewards."
    : "Choose a task. All that the agent learns of it is rewards.";
  at("agent").textContent = `${about.agent}. ${how}`;
  at("caveat").textContent = about.caveat;
  at("picture").classList.toggle("goals", about.goals);
  at("next").hidden = about.tasks < 2;
  const legend = [...(about.marked ? [["wanted", about.goals ? "hidden goal" : "what is wanted"]] : []), ...(about.goals ? [["path", "path"]] : []),
    ...(about.read ? [["believed", "believed, ± 2 sd"]] : [])];
  for (const [kind, words] of legend) { at("legend").append(part("span", { class: `swatch ${kind}` }), words); }
  at("scale").textContent = about.infers
    ? `Band: mean ± 2 sd. Line: mean. Dot: the m acted on. From \u2212${about.farthest} to ${about.farthest}; before any step it is N(0, 1).`
    : `This agent infers nothing. Dot: the m acted on, from \u2212${about.farthest} to ${about.farthest}.`;
  at("drawing").hidden = !about.infers;
  at("seen-box").hidden = !about.pixels;
  const newest = about.frames > 1 ? `, the newest of ${about.frames} pictures` : "";
  at("seen-size").textContent = `${about.pixels} \u00d7 ${about.pixels} pixels${newest}`;

  at("task").hidden = !about.sliders.length;
  about.sliders.forEach(({ name, low, high }, number) => {
    const row = part("div", { class: "field" }), label = part("label", { for: `param-${name}` }), said = part("output");
    const input = slider(name, low, high, (high - low) / 200 || 1, (moved, done) => {
      said.textContent = signed(moved.valueAsNumber);
      if (done) { order("params", wishes.params.with(number, moved.valueAsNumber)); }
    });
    input.id = `param-${name}`;
    label.textContent = name.replaceAll("_", " ");
    row.append(label, input, said);
    at("params").append(row);
    params.push({ input, said });
  });

  const place = (value) => (Math.max(-1, Math.min(1, value / about.farthest)) + 1) * WIDE / 2;
  for (let number = 0; number < about.size; number++) {
    const row = part("div", { class: "dimension" }), name = part("span"), said = part("output");
    const picture = part("svg", { viewBox: `0 0 ${WIDE} 22`, preserveAspectRatio: "none", "aria-hidden": "true" }, SVG);
    const [axis, zero, band, mean, acted] = [["rect", "axis"], ["line", "zero"], ["rect", "band"], ["line", "mean"], ["line", "acted"]]
      .map(([kind, look]) => picture.appendChild(part(kind, { class: look }, SVG)));
    for (const [key, value] of Object.entries({ x: 0, y: 3, width: WIDE, height: 16 })) { axis.setAttribute(key, value); }
    for (const [key, value] of Object.entries({ x1: WIDE / 2, x2: WIDE / 2, y1: 3, y2: 19 })) { zero.setAttribute(key, value); }
    const input = slider(`m ${number + 1}, by hand`, -about.farthest, about.farthest, 0.05, (moved) => {
      hand = hand.with(number, moved.valueAsNumber);
      order("hand", hand);
    });
    input.hidden = true;
    name.textContent = `m ${number + 1}`;
    row.append(name, picture, said, input);
    at("belief").append(row);
    dimensions.push({ band, mean, acted, said, input });
  }

  at("picture").addEventListener("click", (event) => {
    if (!about.goals) { return; }
    const box = at("picture").getBoundingClientRect();
    const share = (value, size) => Math.max(0, Math.min(1, value / size));
    order("click", [share(event.clientX - box.left, box.width), share(event.clientY - box.top, box.height)]);
  });
  at("pause").addEventListener("click", () => order("paused", !wishes.paused));
  document.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target === document.body) { event.preventDefault(); at("pause").click(); }
  });
  at("forget").addEventListener("click", () => order("forget", true));
  at("next").addEventListener("click", () => order("task", "next"));
  at("once").addEventListener("change", () => order("redraw", false));
  at("always").addEventListener("change", () => order("redraw", true));
  at("by-hand").addEventListener("change", () => {
    if (!at("by-hand").checked) { order("hand", null); return; }
    const within = (value) => Math.max(-about.farthest, Math.min(about.farthest, value));
    hand = last ? last.m.map(within) : hand;
    order("hand", hand);
  });
  const pace = at("pace");
  [pace.min, pace.max] = about.paces;
  pace.addEventListener("input", () => { pace.dataset.held = "yes"; order("pace", pace.valueAsNumber); });
  pace.addEventListener("change", () => { delete pace.dataset.held; });

  const told = (now) => {
    wishes = now;
    at("pause").textContent = now.paused ? "Go on" : "Pause";
    put(pace, now.pace);
    at("pace-said").textContent = now.pace;
    (now.redraw ? at("always") : at("once")).checked = true;
    at("by-hand").checked = now.hand !== null;
    if (now.hand && !dimensions.some((each) => each.input.dataset.held)) { hand = now.hand; }
    dimensions.forEach((each, number) => {
      each.input.hidden = now.hand === null;
      put(each.input, hand[number]);
    });
    params.forEach((each, number) => {
      if (each.input.dataset.held) { return; }
      each.input.value = now.params[number];
      each.said.textContent = signed(now.params[number]);
    });
  };

  const show = (shown) => {
    at("picture").src = shown.picture;
    if (shown.seen) { at("seen").src = shown.seen; }
    at("now").textContent = `episode ${shown.episode + 1}, step ${shown.step} of ${about.steps}, return ${signed(shown.return_so_far)}`;
    const first = shown.episode + (shown.over ? 2 : 1) - shown.ended.length;
    const rows = shown.ended.map((each, number) => [first + number, each.acts, each.episode_return]);
    if (!shown.over) { rows.push([shown.episode + 1, shown.acts, shown.return_so_far]); }
    at("returns").replaceChildren(...rows.reverse().map(([episode, acts, value], place) => {
      const row = part("tr"), cells = [part("th", { scope: "row" }), part("td", { class: "left" }), part("td")];
      row.className = place === 0 && !shown.over ? "running" : "";
      [episode, acts, signed(value)].forEach((text, column) => { cells[column].textContent = text; });
      row.append(...cells);
      return row;
    }));
    if (shown.over && !(last && last.over)) {
      at("spoken").textContent = `Episode ${shown.episode + 1}: return ${signed(shown.return_so_far)}`;
    }
    dimensions.forEach(({ band, mean, acted, said }, number) => {
      const [middle, spread, m] = [shown.mean[number], 2 * shown.std[number], shown.m[number]];
      const [low, high] = [place(middle - spread), place(middle + spread)];
      for (const each of [band, mean]) { each.style.display = about.infers ? "" : "none"; }
      for (const [key, value] of Object.entries({ x: low, width: high - low, y: 5, height: 12 })) { band.setAttribute(key, value); }
      for (const [key, value] of Object.entries({ x1: place(middle), x2: place(middle), y1: 3, y2: 19 })) { mean.setAttribute(key, value); }
      for (const [key, value] of Object.entries({ x1: place(m), x2: place(m), y1: 11, y2: 11 })) { acted.setAttribute(key, value); }
      said.textContent = about.infers ? `${signed(middle)} ± ${spread.toFixed(2)}` : signed(m);
    });
    last = shown;
  };

  const stream = new EventSource("shown");
  stream.addEventListener("message", (event) => {
    const news = JSON.parse(event.data);
    told(news.wishes);
    if (news.shown) { show(news.shown); }
  });
  stream.addEventListener("open", () => { at("trouble").textContent = ""; });
  stream.addEventListener("error", () => { at("trouble").textContent = "The command does not answer: has it ended?"; });
};

fetch("about").then((answer) => answer.json()).then(start)
  .catch(() => { at("trouble").textContent = "The command does not answer: has it ended?"; });
