"""Collect wheels for a GPU machine without a network: python prepare.py [PYTHON_VERSION].

Downloads into carry/, with pip as it is configured, what a Linux machine with PyTorch lacks, in
the versions that the project locks. Plugins and tables that the check does not use are left out.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).parent
CARRY = HERE / "carry"
LOCK = HERE.parents[1] / "locks" / "dev.txt"
PYTHON = sys.argv[1] if len(sys.argv) > 1 else "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")
MOST_MIB = 55

BINARY = (
    *("grpcio", "grpcio-health-checking", "grpcio-reflection", "grpcio-status", "protobuf"),
    *("googleapis-common-protos", "imagecodecs", "isal", "msgspec", "openvino", "pillow"),
    *("platformdirs", "prometheus-client", "psutil", "safetensors", "simplejpeg", "structlog"),
    *("torchxrayvision", "ttach", "pytest", "pluggy", "iniconfig", "pytest-asyncio"),
    *("pytest-timeout", "kornia-rs", "blake3", "uvloop"),
)
SOURCE = ("grad-cam",)
"""Published as source only; pure Python."""
LEFT_OUT = re.compile(
    r"torchxrayvision/data/.*\.(csv|gz|zip|txt)"
    r"|imagecodecs\.libs/lib(aom|avif|blosc2|jxl|cpcodec|SZ3).*"
    r"|imagecodecs/_(bcn|blosc2|cfitsio|czi|exr|jpegxl|rgbe|szip|ultrahdr)\.abi3\.so"
    r"|pillow\.libs/libavif.*|PIL/_avif.*"
    r"|openvino/frontend/[a-z_]+/py_[a-z_]+_frontend.*\.so"
    r"|openvino/libs/(cache\.json|.*_plugin\.so"
    r"|libopenvino_(onnx|tensorflow|tensorflow_lite|paddle|jax|gguf|pytorch)_frontend.*)"
)


def pins() -> dict[str, str]:
    """Return the requirement "name==version" of each package that is locked for PYTHON."""
    environment = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
    found = {}
    for line in re.findall(r"^[a-z0-9-]+==[^\\\n]+", LOCK.read_text(), re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            found[requirement.name] = f"{requirement.name}{requirement.specifier}"
    return found


def pip(*arguments: str) -> None:
    """Run pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def slim(source: Path, target: Path) -> None:
    """Copy a wheel without the files that are left out."""
    with zipfile.ZipFile(source) as old:
        left = {name for name in old.namelist() if LEFT_OUT.fullmatch(name)}
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
            for item in old.infolist():
                data = old.read(item)
                if item.filename.endswith(".dist-info/RECORD"):
                    lines = data.splitlines(keepends=True)
                    data = b"".join(x for x in lines if x.decode().split(",")[0] not in left)
                if item.filename not in left:
                    new.writestr(item, data)


def main() -> int:
    """Fill carry/. Returns the exit status: 1 if it holds too much."""
    locked = pins()
    CARRY.mkdir(exist_ok=True)
    for old in CARRY.glob("*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        platforms = [word for name in PLATFORMS for word in ("--platform", name)]
        options = ("--quiet", "--no-deps", "--only-binary=:all:", "--implementation", "cp")
        wanted = [locked[name] for name in BINARY if name in locked]
        pip("download", *options, "--python-version", PYTHON, *platforms, "-d", folder, *wanted)
        pip("wheel", "--quiet", "--no-deps", "-w", folder, *(locked[name] for name in SOURCE))
        for wheel in sorted(Path(folder).glob("*.whl")):
            slim(wheel, CARRY / wheel.name)
    total_mib = sum(wheel.stat().st_size for wheel in CARRY.glob("*.whl")) / 2**20
    print(f"{CARRY}: {total_mib:.0f} MiB")
    return int(total_mib > MOST_MIB)


if __name__ == "__main__":
    sys.exit(main())
