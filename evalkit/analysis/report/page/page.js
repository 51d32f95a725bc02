// Start, and what belongs to the whole page: question set, cost, and the links of the bar.

const FILTER_KEYS = /^(by\.|point$|outcome$|q$|page$|open$)/;
let drawnFilters = "";
let drawnList = "";

function draw() {
  const view = chosenView();
  for (const part of document.querySelectorAll("[data-set]")) part.hidden = part.dataset.set !== view.set.slug;
  drawCosts();
  drawPlots();
  document.getElementById("set").value = view.set.slug;
  drawFilters(view);
  const wanted = state.link({ cost: "" });
  if (drawnList !== wanted) drawList(view); // else what a reader opened stays open
  drawnList = wanted;
}

// Filters are built anew only where the question set changes: a field that is typed in must stay.
function drawFilters(view) {
  const form = box.querySelector(".filters");
  if (drawnFilters !== view.set.slug) {
    drawnFilters = view.set.slug;
    form.replaceChildren(...filters(view));
  }
  for (const field of form.querySelectorAll("[data-key]")) {
    field.value = state.get(field.dataset.key);
    if (field.selectedIndex < 0) field.value = "";
  }
  const search = form.querySelector("input");
  if (search.value !== state.get("q")) search.value = state.get("q");
  box.querySelector(".reset").hidden = ![...state.values.keys()].some((key) => FILTER_KEYS.test(key));
}

function drawCosts() {
  for (const choice of document.querySelectorAll(".costs")) {
    const costs = [...choice.querySelectorAll("button")];
    const known = costs.filter((button) => !button.disabled);
    const chosen = known.find((button) => button.value === state.get("cost")) ?? known[0];
    for (const button of costs) button.setAttribute("aria-pressed", `${button === chosen}`);
    for (const plot of choice.closest("section").querySelectorAll("[data-cost]")) {
      plot.hidden = plot.dataset.cost !== chosen?.value;
    }
  }
}

// The section of the bar's link, of the question set that is shown.
function goTo(name) {
  const own = document.querySelector(`[data-set="${CSS.escape(chosenSet().slug)}"] [data-section="${CSS.escape(name)}"]`);
  const target = own ?? document.getElementById(name);
  for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target?.scrollIntoView({ block: "start" });
  target?.querySelector("h2, h3, summary")?.focus({ preventScroll: true });
}

// The changes that take all filters away.
function unfiltered() {
  const own = [...state.values.keys()].filter((key) => FILTER_KEYS.test(key));
  return Object.fromEntries(own.map((key) => [key, ""]));
}

// Labels and points of one set may not be there in another: filters do not go along.
function chooseSet(slug) {
  state.set({ ...unfiltered(), set: slug === data.sets[0].slug ? "" : slug });
}

function start() {
  const choice = document.getElementById("set");
  choice.addEventListener("change", () => chooseSet(choice.value));
  for (const button of document.querySelectorAll(".costs button")) {
    button.addEventListener("click", () => state.set({ cost: button.value }));
  }
  for (const plot of document.querySelectorAll(".plot")) startPlot(plot);
  startPrint();
  for (const link of document.querySelectorAll("nav a, .found .up")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      goTo(link.getAttribute("href").slice(1));
    });
  }
  box.querySelector(".reset").addEventListener("click", () => state.set(unfiltered()));
  state.listeners.push(draw);
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
}

function fromAddress() {
  state.read();
  draw();
  const opened = box.querySelector("details[open]");
  if (opened) opened.scrollIntoView({ block: "start" });
  else if ([...state.values.keys()].some((key) => FILTER_KEYS.test(key))) goTo("questions");
  else if (location.hash.length > 1 && !location.hash.includes("=")) goTo(decodeURIComponent(location.hash.slice(1)));
}

start();
