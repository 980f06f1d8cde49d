"use strict";
const specs = JSON.parse(document.getElementById("charts").textContent);
const views = {};

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const font = getComputedStyle(document.body).fontFamily;
  const text = { labelColor: colour("--soft"), titleColor: colour("--soft"), labelFont: font, titleFont: font, titleFontWeight: 400 };
  return {
    background: "transparent",
    view: { stroke: null },
    axis: { ...text, gridColor: colour("--line"), domainColor: colour("--line"), tickColor: colour("--line"), labelFontSize: 11, titleFontSize: 12 },
    axisX: { grid: false },
    legend: { ...text, labelFontSize: 12, labelColor: colour("--ink") },
  };
}

async function draw(id) {
  const options = { actions: false, renderer: "svg", config: theme() };
  const { view } = await vegaEmbed(document.getElementById(id), specs[id], options);
  views[id] = view;
  const chosen = document.querySelector("#metric input:checked");
  if (id.startsWith("curve") && chosen) view.signal("metric", chosen.value).run();
}

const drawAll = () => Object.keys(specs).forEach(draw);
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

document.getElementById("metric")?.addEventListener("change", (event) => {
  document.querySelectorAll("span.metric").forEach((span) => { span.textContent = event.target.value; });
  for (const id in views) if (id.startsWith("curve")) views[id].signal("metric", event.target.value).run();
});

// A chart inside a closed <details> has no width: it is drawn again when opened.
document.querySelectorAll("details.round").forEach((round) =>
  round.addEventListener("toggle", () => {
    if (round.open) round.querySelectorAll(".chart").forEach((chart) => draw(chart.id));
  }),
);

const large = document.getElementById("large");
document.getElementById("picked")?.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (!event.target.closest("button.picture")) return;
  large.lastElementChild.replaceChildren(card.cloneNode(true));
  large.showModal();
});
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
