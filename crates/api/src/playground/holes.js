import { $, make, on } from "./dom.js";
import { MASK, split } from "./requests.js";

/**
 * A text with holes: a text area whose runs of the mask are holes, a layer over it that draws them and lets their edges
 * be dragged, and a list that says the same in fields. A run is as long as its hole may be; `this.holes` knows the
 * shortest it may be (`min`, or null for exactly so long) and what was there before (`was`).
 */
export class Holes {
  constructor(changed) {
    Object.assign(this, { area: $("holed"), changed, text: "", holes: [] });
    on("holed", "input", () => this.edited());
    on("punch", "click", () => this.punch());
    on("overlay", "pointerdown", (event) => this.drag(event));
  }

  /** Pieces of text, and shortest and longest length of the holes between them. */
  value() {
    const lengths = this.holes.map(({ length, min }) => [min ?? length, length]);
    return { texts: split(this.text).texts, lengths };
  }

  /** The text has changed under the holes: those before and after the change are still what they were. */
  edited() {
    const [old, now] = [this.text, this.area.value];
    const found = split(now).holes;
    let same = 0;
    while (same < old.length && same < now.length && old[same] === now[same]) same += 1;
    const before = split(old.slice(0, same)).holes.length;
    const match = (hole, number) => {
      if (found.length === this.holes.length || number < before) return this.holes[number];
      const fromEnd = this.holes.length - (found.length - number);
      return fromEnd >= before ? this.holes[fromEnd] : undefined;
    };
    this.holes = found.map((hole, number) => {
      const known = match(hole, number);
      const min = known?.min != null && known.min < hole.length ? known.min : null;
      return { length: hole.length, min, was: known?.was };
    });
    this.text = now;
    this.draw();
  }

  /** Replaces what is selected by a hole of about as many tokens. */
  punch() {
    const { selectionStart: start, selectionEnd: end } = this.area;
    const was = this.text.slice(start, end);
    if (was.includes(MASK)) return this.area.focus();
    const tokens = was.trim().match(/\s*[\p{L}\p{N}_]{1,6}|\s*[^\s\p{L}\p{N}_]+|\s+/gu)?.length ?? 3;
    const number = split(this.text.slice(0, start)).holes.length;
    const touching = this.text[start - 1] === MASK || this.text[end] === MASK;
    this.area.setRangeText(MASK.repeat(tokens), start, end, "end");
    this.edited();
    if (!touching) this.holes[number].was = was;
    this.draw();
    this.area.focus();
  }

  /** Gives a hole a length, keeping what it may be at least. */
  resize(number, length, min) {
    const { at, length: old } = split(this.text).holes[number];
    this.text = this.text.slice(0, at) + MASK.repeat(length) + this.text.slice(at + old);
    this.area.value = this.text;
    Object.assign(this.holes[number], { length, min: min < length ? min : null });
    this.draw();
  }

  restore(number) {
    const { at, length } = split(this.text).holes[number];
    const { was = "" } = this.holes[number];
    this.area.value = this.text.slice(0, at) + was + this.text.slice(at + length);
    this.edited();
    this.area.focus();
    this.area.setSelectionRange(at, at + was.length);
  }

  drag(event) {
    const number = Number(event.target.dataset.hole);
    if (!event.target.classList.contains("handle")) return;
    event.preventDefault();
    const { length, min } = this.holes[number];
    const probe = event.target.parentElement.getClientRects()[0];
    const width = Math.max(probe.width / Math.max(length, 1), 4);
    const over = new AbortController();
    const move = ({ clientX }) => {
      const wanted = Math.max(length + Math.round((clientX - event.clientX) / width), min ?? 1);
      if (wanted !== this.holes[number].length) this.resize(number, Math.min(wanted, 256), min);
    };
    addEventListener("pointermove", move, { signal: over.signal });
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => over.abort(), { signal: over.signal });
  }

  draw() {
    const { texts } = split(this.text);
    const hole = ({ length, min }, number) => {
      const sure = min ?? length;
      const maybe = length > sure ? [make("span", { className: "maybe" }, MASK.repeat(length - sure))] : [];
      const handle = make("span", { className: "handle", dataset: { hole: number } });
      return make("span", { className: "hole" }, MASK.repeat(sure), ...maybe, handle);
    };
    const drawn = texts.flatMap((text, at) => [text, ...(at < this.holes.length ? [hole(this.holes[at], at)] : [])]);
    // The last line has a height of its own only when there is something in it.
    $("overlay").replaceChildren(...drawn, "\u200b");
    this.list();
    this.changed();
  }

  /** The rows of the list, kept while there are as many, so that fields keep the focus. */
  list() {
    const list = $("holes");
    if (list.children.length !== this.holes.length) list.replaceChildren(...this.holes.map((_, at) => this.row(at)));
    this.holes.forEach(({ length, min }, number) => {
      const [least, most] = list.children[number].querySelectorAll("input");
      least.value = min ?? length;
      most.value = length;
    });
  }

  row(number) {
    const field = (label) => make("input", { type: "number", min: 1, max: 256, ariaLabel: `${label}, hole ${number + 1}` });
    const [least, most] = [field("Shortest length"), field("Longest length")];
    const read = (field) => Math.min(Math.max(Math.round(field.valueAsNumber) || 1, 1), 256);
    least.addEventListener("change", () => {
      const min = read(least);
      this.resize(number, Math.max(this.holes[number].length, min), min);
    });
    most.addEventListener("change", () => {
      const { min, length } = this.holes[number];
      const max = read(most);
      this.resize(number, max, min ?? (max > length ? length : max));
    });
    const restore = make("button", { type: "button", className: "plain", ariaLabel: `Close hole ${number + 1}` }, "Close");
    restore.addEventListener("click", () => this.restore(number));
    return make("li", {}, make("span", {}, `Hole ${number + 1}`), least, make("span", { className: "quiet" }, "to"), most, restore);
  }
}
