import { make, setData } from "./dom.js";

/** What is said of a cell under the pointer. */
function note({ text, state, confidence, step }) {
  if (state === "open") return "open";
  if (state === "maybe") return "open in longer candidates";
  const shown = JSON.stringify(text).slice(1, -1);
  return confidence === undefined ? shown : `${shown}\n${confidence} % when it was drawn, evaluation ${step}`;
}

/** Draws pictures into an element. Cells that stay are changed in place, so that they can be seen to change. */
export class Canvas {
  constructor(element) {
    this.element = element;
    this.sheets = [];
    this.tip = make("div", { className: "tip", hidden: true, ariaHidden: "true" });
    element.after(this.tip);
    element.addEventListener("pointerover", (event) => this.explain(event.target));
    element.addEventListener("pointerleave", () => (this.tip.hidden = true));
    element.addEventListener("animationend", (event) => setData(event.target, "born", false));
  }

  draw(picture) {
    if (picture.length !== this.sheets.length) {
      this.sheets = picture.map(() => ({ element: make("div", { className: "sheet" }), parts: [] }));
      this.element.replaceChildren(...this.sheets.map((sheet) => sheet.element));
    }
    picture.forEach((parts, number) => this.drawSheet(this.sheets[number], parts));
  }

  drawSheet(sheet, parts) {
    const shape = parts.map((part) => (typeof part === "string" ? "text" : part.length)).join();
    if (shape !== sheet.shape) {
      sheet.shape = shape;
      sheet.parts = parts.map((part) =>
        typeof part === "string" ? make("span", { className: "given" }) : part.map(() => make("span", { className: "cell" })),
      );
      sheet.element.replaceChildren(...sheet.parts.flat());
    }
    parts.forEach((part, number) => {
      const drawn = sheet.parts[number];
      if (typeof part !== "string") part.forEach((cell, at) => drawCell(drawn[at], cell));
      else if (drawn.textContent !== part) drawn.textContent = part;
    });
  }

  explain(target) {
    const cell = target.closest(".cell");
    this.tip.hidden = !cell;
    if (!cell) return;
    this.tip.textContent = note(cell.shown);
    const box = cell.getClientRects()[0];
    const width = this.tip.offsetWidth;
    const left = Math.min(Math.max(box.left, 8), document.documentElement.clientWidth - width - 8);
    this.tip.style.left = `${left + scrollX}px`;
    this.tip.style.top = `${box.bottom + scrollY + 6}px`;
  }
}

/** A cell's text, with the words in it that carry line and colour: blanks at the ends of lines do not. */
function pieces({ text, state }) {
  if (state === "open" || state === "maybe") return [text];
  const parts = text.split(/(^\s+|\s*\n\s*|\s+$)/);
  return parts.map((part, at) => (at % 2 || !part ? part : make("span", { className: "word" }, part)));
}

function drawCell(element, cell) {
  const open = ({ state }) => state === "open" || state === "maybe";
  setData(element, "born", element.shown && open(element.shown) && !open(cell) && "" + cell.step);
  element.shown = cell;
  if (element.textContent !== cell.text) element.replaceChildren(...pieces(cell));
  setData(element, "state", cell.state);
  setData(element, "guess", cell.guess?.replaceAll("\n", "↵"));
  setData(element, "break", cell.text.includes("\n"));
  if (cell.confidence !== undefined) element.style.setProperty("--weight", `${1 + (cell.confidence / 100) * 3}px`);
}
