"""The serving process opens no connections for any request: under seccomp, the first one would end it."""

import signal
import subprocess
import sys
import urllib.error

import pytest

from confinement import confine
from server import Server

CALL = "import socket; socket.create_connection(('127.0.0.1', 9))"
DATAGRAM = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"
ADDRESSES = ["http://127.0.0.1:9/x.png", "https://example.com/x", "file:///etc/passwd", "//127.0.0.1/share"]


@pytest.mark.parametrize("script", [CALL, DATAGRAM])
def test_a_process_that_connects_is_ended(script):
    """Broken: the next test proves nothing."""
    assert subprocess.run([sys.executable, "-c", script], preexec_fn=confine).returncode == -signal.SIGSYS


def bodies(address):
    """Requests of every route with an address wherever a text can stand, and where other servers fetch one."""
    image = [{"type": "image_url", "image_url": {"url": address}}]
    texts = [[{"role": "user", "content": content}] for content in (address, image)]
    more = {"model": address, "user": address, "chat_template": address, "tools": [{"url": address}], "webhook": address}
    for path, body in [
        ("/v1/completions", {"prompt": address, "suffix": address, "max_tokens": 2}),
        ("/fill", {"prefix": address, "suffix": address, "length": 2}),
        ("/v1/fim/completions", {"prompt": address, "suffix": address, "max_tokens": 2}),
        ("/infill", {"input_prefix": address, "input_extra": [{"filename": address, "text": address}], "n_predict": 2}),
        ("/tokenize", {"prompt": address}),
        *[(path, {"messages": text, "max_tokens": 2}) for text in texts for path in ("/v1/chat/completions", "/apply-template")],
    ]:
        yield path, body
        for field, value in more.items():
            yield path, {**body, field: value}


def test_the_server_opens_no_connections():
    """Broken: a client can make the server send requests from within its network (SSRF)."""
    answered = 0
    with Server(before=confine) as server:
        for address in ADDRESSES:
            for path, body in bodies(address):
                try:
                    server.post(path, body)
                    answered += 1
                except urllib.error.HTTPError as refusal:
                    assert refusal.code in (400, 404), (path, body, refusal.code)
        for path in ("/metrics", "/v1/models", "/props", "/openapi.json"):
            server.get(path)
        server.wait_until_idle()
        assert server.process.poll() is None
    assert answered >= len(ADDRESSES) * 6
