"""View: the command `view`, which serves a page on the findings of a model server."""

import argparse
import os
import socket
import ssl
import stat
import sys
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_client.address import is_loopback
from cxr_client.cli.connect import connect, server_of, tls_of
from cxr_client.cli.files import FileError, Job, os_message, search
from cxr_client.cli.sniff import HEAD_BYTES, IMAGES, kind_of
from cxr_client.cli.status import EXIT_OK
from cxr_client.cli.text import printable
from cxr_client.cli.usage import UsageError

if TYPE_CHECKING:
    from cxr_client.viewer.films import Film

_EXTRA = {"anyio", "click", "h11", "starlette", "uvicorn"}
_ANY_ADDRESS = {"0.0.0.0", "::"}


async def view(arguments: argparse.Namespace) -> int:
    """Serve the page until a signal ends it."""
    try:
        from cxr_client.viewer.app import BACKGROUND, create_app
        from cxr_client.viewer.films import Films
        from cxr_client.viewer.relay import Relay
        from cxr_client.viewer.serve import listen, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise UsageError("the page needs an extra: pip install './client[viewer]'") from None
    _check(arguments)
    folder: Path | None = arguments.folder
    follow: bool = arguments.follow
    films = Films(None if folder is None else partial(_films_in, folder, follow=follow))
    async with (
        connect(_with(arguments, jobs=arguments.jobs + BACKGROUND)) as images,
        # The page asks for the state again and again.
        connect(_with(arguments, jobs=1, max_attempts=1)) as status,
    ):
        relay = Relay(
            images,
            status,
            address=server_of(arguments),
            tls=tls_of(arguments) is not None,
            max_bytes=arguments.max_request_mib * 2**20,
        )
        hosts = [arguments.host, *arguments.allowed_host]
        app = create_app(relay, films, slots=arguments.jobs, allowed_hosts=hosts)
        try:
            listener = listen(arguments.host, arguments.port)
        except OSError as error:
            told = f"--host {arguments.host} --port {arguments.port}"
            raise UsageError(f"{told}: {os_message(error)}") from None
        films.refresh()
        started = partial(_announce, arguments, listener)
        await serve(app, listener, started, cert=arguments.https_cert, key=arguments.https_key)
    return EXIT_OK


def _with(arguments: argparse.Namespace, **changed: int) -> argparse.Namespace:
    return argparse.Namespace(**(vars(arguments) | changed))


def _check(arguments: argparse.Namespace) -> None:
    """Check the options of the page.

    Raises:
        UsageError: The page would be served in plaintext to other machines, its certificate cannot
            be used, or there is no such folder.
    """
    cert, key = arguments.https_cert, arguments.https_key
    for option, given, missing in (("cert", cert, key), ("key", key, cert)):
        if given and not missing:
            other = "key" if option == "cert" else "cert"
            raise UsageError(f"--https-{option} needs --https-{other} as well")
    if cert:
        _check_certificate(cert, key)
    elif not (arguments.allow_http or is_loopback(_authority(arguments.host, 1))):
        raise UsageError(
            f"--host {arguments.host} can be reached from other machines, in plaintext: give"
            " --https-cert and --https-key, or --allow-http where the network itself is trusted"
        )
    if arguments.folder:
        _check_folder(arguments.folder)


def _check_folder(folder: Path) -> None:
    try:
        if stat.S_ISDIR(folder.stat().st_mode):
            os.scandir(folder).close()
    except OSError as error:
        raise UsageError(f"{folder}: {os_message(error)}") from None


def _check_certificate(cert: Path, key: Path) -> None:
    try:
        # A key with a passphrase would be asked for on the terminal.
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError:
        problem = "are not a PEM certificate and its key, or the key has a passphrase"
        raise UsageError(f"--https-cert {cert} and --https-key {key} {problem}") from None
    except OSError as error:
        raise UsageError(f"--https-cert {cert}, --https-key {key}: {os_message(error)}") from None


def _films_in(folder: Path, *, follow: bool) -> "list[Film]":
    """Return the images in a folder, those that `cxr predict` finds, or say that there are none."""
    found = search([str(folder)], follow=follow, max_bytes=0)
    films = [film for job in found.jobs if (film := _film(job, folder))]
    if not films:
        _say_empty(found.skipped_text())
    return films


@lru_cache(1)  # The folder is searched again and again.
def _say_empty(skipped: str) -> None:
    told = "the folder has no DICOM, PNG or JPEG files"
    print(printable(f"cxr: {told}; skipped: {skipped or 0}"), file=sys.stderr, flush=True)


def _film(job: Job, folder: Path) -> "Film | None":
    from cxr_client.viewer.failures import Refusal
    from cxr_client.viewer.films import Film

    path = Path(job.name)
    try:
        facts = path.stat()
    except OSError:  # Gone already.
        return None

    def load(max_bytes: int) -> bytes:
        try:
            data = job.read(max_bytes)
        except FileError as error:
            raise Refusal(error.reason, error.message) from None
        # Whatever its name, only an image by content may leave the folder.
        if kind_of(data[:HEAD_BYTES]) not in IMAGES:
            raise Refusal("IMAGE_FORMAT_UNSUPPORTED", "The file is not DICOM, PNG or JPEG.")
        return data

    relative = path.name if path == folder else path.relative_to(folder).as_posix()
    # Names that are not UTF-8 have characters that JSON cannot hold.
    name = os.fsencode(relative).decode("utf-8", "replace")
    return Film(name, "folder", f"{facts.st_mtime_ns} {facts.st_size}", load)


def _announce(arguments: argparse.Namespace, listener: socket.socket) -> None:
    """Print the URL to standard output, and to whom it is open to standard error."""
    host = "localhost" if arguments.host in _ANY_ADDRESS else arguments.host
    scheme = "https" if arguments.https_cert else "http"
    print(f"{scheme}://{_authority(host, listener.getsockname()[1])}/", flush=True)
    reach = "this machine" if is_loopback(_authority(arguments.host, 1)) else "other machines too"
    told = f"asks {server_of(arguments)}; open to {reach}; for research use only; Ctrl-C ends it"
    print(printable(f"cxr: the page {told}"), file=sys.stderr, flush=True)


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
