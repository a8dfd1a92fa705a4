"""Reference: embeddings of films -> the same bundle with a reference of typical images."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.load import MANIFEST_NAME, Bundle, load_bundle
from cxr_server.bundles.manifest import FileEntry
from cxr_server.inference.typicality import REFERENCE_NAME, fit, fitted_on, reference_file


def add_reference(bundle: Bundle, embeddings_nc: NDArray[np.float32]) -> Bundle:
    """Fit a reference and store it in the bundle's folder, replacing any other.

    The folder is replaced as a whole after the new one has been loaded; running servers are not
    affected. Changes nothing if it raises BundleError or OSError.
    """
    reference, manifest = fit(embeddings_nc), bundle.manifest
    content = reference_file(reference)
    entry = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
    manifest = msgspec.structs.replace(
        manifest,
        reference=fitted_on(reference, manifest),
        files={**manifest.files, REFERENCE_NAME: entry},
    )
    with tempfile.TemporaryDirectory(prefix=f".{bundle.path.name}.", dir=bundle.path.parent) as it:
        new, old = Path(it, "new"), Path(it, "old")
        shutil.copytree(bundle.path, new)
        (new / REFERENCE_NAME).write_bytes(content)
        (new / REFERENCE_NAME).chmod(0o644)
        (new / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        load_bundle(new)
        os.rename(bundle.path, old)
        try:
            os.rename(new, bundle.path)
        except BaseException:
            os.rename(old, bundle.path)
            raise
    return load_bundle(bundle.path)
