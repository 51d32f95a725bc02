// The plot: what is said of the point that is looked at, the keys that lead from point to point, and its questions.

let named = ""; // key of the point whose numbers the reader asked for

function articleOf(slug) {
  return document.querySelector(`[data-set="${CSS.escape(slug)}"]`);
}

// Points that can be seen now, in the order of the keys: by method, then by cost.
function pointsOf(plot) {
  return [...plot.querySelectorAll(".point")].filter((point) => point.getClientRects().length > 0);
}

// Shows a point's numbers below the plot and marks it in all plots of its set.
function name(article, key) {
  named = key;
  const set = data.sets.find((own) => own.slug === article.dataset.set);
  const facts = set.facts[key];
  const box = article.querySelector(".readout");
  if (!facts || !box) return;
  for (const point of article.querySelectorAll(".point")) point.classList.toggle("named", point.dataset.key === key);
  const { method, ratio } = data.setups[set.setup].points.find((point) => point.key === key);
  const own = [...article.querySelectorAll(".plot:not([hidden]) .point")].find((point) => point.dataset.key === key);
  const list = element("dl", {}, ...facts.map(([about, text]) => element("div", {}, element("dt", {}, about), element("dd", {}, text))));
  const link = element("a", { href: own?.getAttribute("href") ?? `#${new URLSearchParams({ set: set.slug, point: key })}` }, "list its questions");
  link.addEventListener("click", (event) => chooseLink(event, set.slug, key));
  box.replaceChildren(element("p", { class: "who" }, element("b", {}, method), ` at ratio ${ratio} `, link), list);
}

function chooseLink(event, slug, key) {
  event.preventDefault();
  choosePoint(slug, key);
}

// The list shows the questions of this point alone, from its beginning.
function choosePoint(slug, key) {
  state.set({ ...unfiltered(), set: slug === data.sets[0].slug ? "" : slug, point: key });
  goTo("questions");
}

// Left and right along a method, up and down to the nearest point of the next one; Home and End.
function neighbour(plot, point, key) {
  const points = pointsOf(plot);
  const place = (one) => one.getBoundingClientRect();
  const row = points.filter((one) => one.closest(".curve") === point.closest(".curve")).sort((a, b) => place(a).x - place(b).x);
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (step) return row[row.indexOf(point) + step];
  if (key === "Home") return row[0];
  if (key === "End") return row.at(-1);
  const curves = [...new Set(points.map((one) => one.closest(".curve")))];
  const next = curves[curves.indexOf(point.closest(".curve")) + { ArrowUp: 1, ArrowDown: -1 }[key]];
  const near = (one) => Math.abs(place(one).x - place(point).x);
  return points.filter((one) => one.closest(".curve") === next).sort((a, b) => near(a) - near(b))[0];
}

// One point of a plot is reached by Tab, the others by arrow keys.
function reach(plot, point) {
  for (const one of plot.querySelectorAll(".point")) one.setAttribute("tabindex", one === point ? "0" : "-1");
}

// The point that is shown from the first: the second of the first method, or what there is.
function opening(points) {
  const methods = points.filter((point) => !point.closest(".control"));
  return methods[1] ?? methods[0] ?? points[0];
}

function startPlot(plot) {
  const article = plot.closest("article");
  let touched = false;
  const own = [...plot.querySelectorAll(".point")];
  const first = () => pointsOf(plot)[0] ?? own.find((point) => !point.closest(".control")) ?? own[0];
  if (!own.length) return;
  reach(plot, opening(own));
  if (!plot.hidden) name(article, opening(own).dataset.key);
  named = ""; // nobody asked for that one
  article.querySelector("input.controls")?.addEventListener("change", () => reach(plot, first()));
  for (const point of own) {
    const { key } = point.dataset;
    let before = "";
    point.addEventListener("pointerdown", (event) => {
      touched = event.pointerType === "touch";
      before = named;
    });
    point.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && name(article, key));
    point.addEventListener("focus", () => {
      reach(plot, point);
      name(article, key);
    });
    point.addEventListener("click", (event) => {
      event.preventDefault();
      const seen = !touched || before === key; // a first tap names the point, a second one lists its questions
      touched = false;
      name(article, key);
      if (seen) choosePoint(article.dataset.set, key);
    });
    point.addEventListener("keydown", (event) => {
      if (!/^(Arrow|Home$|End$)/.test(event.key)) return;
      event.preventDefault();
      neighbour(plot, point, event.key)?.focus();
    });
  }
}

// The point that the list is filtered by carries a mark of its own, and its numbers are shown.
function drawPlots() {
  const key = state.get("point");
  if (key) name(articleOf(chosenSet().slug), key);
  for (const point of document.querySelectorAll(".point")) {
    const chosen = point.closest("article") === articleOf(chosenSet().slug) && point.dataset.key === key;
    if (chosen) point.setAttribute("aria-current", "true");
    else point.removeAttribute("aria-current");
  }
}

// Paper has no folds: what a reader left closed is open while the page is printed.
function startPrint() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.fold:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
}
