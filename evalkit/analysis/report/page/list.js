// The list of questions: filters, pages of fifty, and one line with a sign for every point.

const PAGE = 50;
const box = document.getElementById("questions");

// Another filter starts at the first page again.
function refilter(changes) {
  state.set({ page: "", open: "", ...changes });
}

function select(label, key, options) {
  const id = `filter-${key}`;
  const chosen = state.get(key);
  const made = element("select", { id, "data-key": key });
  for (const [value, text] of options) made.append(new Option(text, value, false, value === chosen));
  made.addEventListener("change", () => refilter({ [key]: made.value }));
  return element("div", { class: "field" }, element("label", { for: id }, label), made);
}

// The same choice as at the top of the page, which is far away here.
function setField(view) {
  const options = [...document.getElementById("set").options].map((option) => option.cloneNode(true));
  const made = element("select", { id: "filter-set" }, ...options);
  made.value = view.set.slug;
  made.addEventListener("change", () => chooseSet(made.value));
  return element("div", { class: "field" }, element("label", { for: "filter-set" }, "question set"), made);
}

function filters(view) {
  const { set, setup } = view;
  const groups = Object.keys(setup.groups)
    .map((kind) => [kind, labelsOf(view, kind)])
    .filter(([, labels]) => labels.length > 1);
  const points = set.points.map((point) => setup.points[point]);
  const marks = new Set(set.points.flatMap((point) => [...new Set(setup.answers[point].mark)]));
  const outcomes = Object.keys(FILTERS).filter((name) => offered(name, marks, set));
  return [
    data.sets.length > 1 ? setField(view) : "",
    ...groups.map(([kind, labels]) =>
      select(kind.replaceAll("_", " "), `by.${kind}`, [["", "all"], ...labels.map((label) => [label, label])]),
    ),
    select("method × ratio", "point", [["", "any"], ...points.map(({ key, method, ratio }) => [key, `${method} ${ratio}`])]),
    select("outcome", "outcome", [["", "any"], ...outcomes.map((name) => [name, FILTER_NAMES[name]])]),
    searchField(),
  ];
}

// An outcome that no answer has need not be asked for; one that the address asks for stays.
function offered(name, marks, set) {
  if (name === state.get("outcome")) return true;
  if (name === "gained" || name === "lost") return set.dense >= 0;
  return [...marks].some((mark) => FILTERS[name](mark, "."));
}

function searchField() {
  const input = element("input", { id: "filter-q", type: "search", autocomplete: "off", spellcheck: "false" });
  input.value = state.get("q");
  input.addEventListener("input", () => refilter({ q: input.value }));
  return element("div", { class: "field wide" }, element("label", { for: "filter-q" }, "text, id or video contains"), input);
}

// Of the chosen point: how many questions each outcome has, and the way to them.
function drawOutcomes(view) {
  const { set, setup } = view;
  const point = set.points.find((own) => setup.points[own].key === state.get("point"));
  const line = box.querySelector(".outcomes");
  box.querySelector(".up").hidden = point === undefined;
  if (point === undefined) return line.replaceChildren();
  const own = view.questions.filter((question) => setup.answers[point].mark[question] !== ".");
  const dense = (question) => (set.dense < 0 ? "." : setup.answers[set.dense].mark[question]);
  const counts = Object.entries(FILTERS)
    .map(([outcome, is]) => [outcome, own.filter((question) => is(setup.answers[point].mark[question], dense(question))).length])
    .filter(([, count]) => count > 0);
  const { method, ratio } = setup.points[point];
  const choices = [["", "all", own.length], ...counts.map(([outcome, count]) => [outcome, FILTER_NAMES[outcome], count])];
  line.replaceChildren(
    element("b", {}, `${method} at ${ratio}`),
    ...choices.map(([outcome, text, count]) => {
      const pressed = `${state.get("outcome") === outcome}`;
      const made = element("button", { type: "button", value: outcome, "aria-pressed": pressed }, `${text} ${number.format(count)}`);
      made.addEventListener("click", () => {
        refilter({ outcome });
        line.querySelector('[aria-pressed="true"]').focus(); // the buttons are made anew
      });
      return made;
    }),
  );
}

function drawList(view) {
  drawOutcomes(view);
  const found = matching(view);
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const page = Math.min(pages, Math.max(1, parseInt(state.get("page") || pageOf(view, found), 10) || 1));
  const shown = found.slice((page - 1) * PAGE, page * PAGE);
  const first = (page - 1) * PAGE + 1;
  box.querySelector(".count").textContent =
    found.length === view.questions.length ? `${found.length} questions` : `${found.length} of ${view.questions.length} questions`;
  box.querySelector(".list").replaceChildren(...shown.map((question) => line(view, question)));
  for (const pager of box.querySelectorAll(".pager")) {
    pager.hidden = pages === 1;
    pager.querySelector(".where").textContent = `${first}–${first + shown.length - 1} of ${found.length}`;
    pager.querySelector(".back").disabled = page === 1;
    pager.querySelector(".on").disabled = page === pages;
    pager.querySelector(".back").onclick = () => turn(page - 1);
    pager.querySelector(".on").onclick = () => turn(page + 1);
  }
}

// The page that holds the question which the address opens.
function pageOf(view, found) {
  const place = found.findIndex((question) => textOf(view.setup.id[question]) === state.get("open"));
  return place < 0 ? 1 : Math.floor(place / PAGE) + 1;
}

function turn(page) {
  state.set({ page: page === 1 ? "" : `${page}` });
  box.querySelector(".count").scrollIntoView({ block: "start" });
}

function line(view, question) {
  const { setup } = view;
  const id = textOf(setup.id[question]);
  const head = element(
    "summary",
    {},
    element("span", { class: "id" }, id),
    element("span", { class: "title" }, textOf(setup.title[question])),
    marks(view, question),
  );
  const made = element("details", { "data-id": id }, head);
  made.addEventListener("toggle", () => {
    if (made.open && !made.querySelector(".opened")) made.append(detail(view, question));
  });
  made.open = id === state.get("open");
  return made;
}

function marks(view, question) {
  const { set, setup } = view;
  const groups = new Map();
  for (const point of set.points) {
    const { method, ratio } = setup.points[point];
    const { kind, sign, name } = OUTCOMES[setup.answers[point].mark[question]];
    const text = `${method} at ${ratio}: ${name}`;
    const made = element("span", { class: `mark ${kind}`, role: "img", "aria-label": text, title: text }, sign);
    if (!groups.has(method)) groups.set(method, element("span", { class: "group" }, element("span", { class: "who" }, method)));
    groups.get(method).append(made);
  }
  return element("span", { class: "marks" }, ...groups.values());
}
