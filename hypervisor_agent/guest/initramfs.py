"""The guest's root file system: a cpio archive with busybox, the guest agent, a few kernel modules and our scripts."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypervisor_agent.guest.packages import BuildFailed

SCRIPTS = Path(__file__).parent
INSTALLED = {
    "init": "init.sh",
    "sbin/config-drive": "config_drive.sh",
    "sbin/flatten-json": "flatten_json.awk",
    "sbin/network": "network.sh",
    "sbin/dhcp": "dhcp.sh",
    "sbin/hotplug": "hotplug.sh",
    "sbin/chpasswd": "chpasswd.sh",
    "sbin/shutdown": "shutdown.sh",
    "etc/acpi/PWRF/00000080": "shutdown.sh",
}
MODULES = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_balloon",
    "virtio-rng",
    "button",
    "evdev",
    "ata_piix",
    "sr_mod",
    "isofs",
]
FOLDERS = [
    "bin",
    "sbin",
    "usr",
    "usr/bin",
    "usr/sbin",
    "lib",
    "lib/modules",
    "lib64",
    "lib/x86_64-linux-gnu",
    "etc",
    "etc/acpi",
    "etc/acpi/PWRF",
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "data",
    "root",
]
NOT_LINKED = {"busybox", "acpid.conf", "dpkg", "dpkg-deb", "rpm", "init"}


class Archive:
    """A newc cpio archive in memory: device nodes and root's ownership without being root."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._inode = 0

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        self._data += b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
        self._pad()
        self._data += data
        self._pad()

    def file(self, name: str, data: bytes, mode: int = 0o755) -> None:
        self.add(name, 0o100000 | mode, data)

    def link(self, name: str, target: str) -> None:
        self.add(name, 0o120777, target.encode())

    def _pad(self) -> None:
        self._data += b"\0" * (-len(self._data) % 4)

    def close(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return bytes(self._data)


def build_initramfs(unpacked: Path, label: str, password: str) -> bytes:
    """The compressed archive. `label` is what the guest calls its image, `password` is root's on the console."""
    archive = Archive()
    for folder in FOLDERS:
        archive.add(folder, 0o40755)
    archive.add("dev/console", 0o20600, device=(5, 1))
    archive.add("dev/null", 0o20666, device=(1, 3))
    busybox = one(unpacked, "bin/busybox")
    archive.file("bin/busybox", busybox.read_bytes())
    for applet in _output(str(busybox), "--list").split():
        if applet not in NOT_LINKED:
            archive.link(f"bin/{applet}", "busybox")
    for name, script in INSTALLED.items():
        archive.file(name, (SCRIPTS / script).read_bytes())
    names = []
    for module, data in _modules(unpacked):
        archive.file(f"lib/modules/{module}.ko", data, 0o644)
        names.append(module)
    archive.file("lib/modules/order", "".join(f"{name}\n" for name in names).encode(), 0o644)
    agent = one(unpacked, "bin/qemu-ga")
    archive.file("usr/sbin/qemu-ga", agent.read_bytes())
    for library in _libraries(agent):
        folder = "lib64" if library.name.startswith("ld-linux") else "lib/x86_64-linux-gnu"
        archive.file(f"{folder}/{library.name}", library.read_bytes())
    hashed = _output(str(busybox), "mkpasswd", "-m", "sha512", password).strip()
    archive.file("etc/shadow.dist", f"root:{hashed}:19000:0:99999:7:::\n".encode(), 0o600)
    archive.link("etc/shadow", "/data/etc/shadow")
    archive.file("etc/passwd", b"root:x:0:0:root:/data/root:/bin/sh\n", 0o644)
    archive.file("etc/group", b"root:x:0:\n", 0o644)
    archive.file("etc/issue", b"chronova tiny guest \\n \\l\n", 0o644)
    archive.file("etc/chronova-image", f"{label}\n".encode(), 0o644)
    return gzip.compress(archive.close(), 9, mtime=0)


def one(unpacked: Path, suffix: str) -> Path:
    """The file whose path ends so; distributions differ in /bin, /sbin and /usr/sbin."""
    name = suffix.rsplit("/", 1)[-1]
    for path in sorted(unpacked.rglob(name)):
        if path.is_file() and str(path).endswith(suffix):
            return path
    raise BuildFailed(f"The packages hold no {suffix}. Clear the cache directory and try again.")


def kernel(unpacked: Path) -> Path:
    for path in unpacked.glob("boot/vmlinuz-*"):
        return path
    raise BuildFailed("The packages hold no kernel. Clear the cache directory and try again.")


def _modules(unpacked: Path) -> Iterator[tuple[str, bytes]]:
    """The wanted modules and all they depend on, dependencies first. A name without a file is built into the kernel."""
    files = {path.name.split(".ko")[0].replace("-", "_"): path for path in unpacked.rglob("*.ko*")}
    done: set[str] = set()

    def with_dependencies(name: str) -> Iterator[tuple[str, bytes]]:
        if name in done or name not in files:
            return
        done.add(name)
        data = _plain(files[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for needed in depends.group(1).decode().split(",") if depends else ():
            yield from with_dependencies(needed.replace("-", "_"))
        yield name, _stripped(data)

    for wanted in MODULES:
        yield from with_dependencies(wanted.replace("-", "_"))


def _plain(module: Path) -> bytes:
    if module.suffix == ".xz":
        return lzma.decompress(module.read_bytes())
    if module.suffix == ".zst":
        return subprocess.run(["zstd", "-dc", str(module)], capture_output=True, check=True, timeout=60).stdout
    return module.read_bytes()


def _stripped(module: bytes) -> bytes:
    """Without debug symbols, when binutils are there: less to unpack in the guest."""
    if shutil.which("strip") is None:
        return module
    with tempfile.NamedTemporaryFile(suffix=".ko") as file:
        file.write(module)
        file.flush()
        subprocess.run(["strip", "--strip-debug", file.name], check=True, timeout=60)
        return Path(file.name).read_bytes()


def _libraries(program: Path) -> list[Path]:
    listed = _output("ldd", str(program))
    missing = re.findall(r"(\S+) => not found", listed)
    if missing:
        raise BuildFailed(f"The guest agent needs {', '.join(missing)} on this machine. Install qemu-utils.")
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", listed)]


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
