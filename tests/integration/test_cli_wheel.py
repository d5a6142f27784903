"""The wheel, installed where nothing else of the project is, gives the same `chronova` command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import httpx
import pytest

from tests.running import until

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "tests", "build", "dist", "*.egg-info", "__pycache__")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A virtual environment's `bin` with the wheel in it.

    The libraries come from the environment of the tests: their folder is put on the path as it is, so that an editable
    installation in it, which is a file for `site` to read, does not count.
    """
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    _run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", str(tmp_path), str(source)),
        ]
    )
    shutil.rmtree(source)
    environment = tmp_path / "clean"
    _run([sys.executable, "-m", "venv", str(environment)])
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    wheel = next(tmp_path.glob("chronova-*.whl"))
    _run([str(environment / "bin" / "pip"), "install", "--no-deps", "--quiet", str(wheel)])
    return environment / "bin"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr


def test_the_installed_wheel_runs_the_whole_system(installed: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [str(installed / "python"), "-c", "import cli.main, api.app; print(api.app.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert where.stdout.startswith(str(installed.parent))
    ready_file = tmp_path / "ready.json"
    # The project's own cache is not where an installed chronova looks for nats-server.
    environment = os.environ.copy()
    cached = ROOT / ".cache" / "bin" / "nats-server"
    if cached.exists():
        environment["NATS_SERVER"] = str(cached)
    command = [str(installed / "chronova"), "up", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"]
    command += ["--driver", "simulated", "--ready-file", str(ready_file)]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=out)
    try:
        until(lambda: ready_file.exists() or process.poll() is not None, "ready", 120)
        assert process.poll() is None, (tmp_path / "out").read_text()
        base = json.loads(ready_file.read_text())["base_url"]
        with httpx.Client(base_url=base, follow_redirects=True, timeout=60) as client:
            assert client.get("/healthz").status_code == 200
            assert client.get("/openapi.json").json()["paths"]
            viewer = client.get("/ui/")
            assert viewer.status_code == 200
            assert "<html" in viewer.text
            assets = set(re.findall(r'(?:href|src)="(/ui/static/[^"]+)"', viewer.text))
            assert assets
            consoles = {
                "static/line.js",
                "vendor/novnc/core/rfb.js",
                "vendor/novnc/LICENSE.txt",
                "vendor/xterm/LICENSE",
            }
            for asset in assets | {f"/console/{path}" for path in consoles | {"vendor/xterm/xterm.mjs"}}:
                assert client.get(asset).status_code == 200, asset
    finally:
        process.terminate()
        assert process.wait(60) == 0
