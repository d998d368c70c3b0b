"""A network like the one that compose makes: two replicas and their balancer, each reached by its name.

The replicas have addresses and a port 8080 of their own in a second network namespace, since balancers listen
on port 8080 of every address of this one. A name server answers where Docker's would.
"""

import os
import subprocess

from waiting import until

NAMES = {"unmask-1": "10.89.0.11", "unmask-2": "10.89.0.12", "haproxy": "127.0.0.1"}
DNS = "127.0.0.11"
HERE = "10.89.0.1"


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class Network:
    """Exists until `close`."""

    def __init__(self, folder):
        ip("link", "set", "lo", "up")
        self.far = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        until("the second namespace", lambda: os.readlink(f"/proc/{self.far.pid}/ns/net") != own)
        ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(self.far.pid))
        ip("address", "add", f"{HERE}/24", "dev", "near")
        ip("link", "set", "near", "up")
        for name in ("unmask-1", "unmask-2"):
            self.run_far(["ip", "address", "add", f"{NAMES[name]}/24", "dev", "far"])
        for device in ("lo", "far"):
            self.run_far(["ip", "link", "set", device, "up"])
        self.dns = subprocess.Popen(
            ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--no-resolv",
             "--no-hosts", f"--listen-address={DNS}", "--bind-interfaces"]
            + [f"--host-record={name},{address}" for name, address in NAMES.items()]
        )
        resolv = folder / "resolv.conf"
        resolv.write_text(f"nameserver {DNS}\n")
        subprocess.run(["mount", "--bind", resolv, "/etc/resolv.conf"], check=True)
        lookup = ["getent", "hosts", "unmask-2"]
        until("the name server", lambda: subprocess.run(lookup, stdout=subprocess.DEVNULL).returncode == 0)

    def far_command(self, command):
        """The command, run where the replicas are."""
        return ["nsenter", f"--net=/proc/{self.far.pid}/ns/net", *command]

    def run_far(self, command):
        subprocess.run(self.far_command(command), check=True)

    def close(self):
        for process in (self.dns, self.far):
            process.kill()
            process.wait()
