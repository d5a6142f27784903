"""The real `openstack` client in one process of its own, one command after the other: what each printed and its code.

Run as a program it is that process: a line of JSON in (the words of a command), a line of JSON out.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

COMMAND_SECONDS = 120


@dataclass(frozen=True)
class Answer:
    code: int
    said: str
    complained: str

    @property
    def told(self) -> Any:
        """What a command with `-f json` said."""
        return json.loads(self.said)


class Shell:
    """Commands as a user types them, of the clouds of one clouds.yaml."""

    def __init__(self, clouds_yaml: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment | {"OS_CLIENT_CONFIG_FILE": clouds_yaml},
        )

    def run(self, words: list[str]) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the client ended at: openstack {' '.join(words)}"
        return Answer(**json.loads(line))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()


def _serve() -> None:
    import signal

    from openstackclient.shell import OpenStackShell

    answers, commands = sys.stdout, sys.stdin
    for line in commands:
        said, complained = io.StringIO(), io.StringIO()
        signal.alarm(COMMAND_SECONDS)  # one that hangs ends the process, and whoever waits for its answer sees that
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            try:
                with open(os.devnull) as nothing, contextlib.ExitStack() as stack:
                    stack.callback(setattr, sys, "stdin", commands)
                    sys.stdin = nothing  # a question is answered with nothing
                    code = OpenStackShell().run(json.loads(line))
            except SystemExit as ended:
                code = int(ended.code or 0)
        signal.alarm(0)
        answer = {"code": code, "said": said.getvalue(), "complained": complained.getvalue()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
