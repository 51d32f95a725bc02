// What became of an answer: the letters of the payload's "mark" columns, and the filters over them.

const OUTCOMES = {
  r: { sign: "✓", name: "right", kind: "right", score: 1 },
  w: { sign: "✗", name: "wrong", kind: "wrong", score: 0 },
  s: { sign: "○", name: "not scored", kind: "none", score: null },
  R: { sign: "?", name: "unparsed, counted as right", kind: "right", score: 1 },
  u: { sign: "?", name: "unparsed, counted as wrong", kind: "wrong", score: 0 },
  n: { sign: "?", name: "unparsed, not scored", kind: "none", score: null },
  f: { sign: "!", name: "failed, not scored", kind: "none", score: null },
  ".": { sign: "·", name: "not asked", kind: "none", score: null },
};

// Outcome filters: is it so, for the mark of a point and the mark of the dense run?
const FILTERS = {
  right: (mark) => OUTCOMES[mark].score === 1,
  wrong: (mark) => OUTCOMES[mark].score === 0,
  unparsed: (mark) => "Run".includes(mark),
  failed: (mark) => mark === "f",
  unscored: (mark) => "sn".includes(mark),
  gained: (mark, dense) => OUTCOMES[mark].score === 1 && OUTCOMES[dense].score === 0,
  lost: (mark, dense) => OUTCOMES[mark].score === 0 && OUTCOMES[dense].score === 1,
};

const FILTER_NAMES = {
  right: "right",
  wrong: "wrong",
  unparsed: "unparsed",
  failed: "failed",
  unscored: "not scored",
  gained: "gained against dense",
  lost: "lost against dense",
};
