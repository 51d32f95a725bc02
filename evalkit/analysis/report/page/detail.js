// One question opened: what was asked, what each method answered, and what it had kept.

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

function detail(view, question) {
  const { setup } = view;
  const video = setup.videos[setup.video[question]];
  return element(
    "div",
    { class: "opened" },
    element("div", { class: "asked" }, facts(view, question, video), asked(setup, question)),
    answersTable(view, question, video),
  );
}

function facts(view, question, video) {
  const { setup } = view;
  const rows = [
    ["benchmark", setup.benchmarks[setup.benchmark[question]]],
    ["video", textOf(video.id) + (video.seconds ? `, ${number.format(video.seconds)} s` : "")],
    ...Object.entries(setup.groups).map(([kind, { labels, of }]) => [
      kind.replaceAll("_", " "),
      of[question].map((label) => labels[label]).join(", "),
    ]),
  ];
  const list = element("dl", { class: "facts" });
  for (const [name, text] of rows.filter(([, text]) => text)) {
    list.append(element("div", {}, element("dt", {}, name), element("dd", {}, text)));
  }
  const id = textOf(setup.id[question]);
  list.append(element("div", {}, element("dd", {}, element("a", { href: state.link({ open: id }) }, "link to this question"))));
  return list;
}

function asked(setup, question) {
  const prompt = textOf(setup.prompt[question]);
  const gold = textOf(setup.gold[question]);
  const options = setup.options[question].map((option, place) => {
    const right = LETTERS[place] === gold;
    const sign = right ? element("span", { class: "right" }, " ✓ right") : null;
    return element("li", { class: right ? "gold" : null }, textOf(option), sign);
  });
  return element(
    "div",
    {},
    element("h4", {}, "Prompt"),
    prompt ? element("pre", {}, prompt) : element("p", { class: "note" }, "The prompt is not in these answers."),
    options.length ? element("ol", { class: "options", type: "A" }, ...options) : null,
    options.length ? null : element("p", {}, gold ? `Right letter: ${gold}` : "No option is right."),
  );
}

function answersTable(view, question, video) {
  const { set, setup } = view;
  const points = set.points.filter((point) => setup.answers[point].mark[question] !== ".");
  const strips = video.seconds !== undefined;
  const heads = ["Method, ratio", "Answer", strips ? "Kept over time" : "Kept"];
  const head = heads.map((text) => element("th", { scope: "col", role: "columnheader" }, text));
  const seen = setup.evidence[question];
  if (strips && seen) head.at(-1).append(element("span", { class: "note" }, ", shaded where the answer is seen"));
  if (strips) head.at(-1).append(timeScale(video));
  return element(
    "table",
    { class: "answers", role: "table" },
    element("caption", {}, "What each method answered"),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...head)),
    element("tbody", { role: "rowgroup" }, ...points.map((point) => answerRow(view, question, video, point))),
  );
}

function timeScale(video) {
  const ends = ["0 s", `${number.format(video.seconds)} s`];
  return element("span", { class: "scale" }, ...ends.map((text) => element("span", {}, text)));
}

function answerRow(view, question, video, point) {
  const { set, setup } = view;
  const { method, ratio } = setup.points[point];
  const own = setup.answers[point];
  const who = element("th", { scope: "row", role: "rowheader" }, element("span", { class: "who" }, method), ` ${ratio}`);
  if (point === set.dense) who.append(element("span", { class: "note" }, " dense"));
  const dense = set.dense < 0 ? "." : setup.answers[set.dense].mark[question];
  return element(
    "tr",
    { role: "row" },
    who,
    element("td", { role: "cell", class: "answer" }, ...answerOf(own, question, dense)),
    element("td", { role: "cell", class: "kept" }, ...keptOf(setup, own, question, video, `${method} at ${ratio}`)),
  );
}

// Sign and letter; what the model said where that is more than the letter; how it failed.
function answerOf(own, question, dense) {
  const mark = own.mark[question];
  const { kind, sign, name } = OUTCOMES[mark];
  const flip = ["gained", "lost"].find((outcome) => FILTERS[outcome](mark, dense));
  const other = own.prompt[question] === undefined ? "" : `Asked in other words: ${textOf(own.prompt[question])}`;
  const words = [textOf(own.reply[question]), textOf(own.error[question]), other].filter(Boolean);
  return [
    element("span", { class: `mark ${kind}`, role: "img", "aria-label": name, title: name }, sign),
    element("span", { class: "who" }, ` ${textOf(own.letter[question]) || "–"} `),
    flip ? element("span", { class: `tag ${kind}` }, flip) : null,
    mark === "r" || mark === "w" ? null : element("span", { class: "tag none" }, name),
    words.length ? element("div", { class: "words" }, words.join("\n")) : null,
  ];
}

function keptOf(setup, own, question, video, who) {
  if (own.kept[question] < 0) {
    return [element("span", { class: "note" }, own.achieved[question] === 0 ? "nothing kept" : "not recorded")];
  }
  const kept = setup.kept[own.kept[question]];
  const [, cells, tokens] = kept;
  const shown = pictures(kept, video);
  const parts = [keptText(cells, tokens)];
  if (own.achieved[question] >= 0) parts.push(`achieved ratio ${own.achieved[question]}`);
  if (shown && shown.childElementCount < cells) parts.push(`${shown.childElementCount} of the cells pictured`);
  return [strip(kept, video, who, setup.evidence[question] ?? []), shown, element("span", { class: "note" }, parts.join(", "))];
}
