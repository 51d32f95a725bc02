// The chosen question set, and which of its questions pass the filters.

const data = JSON.parse(document.getElementById("payload").textContent);

// The text of a number; "" stands for none.
const textOf = (number) => (number < 0 ? "" : data.texts[number]);

function chosenSet() {
  return data.sets.find((set) => set.slug === state.get("set")) ?? data.sets[0];
}

// Everything about the chosen set that the list and its filters need.
function chosenView() {
  const set = chosenSet();
  const setup = data.setups[set.setup];
  const asked = (question) => set.points.some((point) => setup.answers[point].mark[question] !== ".");
  const all = setup.id.map((_, question) => question);
  const questions = all.filter((q) => (set.benchmark < 0 || setup.benchmark[q] === set.benchmark) && asked(q));
  return { set, setup, questions };
}

// The labels of a group kind that occur among the questions, in the order of the tables.
function labelsOf(view, kind) {
  const { labels, of } = view.setup.groups[kind];
  const present = new Set(view.questions.flatMap((question) => of[question]));
  return labels.filter((_, label) => present.has(label));
}

function matching(view) {
  const { set, setup, questions } = view;
  const tests = [...groupTests(view), outcomeTest(set, setup), searchTest(setup)].filter(Boolean);
  return questions.filter((question) => tests.every((test) => test(question)));
}

function groupTests(view) {
  return Object.entries(view.setup.groups).map(([kind, { labels, of }]) => {
    const label = labels.indexOf(state.get(`by.${kind}`));
    return label < 0 ? null : (question) => of[question].includes(label);
  });
}

// Without a point, one of the set's points must have the outcome; without an outcome, the point must have been asked.
function outcomeTest(set, setup) {
  const is = FILTERS[state.get("outcome")];
  const own = set.points.filter((point) => setup.points[point].key === state.get("point"));
  if (!is && !own.length) return null;
  const mark = (point, question) => (point < 0 ? "." : setup.answers[point].mark[question]);
  const fits = is ?? ((own_mark) => own_mark !== ".");
  const points = own.length ? own : set.points;
  return (question) => points.some((point) => fits(mark(point, question), mark(set.dense, question)));
}

const haystacks = new Map();

function searchTest(setup) {
  const words = state.get("q").toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return null;
  if (!haystacks.has(setup)) haystacks.set(setup, setup.id.map((_, question) => haystack(setup, question)));
  return (question) => words.every((word) => haystacks.get(setup)[question].includes(word));
}

function haystack(setup, question) {
  const parts = [setup.id, setup.title, setup.prompt].map((column) => textOf(column[question]));
  const options = setup.options[question].map(textOf);
  return [...parts, ...options, textOf(setup.videos[setup.video[question]].id)].join("\n").toLowerCase();
}
