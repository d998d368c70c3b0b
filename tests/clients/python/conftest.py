"""What the tests of all clients share."""

import socket

import pytest

from server import Server

MODEL = "unmask-code"
# As slow as can be, for requests that are to run until their client hangs up: one token an evaluation, to the last one.
ENDLESS = {"ignore_eos": True, "diffusion": {"preset": "exact"}}


def pytest_report_header():
    """Says whether this run proves that nothing but the loopback interface is needed."""
    names = [name for _, name in socket.if_nameindex()]
    return "network: " + ("only loopback" if names == ["lo"] else f"not cut, interfaces {' '.join(names)}")


@pytest.fixture(scope="session")
def server():
    with Server() as server:
        yield server


@pytest.fixture
def openai_client(server):
    """OpenAI's client without retries: what the server answers is what a test sees."""
    from openai import OpenAI

    with OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
        yield client
