"""Prepare: an upstream file -> bundle. The only place that reads pickles, and runs none."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cxr_server.bundles.load import Bundle
from cxr_server.bundles.manifest import NAME_PATTERN, BundleError, Upstream, Verified
from cxr_server.bundles.store import PHANTOM
from cxr_server.convert.catalog import CATALOG
from cxr_server.convert.download import Progress, download
from cxr_server.convert.inert_pickle import PickleRefused
from cxr_server.convert.parity import TOLERANCE, check_parity
from cxr_server.convert.unpickle import SavedModel, read_saved_model
from cxr_server.convert.upstream import bundle_state, describe, upstream_model
from cxr_server.convert.write import write_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the upstream file comes from, and what is known of it.

    Attributes:
        name: A name in the catalogue, or the new bundle's name with `file`.
        file: A file on the disk; None to download.
        url: Where to download from; None for the catalogue's address.
        sha256: What the file's SHA-256 must be, from the operator.
        trust: Take a file of which no SHA-256 is known, and record what it was.
        downloads: The folder for downloads.
    """

    name: str
    file: Path | None = None
    url: str | None = None
    sha256: str | None = None
    trust: bool = False
    downloads: Path


def prepare(
    source: Source,
    output: Path,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
) -> Path:
    """Make the bundle `output` of a model that torchxrayvision's authors, or you, trained.

    Raises:
        BundleError: The file is not what it should be; nothing is left in `output`.
        DownloadError: The file could not be had.
    """
    verified = _verification(source)
    file = _obtain(source, progress)
    content = file.read_bytes()
    upstream = Upstream(file.name, _check_content(source, content), len(content), verified)
    say(f"{file.name}: {len(content):,} bytes, SHA-256 {upstream.sha256} ({verified})")
    model = upstream_model(source.name, _read(content))
    del content
    say(f"read without running it: {len(model.kept)} findings of {len(model.labels)} outputs")
    for notice in model.notices:
        say(notice)

    def check(bundle: Bundle) -> None:
        for engine, difference in check_parity(bundle, model).items():
            say(
                f"{engine}: equal to torchxrayvision's own forward pass to {difference:.1e}"
                f" in every score (allowed: {TOLERANCE:.0e})"
            )

    write_bundle(output, bundle_state(model), describe(source.name, model, upstream), check)
    if source.file is None:
        file.unlink()
    return output


def _verification(source: Source) -> Verified:
    """Return how the file will have been judged; refuse what would not be judged at all."""
    entry = CATALOG.get(source.name)
    if source.name == PHANTOM or not re.match(NAME_PATTERN, source.name):
        raise BundleError(f"{source.name} is not a name for a prepared model")
    if entry is None and source.file is None:
        known = ", ".join(CATALOG)
        raise BundleError(f"{source.name} is not in the catalogue ({known}): give --from FILE")
    if entry is not None and entry.sha256 is not None:
        return "known"
    if source.sha256 is not None:
        return "given"
    if entry is None:
        return "local-file"
    if not source.trust:
        raise BundleError(
            f"no SHA-256 of {entry.file_name} is known: give --sha256 HEX if you have it from a"
            " source that you trust, or --trust-download to record the hash of what comes"
        )
    return "trusted-download" if source.file is None else "local-file"


def _expected(source: Source) -> tuple[str | None, int | None]:
    entry = CATALOG.get(source.name)
    given = source.sha256.lower() if source.sha256 else None
    if entry is None or entry.sha256 is None:
        return given, None
    if given not in (None, entry.sha256):
        raise BundleError(f"--sha256 is not the known hash of {source.name}")
    return entry.sha256, entry.bytes


def _obtain(source: Source, progress: Progress | None) -> Path:
    if source.file is not None:
        if not source.file.is_file():
            raise BundleError(f"there is no file {source.file}")
        return source.file
    entry = CATALOG[source.name]
    sha256, size = _expected(source)
    destination = source.downloads / entry.file_name
    download(source.url or entry.url, destination, sha256=sha256, size=size, progress=progress)
    return destination


def _check_content(source: Source, content: bytes) -> str:
    sha256, _ = _expected(source)
    found = hashlib.sha256(content).hexdigest()
    if sha256 not in (None, found):
        raise BundleError(f"the file has SHA-256 {found}, not {sha256}: it is not used")
    return found


def _read(content: bytes) -> SavedModel:
    try:
        return read_saved_model(content)
    except PickleRefused as error:
        raise BundleError(f"the file is not read: {error}") from None
