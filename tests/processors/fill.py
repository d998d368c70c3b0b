"""A server on an emulated processor fills a hole and says which instruction set it uses.

    fill.py COMMAND...      the emulator with its options, then the unmask program
"""

import json
import subprocess
import sys
import urllib.request

process = subprocess.Popen(
    [*sys.argv[1:], "serve", "--listen", "127.0.0.1:0", "--threads", "1", "--log-format", "json"],
    stderr=subprocess.STDOUT,
    stdout=subprocess.PIPE,
    text=True,
)
try:
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "listening on http://" in line:
            break
    log = "".join(lines)
    assert '"cpu":"portable"' in log, log
    address = log.split("listening on http://")[1].split('"')[0]
    body = {"prefix": "def add(a, b):\n    return", "suffix": "\n", "length": 4, "temperature": 0}
    request = urllib.request.Request(
        f"http://{address}/fill", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    answer = json.load(urllib.request.urlopen(request))
    hole = answer["choices"][0]["holes"][0]
    assert (hole["length"], hole["finish_reason"]) == (4, "filled"), answer
    print(f"filled with {hole['text']!r}")
finally:
    process.terminate()
    process.wait()
