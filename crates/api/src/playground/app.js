import { Canvas } from "./canvas.js";
import { $, make, on } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { blame, describe, requested, suggest, winner } from "./form.js";
import { heat } from "./heat.js";
import { Holes } from "./holes.js";
import { begin, picture, preview, record } from "./replay.js";
import { access, ask, events, Refusal } from "./server.js";
import { LANGUAGES } from "./snippets.js";
import { Reader, showError, showNumbers, showSearch, showStatus } from "./stage.js";
import { Timeline } from "./timeline.js";

const TABS = ["fill", "complete", "instruct", "score"];

/** What each tab has asked last: `run` or `scores`, `running` with the means to stop it, `error`. */
const sessions = Object.fromEntries(TABS.map((tab) => [tab, {}]));

let tab = "fill";
let language = "curl";
let model = null;

const canvas = new Canvas($("canvas"));
const reader = new Reader();
const timeline = new Timeline((count) => canvas.draw(picture(sessions[tab].run, count)));
const holes = new Holes(() => edited());

/** Shows all there is about the tab. */
function show(following = false) {
  const session = sessions[tab];
  const scoring = tab === "score";
  for (const id of ["timeline", "numbers", "canvas"]) $(id).hidden = scoring;
  document.querySelector(".legend").hidden = scoring;
  $("settings").hidden = scoring;
  $("scores").hidden = !scoring;
  if (scoring) showScores(session);
  else timeline.open(session.run ?? null, following);
  if (!scoring && !session.run) canvas.draw(preview(requested(tab, holes)));
  refresh();
}

function showScores({ scores }) {
  const empty = make("p", { className: "sheet given" }, "How surprising is each token to the model?");
  $("scores").replaceChildren(...(scores ? heat(scores) : [empty]));
}

/** Shows what changes while a request runs. */
function refresh() {
  const session = sessions[tab];
  showStatus(session);
  showError(session.error);
  showNumbers(session.run);
  showSearch(session.run, () => start(winner(session.run.request, session.run.answer)));
  blame(session.error?.param);
  const focused = [$("go"), $("stop")].includes(document.activeElement);
  $("go").hidden = Boolean(session.running);
  $("stop").hidden = !session.running;
  if (focused) $(session.running ? "stop" : "go").focus();
  $("go").textContent = tab === "score" ? "Score" : "Denoise";
  $("go").disabled = tab === "instruct" && model !== null && !model.capabilities.includes("chat");
  $("export").disabled = !session.run?.at.end;
  if (!session.run && !session.error) showSnippet();
}

/** The fields say something else now: the canvas is that of the next request. */
function edited() {
  const session = sessions[tab];
  if (session.running) return;
  sessions[tab] = {};
  show();
  showSnippet();
}

function showSnippet() {
  const request = sessions[tab].run?.request ?? requested(tab, holes);
  const url = location.origin + request.path;
  $("snippet").textContent = LANGUAGES[language](url, request, Boolean(access.key));
}

/** Sends a request and follows it to its end. */
async function start(request) {
  const mine = tab;
  const controller = new AbortController();
  const run = begin(request);
  const session = (sessions[mine] = { running: controller, run: mine === "score" ? null : run });
  const visible = () => sessions[tab] === session;
  show(true);
  showSnippet();
  reader.begin(run);
  try {
    await perform(run, controller.signal, (text) => {
      reader.hear(text);
      if (visible()) refresh();
    });
    if (mine === "score") session.scores = run.events[0].data;
  } catch (error) {
    run.stopped = error.name === "AbortError";
    if (!run.stopped) session.error = error;
    if (error.status === 401) openKey();
  }
  session.running = null;
  if (mine !== "score") reader.end(run);
  if (!visible()) return;
  if (mine === "score") show();
  else timeline.update();
  refresh();
}

/** Reads the whole answer into the run. */
async function perform(run, signal, heard) {
  const start = performance.now();
  const hear = (data) => heard(record(run, data, performance.now() - start));
  try {
    const response = await ask(run.request.path, run.request.body, signal);
    if (run.request.body.stream) for await (const data of events(response)) hear(data);
    else hear(await response.json());
    if (run.error) throw new Refusal(run.error, 200);
    if (!run.report) throw new Refusal({ message: "The connection broke before the answer was complete." });
  } finally {
    run.at.end = performance.now() - start;
  }
}

function select(name, focus) {
  tab = TABS.includes(name) ? name : "fill";
  for (const other of TABS) {
    const chosen = other === tab;
    $(`tab-${other}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${other}`).tabIndex = chosen ? 0 : -1;
    $(`panel-${other}`).hidden = !chosen;
  }
  if (focus) $(`tab-${tab}`).focus();
  history.replaceState(null, "", `#${tab}`);
  if (model) suggest(model, tab);
  show(Boolean(sessions[tab].running));
  showSnippet();
}

/** What the server is; a server with keys asks for one here. */
async function introduce() {
  try {
    const response = await ask("/v1/models");
    model = (await response.json()).data[0];
    describe(model);
    suggest(model, tab);
    $("open-key").hidden = !access.key;
    sessions[tab].error = null;
  } catch (error) {
    sessions[tab].error = error;
    if (error.status === 401) openKey();
  }
  refresh();
}

function openKey() {
  $("open-key").hidden = false;
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

function saveRun() {
  const { request, events, at } = sessions[tab].run;
  const { path, body } = request;
  const text = JSON.stringify({ request: { path, body }, milliseconds: at, events }, null, 1);
  const href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = make("a", { href, download: `unmask-${tab}.json` });
  link.click();
  URL.revokeObjectURL(href);
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("snippet").textContent);
    $("copy").textContent = "Copied";
  } catch {
    // Not every address is one that browsers let pages copy on.
    getSelection().selectAllChildren($("snippet"));
    $("copy").textContent = "Selected";
  }
}

on("form", "input", edited);
on("form", "submit", (event) => {
  event.preventDefault();
  if (!sessions[tab].running && !$("go").disabled) start(requested(tab, holes));
});
on("stop", "click", () => sessions[tab].running?.abort());
on("export", "click", saveRun);
on("copy", "click", copy);
on("copy", "blur", () => ($("copy").textContent = "Copy"));
on("open-key", "click", openKey);
on("close-key", "click", () => $("key-dialog").close());
on("key-form", "submit", () => {
  access.use($("key").value.trim(), $("keep-key").checked);
  introduce().then(showSnippet);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
document.querySelector("[role=tablist]").addEventListener("click", (event) => {
  if (event.target.role === "tab") select(event.target.id.slice(4));
});
document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
  const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -TABS.indexOf(tab), End: TABS.length - 1 - TABS.indexOf(tab) };
  if (!(event.key in steps)) return;
  event.preventDefault();
  select(TABS[(TABS.indexOf(tab) + steps[event.key] + TABS.length) % TABS.length], true);
});
document.querySelector(".segmented").addEventListener("click", (event) => {
  if (!(event.target.dataset.language in LANGUAGES)) return;
  language = event.target.dataset.language;
  for (const button of event.currentTarget.children) {
    button.setAttribute("aria-pressed", String(button === event.target));
  }
  showSnippet();
});
addEventListener("hashchange", () => select(location.hash.slice(1)));

/** Puts a text with holes into the editor, and fills it. */
function tryOut(text) {
  $("holed").value = text;
  holes.edited();
  $("form").requestSubmit();
}

$("examples").append(
  ...EXAMPLES.map(([name, text]) => make("button", { type: "button", className: "plain", onclick: () => tryOut(text) }, name)),
);
$("prompt").value = "def push(self, item):\n    self.items.append(item)\n\ndef pop(self):";
$("instruction").value = "Return the number of items in the queue.";
$("scored").value = "for item in items:\n    print(item)\n\nfor item in items:\n    print(itme)\n";
$("holed").value = EXAMPLES[0][1];
holes.edited();
$("settings").open = matchMedia("(min-width: 56rem)").matches;
select(location.hash.slice(1));
introduce();
