import { $, make } from "./dom.js";
import { progress } from "./replay.js";

const seconds = (ms) => (ms < 1000 ? [ms.toFixed(0), "ms"] : [(ms / 1000).toFixed(2), "s"]);

function put(id, value) {
  const [amount, unit] = value ?? ["–"];
  $(id).replaceChildren(String(amount), ...(unit ? [make("small", {}, ` ${unit}`)] : []));
}

/** What is known in numbers, as measured here and counted by the server. */
export function showNumbers(run) {
  const report = run?.report;
  const rate = (count) => (count === undefined || !run.at.end ? null : [Math.round(count / (run.at.end / 1000)).toLocaleString("en")]);
  put("number-state", run?.at.state == null ? null : seconds(run.at.state));
  put("number-text", run?.at.text == null ? null : seconds(run.at.text));
  put("number-total", run?.at.end == null ? null : seconds(run.at.end));
  put("number-evaluations", run && [report?.forward_passes ?? progress(run).done]);
  put("number-kept", run && rate(report?.returned_tokens));
  put("number-rows", run && rate(report?.rows_computed));
}

const EARLY = { eos: "the text", stop: "the text", timeout: "the time", time_budget: "the time" };

/** One line about where a run is. */
export function showStatus(session) {
  const { run, running, error } = session;
  const say = (state, text) => {
    $("status").dataset.state = state;
    $("status").textContent = text;
  };
  $("output").setAttribute("aria-busy", String(Boolean(running)));
  if (running && run?.frames.length) {
    const { done, most } = progress(run);
    return say("running", `Evaluation ${done} of at most ${most}`);
  }
  if (running) return say("running", "Waiting for the server");
  if (error) return say("failed", "Failed");
  if (run?.stopped) return say("stopped", "Stopped");
  if (run?.report) {
    const over = EARLY[run.choices[0].why];
    return say("done", `Done: ${over ? `${over} is over` : "all positions are filled"} · seed ${run.report.seed}`);
  }
  return say(session.scores ? "done" : "idle", session.scores ? "Scored" : "Ready");
}

/** What went wrong, in the server's words. */
export function showError(error) {
  $("alert").hidden = !error;
  if (!error) return;
  const wait = error.wait ? ` Try again in ${error.wait} s.` : "";
  $("alert").textContent = error.message + wait;
}

/** Lengths that were tried for holes, and which of them won. */
export function showSearch(run, watch) {
  const holes = run?.answer?.choices[0].holes.filter((hole) => hole.candidates) ?? [];
  $("searched").hidden = !holes.length || !run.request.searched;
  if ($("searched").hidden) return;
  const chips = holes.flatMap((hole) => [
    make("span", { className: "quiet" }, holes.length > 1 ? `Hole ${Number(hole.id) + 1}` : "Lengths tried"),
    ...hole.candidates.map(({ length, score }) => {
      const shown = `${length}: ${score === null ? "–" : score.toFixed(2)}`;
      return make("span", { className: "chip", dataset: length === hole.length ? { best: "" } : {} }, shown);
    }),
  ]);
  const button = make("button", { type: "button", className: "plain" }, "Watch the best one");
  button.addEventListener("click", watch);
  $("searched").replaceChildren(...chips, button);
}

/** Reads settled text to those who do not see the canvas: by sentences and lines, and all of it at the end. */
export class Reader {
  begin(run) {
    this.many = run.request.answers > 1;
    this.held = "";
    $("live").replaceChildren();
  }

  hear(text) {
    if (this.many) return;
    this.held += text;
    const end = Math.max(this.held.lastIndexOf("\n"), this.held.search(/[.!?] [^.!?]*$/));
    if (end < 0) return;
    this.say(this.held.slice(0, end + 1));
    this.held = this.held.slice(end + 1);
  }

  end(run) {
    if (this.many) run.choices.forEach((choice, at) => this.say(`Answer ${at + 1}: ${choice.kept.join(", ")}`));
    else this.say(this.held);
    if (run.stopped) return this.say("Stopped.");
    if (!run.report) return;
    const { returned_tokens: kept, forward_passes: evaluations } = run.report;
    this.say(`Done: ${kept} tokens, ${evaluations} evaluations, ${(run.at.end / 1000).toFixed(1)} seconds.`);
  }

  say(text) {
    if (text.trim()) $("live").append(make("p", {}, text));
  }
}
