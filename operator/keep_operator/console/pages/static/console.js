"use strict";
// Pages work without this; it only keeps them up to date and draws.

function draw(root) {
  if (!window.uPlot) return;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  for (const figure of root.querySelectorAll("figure[data-chart]")) {
    const told = JSON.parse(figure.dataset.chart);
    for (const old of figure.querySelectorAll(".uplot")) old.remove();
    figure.hidden = false;
    const ink = colour("--pico-muted-color"), grid = colour("--pico-muted-border-color");
    const shown = { good: "--good", bad: "--bad", wait: "--wait", plain: "--pico-primary" };
    const count = told.series.length;
    const axis = { stroke: ink, grid: { stroke: grid }, ticks: { stroke: grid } };
    new uPlot({
      width: figure.clientWidth || 600,
      height: 200,
      cursor: { show: false },
      legend: { show: count > 1, live: false },
      scales: {
        x: { time: false, range: [-0.5, told.names.length - 0.5] },
        y: { range: (_, __, top) => [0, told.top || Math.max(top, 0) * 1.1 || 1] },
      },
      axes: [
        { ...axis, grid: { show: false }, splits: told.names.map((_, place) => place),
          values: (_, places) => places.map((place) => told.names[place] ?? "") },
        { ...axis, size: 60, values: (_, numbers) => numbers.map((number) => `${number} ${told.unit}`) },
      ],
      series: [{}, ...told.series.map((each, place) => ({
        label: each.label,
        stroke: colour(shown[each.colour]),
        fill: colour(shown[each.colour]),
        points: { show: false },
        // Several stand side by side.
        paths: uPlot.paths.bars({ size: [0.7 / count, 60], align: count === 1 ? 0 : place === 0 ? -1 : 1 }),
      }))],
    }, [told.names.map((_, place) => place), ...told.series.map((each) => each.values)], figure);
  }
}

// What `hx-sse` keeps up to date says whether it does.
function say(text) {
  const note = document.getElementById("live-state");
  if (note) note.textContent = text;
}

document.addEventListener("htmx:sse:after:connection", () => say("Live."));
document.addEventListener("htmx:sse:error", () => say("Not live at the moment: it is tried again. Reload to see the newest."));
document.addEventListener("htmx:response:error", () => say("Not live: reload to see the newest."));
document.addEventListener("htmx:error", () => say("Not live: reload to see the newest."));
document.addEventListener("htmx:sse:close", (event) => {
  if (event.detail.reason === "message") say("This is how it ended.");
});
document.addEventListener("htmx:after:swap", () => draw(document));
// A file is read into the field that is sent; the browser sends no file.
for (const chosen of document.querySelectorAll("input[type=file][data-into]")) {
  chosen.closest("label").hidden = false;
  chosen.addEventListener("change", async () => {
    const file = chosen.files[0];
    if (file && file.size <= 1024 * 1024) document.getElementById(chosen.dataset.into).value = await file.text();
  });
}
// A link that looks like a button is pressed like one.
document.addEventListener("keydown", (event) => {
  if (event.key !== " " || !event.target.matches("a[role=button]")) return;
  event.preventDefault();
  event.target.click();
});
document.addEventListener("DOMContentLoaded", () => draw(document));
