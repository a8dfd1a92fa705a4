"""Source: name of a model or a file -> verified bytes of the checkpoint. Next: checkpoint."""

import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cxr_server.bundles.fields import NAME_PATTERN
from cxr_server.bundles.manifest import BundleError, Upstream, Verified
from cxr_server.bundles.store import PHANTOM
from cxr_server.convert.catalog import CATALOG, CatalogEntry
from cxr_server.convert.download import DownloadError, Progress, download


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The origin of a checkpoint, and how to verify it."""

    name: str  # in the catalogue, or with `file` the name of the new bundle
    file: Path | None = None  # None to download
    url: str | None = None  # None for the address in the catalogue
    sha256: str | None = None  # expected by the operator
    trust: bool = False  # accept a file whose SHA-256 is not known, and record it
    labels: tuple[str, ...] = ()  # for the operator's own model; empty to read them from the file
    downloads: Path  # the folder for downloads

    @property
    def entry(self) -> CatalogEntry | None:
        """The entry of the catalogue, or None for a model of one's own."""
        return CATALOG.get(self.name)

    @property
    def download_file(self) -> Path | None:
        """Where the file of the catalogue is downloaded to, or None if it is not downloaded."""
        if self.file is not None or self.entry is None:
            return None
        return self.downloads / self.entry.file_name


def obtain(source: Source, progress: Progress | None = None) -> tuple[bytes, Upstream]:
    """Return the checkpoint and how it was verified. Raises BundleError and DownloadError."""
    name, entry, file = source.name, source.entry, source.file
    if name == PHANTOM or not re.match(NAME_PATTERN, name):
        raise BundleError(f"{name} is not a name for a prepared model")
    if entry is None and file is None:
        close = difflib.get_close_matches(name, CATALOG, 1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(CATALOG)}."
        raise BundleError(
            f"{name} is not in the catalogue; {hint} A model of your own needs --from FILE"
        )
    if entry is not None and source.labels:
        raise BundleError(f"the findings of {name} are known: --labels is not accepted")
    sha256 = source.sha256.lower() if source.sha256 else None
    verified: Verified = "trusted-download" if file is None else "local-file"
    if entry is not None and entry.sha256 is not None:
        if sha256 not in (None, entry.sha256):
            raise BundleError(f"--sha256 is not the known hash of {name}")
        sha256, verified = entry.sha256, "known"
    elif sha256 is not None:
        verified = "given"
    elif entry is not None and not source.trust:
        raise BundleError(
            f"no SHA-256 of {entry.file_name} is known: give --sha256 HEX if you have it from a"
            " source that you trust, or --trust-download to accept and record what is downloaded"
        )
    if entry is not None and (downloaded := source.download_file):
        file = downloaded
        url, size = source.url or entry.url, entry.bytes
        try:
            download(url, file, sha256=sha256, size_bytes=size, progress=progress)
        except DownloadError as error:
            raise DownloadError(
                f"{error}; a file that was downloaded elsewhere is taken with --from FILE"
            ) from error
    if file is None or not file.is_file():
        raise BundleError(f"there is no file {file}")
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 not in (None, found):
        raise BundleError(f"the file has SHA-256 {found}, not {sha256}: it is not used")
    return content, Upstream(file.name, found, len(content), verified)
