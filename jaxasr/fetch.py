"""Sound that is no file yet: from standard input, and from hosts that are allowed, into files."""

import contextlib
import http.client
import pathlib
import shutil
import urllib.parse
import urllib.request
from collections.abc import Collection, Sequence
from typing import IO, Any, BinaryIO

from jaxasr.data.source import FileSource
from jaxasr.data.utterance import check_kind
from jaxasr.errors import ConfigError, DataError, JaxasrError

STANDARD_INPUT = "-"
MOST_BYTES = 4 << 30
"""Of one URL."""
TIMEOUT_SECONDS = 30.0
"""For an answer, and for what follows it each time."""
_BLOCK = 1 << 20


def is_url(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def id_of(name: str) -> str:
    """Of what is on standard input, or at a URL: the last part of its path without what stands behind the dot."""
    if name == STANDARD_INPUT:
        return name
    url = urllib.parse.urlsplit(name)
    return pathlib.PurePosixPath(urllib.parse.unquote(url.path)).stem or url.netloc


def arrived(
    names: Sequence[str], source: FileSource, folder: pathlib.Path, *, standard_input: BinaryIO, hosts: Collection[str]
) -> dict[str, str]:
    """For every name that is `-` or a URL the file in `folder` that now holds its sound.

    Args:
      hosts: those that URLs may lead to, such as example.org or localhost:8000.

    Raises:
      ConfigError: a URL leads elsewhere.
      DataError: it cannot be had, or is no sound.
    """
    files = {}
    for number, name in enumerate(dict.fromkeys(names)):
        if name != STANDARD_INPUT and not is_url(name):
            continue
        check_kind(name, name, source.kind)
        path = folder / str(number)
        if name == STANDARD_INPUT:
            _keep(standard_input, path)
        else:
            _download(name, path, hosts)
        try:
            source.info(str(path))
        except DataError as fault:
            error = str(fault).removeprefix(f"{path}: ")
            raise DataError(f"{name}: {error}") from fault
        files[name] = str(path)
    return files


def _keep(standard_input: BinaryIO, path: pathlib.Path) -> None:
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(standard_input, file)
    except OSError as error:
        raise DataError(
            f"{STANDARD_INPUT}: {error.strerror}; sound on standard input, and room for all of it in {path.parent}, "
            "were expected; free some, or name a file."
        ) from error


def _download(url: str, path: pathlib.Path, hosts: Collection[str]) -> None:
    # No other handlers: none for file:, ftp: and data:.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(hosts),
    ):
        opener.add_handler(handler)
    try:
        _check(url, hosts)
        with contextlib.closing(opener.open(url, timeout=TIMEOUT_SECONDS)) as answer, path.open("wb") as file:
            copy(url, answer, file)
    except JaxasrError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a URL that is none
        raise DataError(
            f"{url}: {error or type(error).__name__}; an answer with a sound file was expected; check the URL, or "
            "download it and name the file."
        ) from error


def copy(url: str, answer: Any, file: IO[bytes]) -> None:
    """Writes all of the answer.

    Raises:
      DataError: it ends early, or is too long.
    """
    size = 0
    while size + (answer.length or 0) <= MOST_BYTES and (block := answer.read(_BLOCK)):
        size += len(block)
        file.write(block)
    if size + (answer.length or 0) > MOST_BYTES:
        raise DataError(
            f"{url}: more than {MOST_BYTES} bytes; a smaller file was expected; download it and name the file."
        )
    if answer.length:  # what http.client still waits for
        raise DataError(f"{url}: ends {answer.length} bytes early; all of the file was expected; try again.")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Leads to allowed hosts alone."""

    def __init__(self, hosts: Collection[str]):
        self._hosts = hosts

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _check(newurl, self._hosts, f" (where {req.full_url} leads)")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(url: str, hosts: Collection[str], why: str = "") -> None:
    """Raises ConfigError where it does not lead to one of the hosts by http or https."""
    host = urllib.parse.urlsplit(url).netloc.lower()
    if not is_url(url) or host not in {name.lower() for name in hosts}:
        raise ConfigError(
            f"{url}{why}: {host or 'no host'} is not allowed; http:// or https:// and one of --allow_url "
            f"({', '.join(hosts) or 'none'}) were expected; add the host to --allow_url if you trust it."
        )
