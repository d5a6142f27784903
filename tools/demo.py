"""`make demo`: a real server through its life, with the real OpenStack client, and its history told at the end.

Starts `chronova up` with two hosts on the best driver there is, on a directory of its own (or --data), and stops it
again, whatever happens. Every command it runs is printed, with the seconds since the start; waiting in between is the
client's SDK's. Exit code 0 only if all of it worked.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openstack

BIN = Path(sys.executable).parent
CLOUD = "chronova"
SERVER = "demo-server"
UP_SECONDS = 120
BOOT_SECONDS = 180
STATE_SECONDS = 120
ACTIVE = "ACTIVE"
# What is done to the server, and the status it has to have afterwards.
LIFE = (
    ("stop", "SHUTOFF"),
    ("start", ACTIVE),
    ("reboot", ACTIVE),
    ("pause", "PAUSED"),
    ("unpause", ACTIVE),
    ("suspend", "SUSPENDED"),
    ("resume", ACTIVE),
    ("lock", ACTIVE),
    ("unlock", ACTIVE),
)


class Failed(Exception):
    """A step of the demo did not do what it should."""


class Demo:
    def __init__(self, data: Path, driver: str) -> None:
        self.data = data
        self.driver = driver
        self.begun = time.monotonic()
        self.ready: dict[str, Any] = {}
        self.cloud: Any = None
        self.server_id = ""
        self.up: subprocess.Popen[bytes] | None = None

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.begun:6.1f} s] {text}", flush=True)

    def start(self) -> None:
        ready_file = self.data / "ready.json"
        command = [
            *(BIN / "chronova", "up", "--data", self.data, "--hosts", "2", "--driver", self.driver),
            *("--listen", "127.0.0.1:0", "--ready-file", ready_file),
        ]
        self.say("chronova up --hosts 2")
        ready_file.unlink(missing_ok=True)
        self.up = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + UP_SECONDS
        while not ready_file.exists():
            if self.up.poll() is not None:
                raise Failed(f"chronova up ended with exit code {self.up.returncode}; logs are in {self.data / 'logs'}")
            if time.monotonic() > deadline:
                raise Failed(f"chronova up was not ready after {UP_SECONDS} s; logs are in {self.data / 'logs'}")
            time.sleep(0.1)
        self.ready = json.loads(ready_file.read_text())
        os.environ["OS_CLIENT_CONFIG_FILE"] = self.ready["clouds_yaml"]
        self.cloud = openstack.connect(cloud=CLOUD)
        self.say(f"ready: driver {self.ready['driver']}, hosts {', '.join(self.ready['hosts'])}")

    def openstack(self, *words: str, show: bool = True) -> str:
        self.say(f"openstack {' '.join(words)}")
        return self._run([str(BIN / "openstack"), "--os-cloud", CLOUD, *words], show)

    def chronova(self, *words: str) -> str:
        self.say(f"chronova {' '.join(words)}")
        return self._run([str(BIN / "chronova"), *words, "--data", str(self.data)], show=True)

    def _run(self, command: list[str], show: bool) -> str:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOOT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise Failed(f"exit code {done.returncode}: {done.stdout.strip()} {done.stderr.strip()}")
        if show and done.stdout.strip():
            print(done.stdout.rstrip(), flush=True)
        return done.stdout

    def live(self) -> None:
        """Through the server's whole life."""
        self.openstack("image", "list")
        self.openstack(
            *("server", "create", "--image", "tiny", "--flavor", "m1.nano", "--network", "private", "--wait", SERVER),
            *("-c", "id", "-c", "status", "-c", "addresses", "-c", "OS-EXT-STS:vm_state"),
        )
        self.server_id = self.cloud.compute.find_server(SERVER).id
        self.see_it_boot()
        self.openstack("server", "list")
        for action, status in LIFE:
            self.openstack("server", action, SERVER)
            self.until(lambda wanted=status: self.has_status(wanted), STATE_SECONDS, f"{SERVER} is {status}")
        self.openstack("server", "event", "list", SERVER)
        self.openstack("server", "delete", "--wait", SERVER)
        self.chronova("history", self.server_id)

    def see_it_boot(self) -> None:
        """Wait until the guest says on its console that it is up."""
        if self.ready["driver"] == "libvirt-test":
            self.say("libvirt's test driver has no console; its servers run no guest")
            return

        def booted() -> bool:
            console = self.cloud.compute.get_server_console_output(self.server_id)["output"]
            return "CHRONOVA-READY" in console

        self.until(booted, BOOT_SECONDS, "its console says CHRONOVA-READY")
        console = self.openstack("console", "log", "show", SERVER, show=False)
        for line in console.splitlines():
            if "CHRONOVA-READY" in line:
                self.say(f"the guest says: {line.strip()}")

    def has_status(self, status: str) -> bool:
        server = self.cloud.compute.get_server(self.server_id)
        if server.status == "ERROR":
            raise Failed(f"{SERVER} is in ERROR: {server.fault}")
        return server.status == status and server.task_state is None

    def until(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise Failed(f"not within {seconds} s: {what}")
            time.sleep(0.1)
        self.say(what)

    def stop(self) -> None:
        if self.up is None or self.up.poll() is not None:
            return
        self.up.send_signal(signal.SIGTERM)
        try:
            self.up.wait(60)
        except subprocess.TimeoutExpired:
            self.up.kill()
            self.up.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description="A real server through its life.")
    parser.add_argument("--wait", default="1", help="0: end at once")
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--data", default="", help="keep the state here; default: a temporary directory")
    arguments = parser.parse_args()
    temporary = not arguments.data
    data = Path(tempfile.mkdtemp(prefix="chronova-demo-") if temporary else arguments.data).absolute()
    data.mkdir(parents=True, exist_ok=True)
    demo = Demo(data, arguments.driver)
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    worked = False
    try:
        demo.start()
        demo.live()
        worked = True
        demo.say("all of it worked")
        demo.say(f"history viewer: {demo.ready['viewer']}")
        if arguments.wait != "0":
            demo.say("it stays up until Ctrl-C; the client's configuration is in " + demo.ready["clouds_yaml"])
            assert demo.up is not None
            demo.up.wait()
    except (Failed, subprocess.TimeoutExpired) as error:
        demo.say(f"FAILED: {error}")
    except KeyboardInterrupt:
        demo.say("stopping")
    finally:
        demo.stop()
        if temporary and worked:
            shutil.rmtree(data, ignore_errors=True)
        elif temporary:
            print(f"the state and the logs are kept in {data}", flush=True)
    return 0 if worked else 1


if __name__ == "__main__":
    sys.exit(main())
