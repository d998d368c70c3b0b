import { $, on, setData } from "./dom.js";
import { asPercent } from "./replay.js";

/** A run should take about so long to look at, in seconds, and not go faster than so many steps in one. */
const CALM = { seconds: 5, least: 12 };

/** How often a reader who asked for less motion sees a change, in milliseconds. */
const STILL = 500;

/**
 * Where one is in a run: a number of frames, moved by the clock, the slider and the buttons. While a run is under way
 * it follows, not faster than the eye; the numbers beside it are those of the server.
 */
export class Timeline {
  /** `show(count)` draws the canvas after so many frames. */
  constructor(show) {
    Object.assign(this, { show, run: null, at: 0, shown: -1, playing: false, drawn: 0 });
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    on("slider", "input", () => this.seek($("slider").valueAsNumber));
    on("back", "click", () => this.seek(this.shown - 1));
    on("forward", "click", () => this.seek(this.shown + 1));
    on("play", "click", () => (this.playing ? this.pause() : this.play()));
    this.update();
  }

  /** Follows a run that begins, or shows one that was there before. */
  open(run, following) {
    const at = following ? 0 : (run?.frames.length ?? 0);
    Object.assign(this, { run, at, following, shown: -1, playing: false });
    if (following) this.play();
    else this.update();
  }

  get length() {
    return this.run?.frames.length ?? 0;
  }

  get over() {
    return Boolean(this.run?.at.end);
  }

  play() {
    if (this.over && this.at >= this.length) Object.assign(this, { at: 0, following: false });
    Object.assign(this, { playing: true, last: performance.now(), from: performance.now() - this.moment() });
    this.update();
    cancelAnimationFrame(this.next);
    this.schedule();
  }

  schedule() {
    this.next = requestAnimationFrame((now) => this.tick(now));
  }

  /** When the frame was seen that is shown, after the run's first. */
  moment() {
    const frames = this.run?.frames ?? [];
    return this.at >= 1 ? frames[Math.floor(this.at) - 1].at - frames[0].at : 0;
  }

  pause() {
    this.playing = false;
    this.update();
  }

  seek(count) {
    this.at = Math.min(Math.max(count, 0), this.length);
    this.following = false;
    this.pause();
  }

  tick(now) {
    if (!this.playing) return;
    this.at = Math.min(this.due(now), this.length);
    this.last = now;
    if (this.over && this.at >= this.length) this.playing = false;
    if (!this.playing || !this.still.matches || now - this.drawn >= STILL) {
      this.drawn = now;
      this.update();
    }
    if (this.playing) this.schedule();
  }

  /** How many frames should be shown by now. */
  due(now) {
    const speed = $("speed").value;
    const passed = Math.max(now - this.last, 0) / 1000;
    if (this.still.matches) return this.following ? this.length : this.at + (passed * this.length) / CALM.seconds;
    if (speed === "live") {
      const { frames } = this.run;
      const due = frames.findIndex((frame) => frame.at - frames[0].at > now - this.from);
      return this.over ? (due < 0 ? this.length : due) : this.length;
    }
    const expected = this.run.frames.at(-1)?.of ?? 0;
    const rate = Math.max(CALM.least, Math.max(this.length, expected) / CALM.seconds) * Number(speed);
    return this.at + passed * rate;
  }

  /** Draws what has changed. */
  update() {
    const count = Math.floor(this.at);
    if (this.run && (count !== this.shown || count === this.length)) this.show(count);
    this.shown = count;
    const slider = $("slider");
    slider.max = this.length;
    slider.value = count;
    slider.disabled = this.length === 0;
    slider.style.setProperty("--played", `${this.length ? (count / this.length) * 100 : 0}%`);
    slider.setAttribute("aria-valuetext", this.describe(count));
    $("step").textContent = `${count} / ${this.length}`;
    $("back").disabled = count === 0;
    $("forward").disabled = count >= this.length;
    $("play").disabled = this.length === 0;
    $("play").ariaLabel = this.playing ? "Pause" : "Play";
    setData($("play"), "playing", this.playing);
    this.rhythm();
  }

  describe(count) {
    const frame = this.run?.frames[count - 1];
    if (!frame) return `step ${count} of ${this.length}`;
    const words = frame.texts.map((piece, j) => `${piece.trim() || "blank"} ${asPercent(frame.probabilities[j])} %`);
    return `step ${count} of ${this.length}: ${words.slice(0, 8).join(", ")}`;
  }

  /** Bars above the slider: how many positions each step committed. */
  rhythm() {
    if (this.bars === this.length && this.barsOf === this.run) return;
    Object.assign(this, { bars: this.length, barsOf: this.run });
    const counts = this.run?.frames.map((frame) => frame.positions.length) ?? [];
    const most = Math.max(...counts, 1);
    const bar = (count, k) => `M${k + 0.12} 1v${-count / most}h.76V1z`;
    $("rhythm").setAttribute("viewBox", `0 0 ${Math.max(counts.length, 1)} 1`);
    $("rhythm").firstElementChild.setAttribute("d", counts.map(bar).join(""));
  }
}
