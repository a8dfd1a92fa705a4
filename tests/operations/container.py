"""An image of `make image`, unpacked, and run by runc as the chart's pod would run it."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from operations.chart import Manifest, environment, pod, server
from operations.tools import program

ROOT = Path(__file__).parents[2]
ARCHIVE = ROOT / "build" / "image.tar"


def unpack(folder: Path) -> dict[str, Any]:
    """Unpack the archive's layers into `folder`/rootfs. Returns the image's configuration."""
    subprocess.run(["tar", "-xf", ARCHIVE, "-C", folder], check=True)
    (manifest,) = json.loads((folder / "manifest.json").read_text())
    rootfs = folder / "rootfs"
    rootfs.mkdir()
    for layer in manifest["Layers"]:
        subprocess.run(["tar", "-xf", folder / layer, "-C", rootfs], check=True)
        (folder / layer).resolve().unlink()
    config = json.loads((folder / manifest["Config"]).read_text())["config"]
    assert isinstance(config, dict)
    return config


class Container:
    """The image's server with the variables, the user and the rights of a pod of the chart.

    It has no network but its own loopback. What it may write to: /tmp, the cache, the volume of
    bundles. `data` is mounted read-only at /data.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], manifest: dict[str, Manifest], data: Path
    ) -> None:
        self.name = f"cxr-test-{os.getpid()}"
        self._runc = [program("runc"), "--root", str(folder / "state")]
        bundles = folder / "bundles"
        bundles.mkdir()
        os.chown(bundles, 10001, 10001)
        mounts = {"/data": (data, "ro"), "/var/lib/cxr/bundles": (bundles, "rw")}
        self._specify(folder, config, manifest, mounts)
        self.log = folder / "log"
        self.banner = folder / "banner"
        with self.banner.open("w") as out, self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*self._runc, "run", "--bundle", folder, self.name], stdout=out, stderr=log
            )
        until = time.monotonic() + 120
        while not self.banner.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)

    def _specify(
        self,
        folder: Path,
        config: dict[str, Any],
        manifest: dict[str, Manifest],
        mounts: dict[str, tuple[Path, str]],
    ) -> None:
        subprocess.run([program("runc"), "spec", "--bundle", folder], check=True)
        path = folder / "config.json"
        spec = json.loads(path.read_text())
        ids, rights = pod(manifest)["securityContext"], server(manifest)["securityContext"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        variables = dict(entry.split("=", 1) for entry in config["Env"])
        variables |= environment(server(manifest))
        spec["process"] |= {
            "terminal": False,
            "user": {"uid": ids["runAsUser"], "gid": ids["runAsGroup"]},
            "args": [*config["Entrypoint"], *config["Cmd"]],
            "env": [f"{name}={value}" for name, value in variables.items()],
            "cwd": config["WorkingDir"],
            "capabilities": {},
            "noNewPrivileges": not rights["allowPrivilegeEscalation"],
        }
        spec["root"] = {"path": "rootfs", "readonly": rights["readOnlyRootFilesystem"]}
        owner = [f"uid={ids['runAsUser']}", f"gid={ids['fsGroup']}"]  # as of an emptyDir
        for written in ("/tmp", *config["Volumes"]):
            tmpfs = {"type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", *owner]}
            spec["mounts"].append({"destination": written, **tmpfs})
        for place, (source, mode) in mounts.items():
            bind = {"type": "bind", "source": str(source), "options": ["rbind", mode]}
            spec["mounts"].append({"destination": place, **bind})
        path.write_text(json.dumps(spec))

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the container."""
        command = [*self._runc, "exec", self.name, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def stop(self) -> int:
        """End the server with SIGTERM. Returns its exit status."""
        if self.process.poll() is None:
            subprocess.run([*self._runc, "kill", self.name, "TERM"], check=True)
        return self.process.wait(60)
