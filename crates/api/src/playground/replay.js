// What is known of a run, and what its canvas looks like after any of its steps. No element, no clock.
//
// A picture is what is drawn: for every answer, given texts and lists of cells in turn. A cell has a `text`, a
// `state` (open, maybe, new, held, settled, cut) and, once committed, the `confidence` and `step` of its token.

const OPEN = { text: "▒", state: "open" };
const MAYBE = { text: "▒", state: "maybe" };

/** A hole of which nothing is known but the shortest and longest that it may be. */
const masked = ([min, max]) => Array.from({ length: max }, (_, at) => (at < min ? OPEN : MAYBE));

/** The canvas before a run: `texts` are what is given, `lengths` those of the holes. */
export function preview({ texts, lengths, answers }) {
  return Array.from({ length: answers }, () => interleave(texts, lengths.map(masked)));
}

/** A run that has begun. */
export function begin(request) {
  return {
    request,
    events: [],
    frames: [],
    choices: Array.from({ length: request.answers }, () => ({ holes: [], length: 0, kept: [], settled: "" })),
    answer: null,
    report: null,
    error: null,
    at: { state: null, text: null, end: null },
  };
}

/** Takes over an event that came `at` milliseconds after the request was sent. Returns text that has settled. */
export function record(run, data, at) {
  run.events.push({ at: Math.round(at * 10) / 10, data });
  if (data.error) {
    run.error = data.error;
    return "";
  }
  const state = data.state ?? (data.diffusion?.type ? data.diffusion : null);
  if (state) recordState(run, state, at);
  else if (data.diffusion) run.report = data.diffusion;
  if (data.type === "fill.hole") return recordHole(run, data, at);
  if (data.type === "fill.done" || data.object === "fill") return recordAnswer(run, data, at);
  return Array.isArray(data.choices) ? data.choices.map((choice) => recordText(run, choice, at)).join("") : "";
}

function recordState(run, state, at) {
  const choice = run.choices[state.choice];
  if (state.type === "start") Object.assign(choice, { holes: state.holes, length: state.length });
  if (state.type !== "step") return;
  run.at.state ??= at;
  run.frames.push({ ...state, at });
}

function recordText(run, choice, at) {
  const text = choice.text ?? choice.delta?.content ?? choice.message?.content ?? "";
  if (text) run.at.text ??= at;
  const known = run.choices[choice.index];
  known.settled += text;
  if (choice.finish_reason) {
    known.kept = [known.settled];
    known.why = choice.finish_reason;
  }
  return text;
}

function recordHole(run, hole, at) {
  run.at.text ??= at;
  const choice = run.choices[hole.choice];
  choice.kept.push(hole.text);
  choice.why = hole.finish_reason;
  return hole.text;
}

function recordAnswer(run, answer, at) {
  run.at.text ??= at;
  run.answer = answer;
  run.report = answer.diffusion;
  for (const { index, holes } of answer.choices) run.choices[index].kept = holes.map((hole) => hole.text);
  return "";
}

/** The canvas after the first `count` frames; the last one shows what is kept once the run has ended. */
export function picture(run, count) {
  const whole = count >= run.frames.length;
  return run.choices.map((choice, c) => {
    if (!choice.length) return unseen(run, choice);
    const { cells, drafts } = committed(run, choice, c, count);
    const ended = whole && choice.kept.length === choice.holes.length;
    const front = cells.findIndex((cell) => !cell);
    const revised = run.frames.some((frame) => frame.choice === c && frame.remasked) && !ended;
    const shown = cells.map((cell, at) => {
      if (!cell) return drafts.has(at) ? { ...OPEN, guess: drafts.get(at) } : OPEN;
      const settled = ended || (!revised && (front < 0 || at < front));
      const state = cell.frame === count && !ended ? "new" : settled ? "settled" : "held";
      return { ...cell, state };
    });
    const holes = choice.holes.map(({ position, length }, number) => {
      const part = shown.slice(position, position + length);
      return ended ? kept(part, choice.kept[number]) : part;
    });
    return interleave(run.request.texts, holes);
  });
}

/** A probability as a whole asPercentage. */
export const asPercent = (probability) => Math.round(probability * 100);

/** What stands at the positions of an answer after so many frames. */
function committed(run, choice, c, count) {
  const cells = new Array(choice.length).fill(null);
  let drafts = new Map();
  for (let k = 0; k < count; k += 1) {
    const frame = run.frames[k];
    if (frame.choice !== c) continue;
    const place = (at, j) => {
      const confidence = asPercent(frame.probabilities[j]);
      cells[at] = { text: frame.texts[j], confidence, step: frame.evaluation, frame: k + 1 };
    };
    for (const at of frame.remasked ?? []) cells[at] = null;
    frame.positions.forEach(place);
    drafts = new Map(frame.draft ?? []);
  }
  return { cells, drafts };
}

/** An answer whose states were not sent: the hole's text in one piece, when it is there. */
function unseen(run, choice) {
  const hole = (length, number) => {
    const text = choice.kept[number];
    return text === undefined ? masked(length) : [{ text, state: "settled" }];
  };
  return interleave(run.request.texts, run.request.lengths.map(hole));
}

/**
 * The cells of a hole with what each adds to its `text`. Pieces are for display: where a character lies in several
 * tokens, or a stop string cuts one, the first of them takes what the text has there and the others nothing.
 */
function kept(cells, text) {
  let at = 0;
  return cells.map((cell, number) => {
    const end = number + 1 < cells.length ? pieceEnd(cells.slice(number), text, at) : text.length;
    const part = text.slice(at, end);
    at = end;
    return { ...cell, text: part, state: part ? "settled" : "cut" };
  });
}

/** Where the piece of the first cell ends that begins at `at`: where the next one begins that can be found. */
function pieceEnd([cell, ...later], text, at) {
  const whole = ({ text, state }) => state !== "open" && !text.includes("\ufffd");
  if (whole(cell) && text.startsWith(cell.text, at)) return at + cell.text.length;
  const found = later.filter(whole).map((next) => text.indexOf(next.text, at));
  return found.find((begin) => begin >= 0) ?? text.length;
}

function interleave(texts, holes) {
  return texts.flatMap((text, number) => [text, ...(number < holes.length ? [holes[number]] : [])]);
}

/** How many evaluations the run has shown, and how many it may take at most. */
export function progress(run) {
  const last = run.choices.map((_, c) => run.frames.findLast((frame) => frame.choice === c));
  const sum = (of) => last.reduce((sum, frame) => sum + (frame ? of(frame) : 0), 0);
  const most = (frame) => (frame.remaining ? frame.max_evaluations : frame.evaluation);
  return { done: sum((frame) => frame.evaluation), most: sum(most) };
}
