"""Writes expected.json: what Jinja2 makes of the templates in this folder, and of those in styles.py, in the settings of
transformers.

    pip install jinja2 && python render.py
"""

import json
from pathlib import Path

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from styles import templates

HERE = Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise TemplateError(message)


class Generation(Extension):
    """`{% generation %}` of transformers, which marks what a training learns."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("inner"), [], [], body).set_lineno(line)

    def inner(self, caller):
        return caller()


def say(*texts, system=None):
    roles = ["user", "assistant"]
    turns = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    return ([{"role": "system", "content": system}] if system else []) + turns


CONVERSATIONS = [
    {"messages": say("Why is the sky blue?"), "add_generation_prompt": True},
    {"messages": say("Why?"), "add_generation_prompt": False},
    {"messages": say(" Hi \n", "Hello.", "  What is 2 < 3?\n\n", system=" Be brief. "), "add_generation_prompt": True},
    {"messages": say("Grüße 😀", "<think>\nhm\n</think>\n\nHallo & 'ciao'", "more", "<think>x</think>end"), "add_generation_prompt": False},
    {"messages": say("a\tb \"c\" \\ d", "", "e"), "add_generation_prompt": True, "enable_thinking": False},
    {"messages": [{"role": "assistant", "content": "I begin."}], "add_generation_prompt": True},
    {"messages": say("one") + say("two"), "add_generation_prompt": True},
]


def main():
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    cases = []
    files = sorted([*HERE.glob("*.jinja"), HERE / "../../crates/api/src/template/alpaca.jinja"])
    styles = dict(templates())
    for name, source in [(path.stem, path.read_text()) for path in files] + list(styles.items()):
        template = environment.from_string(source)
        for conversation in CONVERSATIONS:
            case = {"template": name, "conversation": conversation}
            try:
                case["text"] = template.render(**TOKENS, **conversation)
            except TemplateError as error:
                case["refused"] = str(error)
            cases.append(case)
    document = {"tokens": TOKENS, "styles": styles, "cases": cases}
    (HERE / "expected.json").write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n")


main()
