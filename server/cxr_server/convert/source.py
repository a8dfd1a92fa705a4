"""Source: name of a model or a file -> verified bytes of the checkpoint. Next: checkpoint."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cxr_server.bundles.manifest import NAME_PATTERN, BundleError, Upstream, Verified
from cxr_server.bundles.store import PHANTOM
from cxr_server.convert.catalog import CATALOG, CatalogEntry
from cxr_server.convert.download import Progress, download


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The origin of a checkpoint, and what is known of it.

    Attributes:
        name: A name in the catalogue, or with `file` the name of the new bundle.
        file: A file on the disk; None to download.
        url: The address to download from; None for that of the catalogue.
        sha256: The expected SHA-256 of the file, from the operator.
        trust: Accept a file whose SHA-256 is not known, and record it.
        labels: The finding of each output, for a model that is not in the catalogue; empty to
            read them from the file.
        downloads: The folder for downloads.
    """

    name: str
    file: Path | None = None
    url: str | None = None
    sha256: str | None = None
    trust: bool = False
    labels: tuple[str, ...] = ()
    downloads: Path

    @property
    def entry(self) -> CatalogEntry | None:
        """The entry of the catalogue, or None for a model of one's own."""
        return CATALOG.get(self.name)


def obtain(source: Source, progress: Progress | None = None) -> tuple[bytes, Upstream]:
    """Return the content of the checkpoint and how it was verified.

    Raises:
        BundleError: Nothing vouches for the file, or it is not the expected one.
        DownloadError: The download failed.
    """
    verified = _verification(source)
    sha256, size = _expected(source)
    entry, file = source.entry, source.file
    if file is None and entry is not None:
        file = source.downloads / entry.file_name
        download(source.url or entry.url, file, sha256=sha256, size=size, progress=progress)
    if file is None or not file.is_file():
        raise BundleError(f"there is no file {file}")
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 not in (None, found):
        raise BundleError(f"the file has SHA-256 {found}, not {sha256}: it is not used")
    if source.file is None:
        file.unlink()
    return content, Upstream(file.name, found, len(content), verified)


def _verification(source: Source) -> Verified:
    """Return how the file is verified. Raises BundleError if it would not be verified at all."""
    entry = source.entry
    if source.name == PHANTOM or not re.match(NAME_PATTERN, source.name):
        raise BundleError(f"{source.name} is not a name for a prepared model")
    if entry is None and source.file is None:
        known = ", ".join(CATALOG)
        raise BundleError(f"{source.name} is not in the catalogue ({known}): give --from FILE")
    if entry is not None and source.labels:
        raise BundleError(f"the findings of {source.name} are known: --labels is not accepted")
    if entry is not None and entry.sha256 is not None:
        return "known"
    if source.sha256 is not None:
        return "given"
    if entry is None:
        return "local-file"
    if not source.trust:
        raise BundleError(
            f"no SHA-256 of {entry.file_name} is known: give --sha256 HEX if you have it from a"
            " source that you trust, or --trust-download to accept and record what is downloaded"
        )
    return "trusted-download" if source.file is None else "local-file"


def _expected(source: Source) -> tuple[str | None, int | None]:
    """Return SHA-256 and size that the file must have, where known."""
    entry = source.entry
    given = source.sha256.lower() if source.sha256 else None
    if entry is None or entry.sha256 is None:
        return given, None
    if given not in (None, entry.sha256):
        raise BundleError(f"--sha256 is not the known hash of {source.name}")
    return entry.sha256, entry.bytes
