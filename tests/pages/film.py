"""Makes the moving picture of README.md from a real run:   film.py > film.svg

Asks the server on port 8080 to fill the holes of `TEXT`, and draws every state of its stream as one moment of an animated SVG.
The picture needs no script, follows the reader's light or dark theme, and stands still at its end for readers who asked for
less motion. The same model gives the same picture, byte for byte.
"""

import json
import sys
import urllib.request
from html import escape

URL = "http://localhost:8080/fill"
TEXT = [
    "class Stack:\n    def __init__(self, items):\n        self.items = ",
    {"hole": "given", "length": 1},
    "\n\n    def __len__(self):\n        return len(self",
    {"hole": "counted", "length": 2},
    ")\n\n    def __iter__(self):\n        return iter(self",
    {"hole": "walked", "length": 2},
    ")\n\n    def __contains__(self, item):\n        return item in ",
    {"hole": "searched", "length": 3},
    "\n",
]
# As many tokens at once as are nearly independent of each other.
RULE = {"preset": "budget", "entropy_budget": 1}
SETTINGS = {"seed": 7, "temperature": 0, "stream": True, "diffusion": {"stream_states": "delta", **RULE}}

# Seconds before the first state, for each one, and after the last.
BEFORE, EACH, AFTER = 1.2, 0.7, 4.0
# Pixels: a character's width, a line's height, the text's place.
CHARACTER, LINE, LEFT, TOP = 9.6, 24, 28, 44

STYLE = """
    text { font: 16px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }
    .page { fill: #fff; stroke: #d0d7de } .given, .count { fill: #57606a } .new { fill: #0969da; font-weight: 600 }
    .mask { fill: #d0d7de }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117; stroke: #30363d } .given, .count { fill: #8b949e } .new { fill: #79c0ff } .mask { fill: #30363d }
    }"""


def run():
    """The states of one real run, from its start to its end."""
    body = json.dumps({"segments": TEXT, **SETTINGS}).encode()
    request = urllib.request.Request(URL, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        events = answer.read().decode().split("\n\n")
    data = [line.removeprefix("data: ") for event in events for line in event.split("\n") if line.startswith("data: ")]
    return [event["state"] for event in map(json.loads, data) if event["type"] == "fill.state" and event["state"]["type"] != "end"]


class Drawing:
    """Text that is laid out from left to right and line by line, and what of it appears when."""

    def __init__(self, moments):
        self.moments, self.length = moments, BEFORE + EACH * moments + AFTER
        self.column, self.row, self.widest, self.elements = 0, 0, 0, []

    def put(self, text, moment=None):
        """Places a text; with a moment, its place is masked until then."""
        for number, part in enumerate(text.split("\n")):
            if number:
                self.column, self.row = 0, self.row + 1
            if part.strip():
                self.draw(part, moment)
            self.column += len(part)
            self.widest = max(self.widest, self.column)

    def draw(self, part, moment):
        blanks = len(part) - len(part.lstrip())
        x, y = LEFT + CHARACTER * (self.column + blanks), TOP + LINE * self.row
        text = part.strip()
        width = CHARACTER * len(text)
        place = f'x="{x:.1f}" y="{y}" textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs"'
        if moment is None:
            self.elements.append(f'<text class="given" {place}>{escape(text)}</text>')
            return
        box = f'x="{x + 1:.1f}" y="{y - 15}" width="{width - 2:.1f}" height="20" rx="4"'
        self.elements.append(f'<rect class="mask m{moment}" {box}/>')
        self.elements.append(f'<text class="new t{moment}" {place}>{escape(text)}</text>')

    def motion(self):
        """One pair of animations for each moment: the mask goes, the token comes."""
        rules = []
        for moment in range(1, self.moments + 1):
            at = 100 * (BEFORE + EACH * (moment - 1)) / self.length
            rules.append(f"@keyframes t{moment} {{ 0%, {at:.2f}% {{ opacity: 0 }} {at + 0.8:.2f}%, 100% {{ opacity: 1 }} }}")
            rules.append(f"@keyframes m{moment} {{ 0%, {at:.2f}% {{ opacity: 1 }} {at + 0.8:.2f}%, 100% {{ opacity: 0 }} }}")
            for kind in "tm":
                rules.append(f".{kind}{moment} {{ animation: {kind}{moment} {self.length:.1f}s infinite }}")
        return "\n    ".join(rules)

    def svg(self, caption):
        width, height = LEFT * 2 + CHARACTER * self.widest, TOP + LINE * (self.row + 1)
        return "\n  ".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img">',
            f"<title>{escape(caption)}</title>",
            f"<style>{STYLE}\n    .mask {{ opacity: 0 }}",
            f"  @media (prefers-reduced-motion: no-preference) {{\n    {self.motion()}\n  }}\n  </style>",
            f'<rect class="page" x=".5" y=".5" width="{width - 1:.0f}" height="{height - 1}" rx="8"/>',
            *self.elements,
        ]) + "\n</svg>\n"


def main():
    start, *steps = run()
    moments, texts = {}, {}
    for number, step in enumerate(steps, 1):
        for position, text in zip(step["positions"], step["texts"]):
            moments[position], texts[position] = number, text
    drawing, holes = Drawing(len(steps)), iter(start["holes"])
    for part in TEXT:
        if isinstance(part, str):
            drawing.put(part.rstrip("\n") if part is TEXT[-1] else part)
            continue
        hole = next(holes)
        for position in range(hole["position"], hole["position"] + hole["length"]):
            drawing.put(texts[position], moments[position])
    positions = len(texts)
    sys.stdout.write(drawing.svg(f"{positions} masked positions of a Python class are filled in {len(steps)} evaluations"))


if __name__ == "__main__":
    main()
