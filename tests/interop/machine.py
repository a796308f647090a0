"""A virtual machine for tests: QEMU without acceleration, Debian's cloud kernel, and a shell on its serial line.

The kernel's package is fetched with apt-get once and unpacked beside nothing (never installed); its file system in
memory holds busybox and the modules of virtio-net. ``vectors=0``: QEMU 7.2 crashes with MSI-X here.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from wirespeed.bench.prompt import Prompt

CACHE = Path(os.environ.get("WIRESPEED_GUEST", Path.home() / ".cache/wirespeed/guest"))
PACKAGE = "linux-image-cloud-amd64"
MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "failover", "net_failover",
    "virtio_net",
)  # fmt: skip
PROMPT = "guest-ready# "
MEMORY_MIB = 256
BOOT_S = 300  # emulated, on a busy machine

INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in {" ".join(MODULES)}; do
    [ ! -f /modules/$module.ko ] || insmod /modules/$module.ko
done
stty -echo
export PS1='{PROMPT}'
exec setsid cttyhack sh
"""


def why_not() -> str:
    """Why there can be no machine; empty if there can."""
    for program in ("qemu-system-x86_64", "busybox", "cpio"):
        if not shutil.which(program):
            return f"needs {program}"
    try:
        kernel()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"needs {PACKAGE}: apt-get download: {error}"
    return ""


def kernel() -> Path:
    """The folder of Debian's kernel, unpacked; fetched the first time."""
    found = [*CACHE.glob("root/boot/vmlinuz-*")]
    if not found:
        CACHE.mkdir(parents=True, exist_ok=True)
        name = _package()
        subprocess.run(["apt-get", "download", "-q", name], cwd=CACHE, check=True, capture_output=True)
        (package,) = CACHE.glob("linux-image-*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(CACHE / "root")], check=True)
        package.unlink()
    return CACHE / "root"


def _package() -> str:
    """The package that stands behind PACKAGE now."""
    for attempt in range(2):
        said = subprocess.run(["apt-cache", "depends", PACKAGE], capture_output=True, text=True).stdout
        if names := re.findall(r"Depends: (linux-image-\S+)", said):
            return str(names[0])
        if attempt == 0:
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True)
    raise OSError(f"apt-cache knows no {PACKAGE}")


def image(folder: Path) -> tuple[Path, Path]:
    """(kernel, initial file system) in ``folder``."""
    root = kernel()
    (linux,) = root.glob("boot/vmlinuz-*")
    tree = folder / "tree"
    for name in ("bin", "modules", "proc", "sys", "dev", "tmp"):
        (tree / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", tree / "bin/busybox")
    for module in MODULES:  # what the kernel has built in is no file
        for path in root.glob(f"lib/modules/*/kernel/**/{module}.ko*"):
            shutil.copy(path, tree / "modules" / path.name)
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    names = "\0".join(str(path.relative_to(tree)) for path in [tree, *tree.rglob("*")]).encode()
    packed = folder / "initramfs"
    with packed.open("wb") as out:
        subprocess.run(["cpio", "-o", "-0", "-H", "newc", "--quiet"], cwd=tree, input=names, stdout=out, check=True)
    return linux, packed


class Machine:
    """A running machine; a context manager. Its network card is whoever listens at ``socket``."""

    def __init__(self, folder: Path, socket: Path, card: str = "") -> None:
        linux, packed = image(folder)
        command = [
            "qemu-system-x86_64", "-M", "q35,memory-backend=mem", "-cpu", "max", "-m", str(MEMORY_MIB), "-nodefaults",
            "-display", "none", "-monitor", "none", "-no-reboot", "-serial", "stdio",
            "-object", f"memory-backend-memfd,id=mem,size={MEMORY_MIB}M,share=on",
            "-chardev", f"socket,id=card,path={socket},reconnect=1",
            "-netdev", "vhost-user,id=net,chardev=card",
            "-device", f"virtio-net-pci,netdev=net,vectors=0,mac=02:00:00:00:00:42{card}",
            "-kernel", str(linux), "-initrd", str(packed), "-append", "console=ttyS0 quiet panic=-1 tsc=unstable",
        ]  # fmt: skip
        self._prompt = Prompt(command, PROMPT, timeout=BOOT_S, patience=1)

    def __enter__(self) -> "Machine":
        self._prompt.__enter__()
        try:
            self._prompt.read()
        except BaseException:
            self._prompt.end(polite=False)
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self._prompt.end(polite=False)

    def run(self, line: str) -> str:
        """What a command says in the machine."""
        return self._prompt.ask(line)

    def address(self, address: str, gateway: str) -> None:
        """Bring the card up."""
        self.run(f"ip address add {address} dev eth0; ip link set eth0 up; ip route add default via {gateway}")
