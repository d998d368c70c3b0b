"""What tests start; all of it is ended after the test, the network after the last."""

import pytest

from fleet import Replica, balancer
from network import Network


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    network = Network(tmp_path_factory.mktemp("network"))
    yield network
    network.close()


@pytest.fixture
def start():
    """Keeps what is started, and ends it."""
    started = []

    def keep(process):
        started.append(process)
        return process

    yield keep
    for process in reversed(started):
        process.close()


@pytest.fixture
def replicas(network, start):
    """Both, as compose starts them."""
    return [start(Replica(network, name)) for name in ("unmask-1", "unmask-2")]


@pytest.fixture
def behind(replicas, start):
    """Both replicas behind a balancer."""

    def put(kind):
        start(balancer(kind))
        return replicas

    return put
