"""Compares what a command printed with what its page shows.

In both kinds of output `…` stands for what is left out. A `json` block shows some fields of the printed JSON; a `text`
block shows lines, of which those that hold JSON are compared by the fields that they show. A number that is shown with a
fraction may differ by one in its last digit, because processors with other instructions round differently.
"""

import json
import re
from decimal import Decimal

LEFT_OUT = "…"


def differences(language, shown, printed):
    """A list of lines that say what is not as shown; empty if all is."""
    if language == "json":
        try:
            answer = load(printed)
        except ValueError as error:
            return [f"not JSON ({error})"]
        return unlike(load(shown), answer)
    if same_lines(lines(shown), lines(printed)):
        return []
    return ["the lines differ"]


def load(text):
    return json.loads(text, parse_float=Decimal)


def lines(text):
    """Without blanks at the ends of lines, and without empty lines around all of them."""
    return [line.rstrip() for line in text.strip("\n").split("\n")]


def same_text(shown, printed):
    pattern = ".*".join(map(re.escape, shown.split(LEFT_OUT)))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


def same_lines(shown, printed):
    """Whether printed lines are those shown; a line that is `…` stands for any number of them."""
    reachable = {0}
    for line in shown:
        if line.strip() == LEFT_OUT:
            reachable = set(range(min(reachable), len(printed) + 1))
        else:
            reachable = {at + 1 for at in reachable if at < len(printed) and same_line(line, printed[at])}
        if not reachable:
            return False
    return len(printed) in reachable


def same_line(shown, printed):
    label, brace, _ = shown.partition("{")
    if brace and printed.startswith(label):
        try:
            return not unlike(load(shown[len(label):]), load(printed[len(label):]))
        except ValueError:
            pass
    return same_text(shown, printed)


def unlike(shown, printed, at="$"):
    """What of the shown JSON is not in the printed one."""
    if isinstance(shown, str):
        same = same_text(shown, printed) if isinstance(printed, str) else shown == LEFT_OUT
        return [] if same else [f"{at}: {json.dumps(printed, default=str)} instead of {json.dumps(shown)}"]
    if isinstance(shown, dict) and isinstance(printed, dict):
        missing = [f"{at}.{key}: missing" for key in shown if key not in printed]
        return missing + [found for key in shown if key in printed for found in unlike(shown[key], printed[key], f"{at}.{key}")]
    if isinstance(shown, list) and isinstance(printed, list):
        open_end = bool(shown) and shown[-1] == LEFT_OUT
        wanted = shown[:-1] if open_end else shown
        if len(printed) < len(wanted) or (len(printed) > len(wanted) and not open_end):
            return [f"{at}: {len(printed)} elements instead of {len(wanted)}"]
        return [found for index, each in enumerate(wanted) for found in unlike(each, printed[index], f"{at}[{index}]")]
    if isinstance(shown, Decimal) and isinstance(printed, Decimal | int) and not isinstance(printed, bool):
        unit = Decimal(1).scaleb(shown.as_tuple().exponent)
        same = abs(shown - printed) <= unit
    else:
        same = type(shown) is type(printed) and shown == printed
    return [] if same else [f"{at}: {json.dumps(printed, default=str)} instead of {json.dumps(shown, default=str)}"]
