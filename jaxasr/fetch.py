"""Sound that is no file yet: from standard input, and from hosts that are allowed, into files."""

import contextlib
import functools
import http.client
import ipaddress
import math
import pathlib
import shutil
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection, Sequence
from typing import IO, Any, BinaryIO

from jaxasr.data.source import MAX_AUDIO_SECONDS, FileSource, check_seconds
from jaxasr.data.utterance import check_kind
from jaxasr.errors import ConfigError, DataError, JaxasrError

STANDARD_INPUT = "-"
MOST_BYTES = 4 << 30
"""Of one URL."""
TIMEOUT_SECONDS, MOST_SECONDS = 30.0, 600.0
"""For an answer, and for what follows it each time; and for all of it."""
_BLOCK = 1 << 16


def is_url(name: str) -> bool:
    """Whether the name is a URL that sound may come from.

    >>> is_url("https://example.org/a.wav")
    True
    """
    return name.lower().startswith(("http://", "https://"))


def id_of(name: str) -> str:
    """Of what is on standard input, or at a URL: the last part of its path without what stands behind the dot.

    >>> id_of("https://example.org/sounds/a.wav")
    'a'
    """
    if name == STANDARD_INPUT:
        return name
    url = urllib.parse.urlsplit(name)
    return pathlib.PurePosixPath(urllib.parse.unquote(url.path)).stem or url.netloc


def arrived(
    names: Sequence[str],
    source: FileSource,
    folder: pathlib.Path,
    *,
    standard_input: BinaryIO,
    hosts: Collection[str],
    max_seconds: float = MAX_AUDIO_SECONDS,
) -> dict[str, str]:
    """For every name that is `-` or a URL the file in `folder` that now holds its sound.

    Args:
      hosts: those that URLs may lead to, such as example.org or 127.0.0.1:8000.
      max_seconds: of sound from a URL.

    Raises:
      ConfigError: a URL leads elsewhere, or to a private address that is not named by its number.
      DataError: it cannot be had, is no sound, or too much of it.
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
            header = source.info(str(path))
            check_seconds(str(path), source.seconds(header), max_seconds if is_url(name) else math.inf)
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
    # No other handlers: none for file:, ftp: and data:, and no proxy, which would look names up itself.
    opener, line = urllib.request.OpenerDirector(), _Line()
    for handler in (
        _Http(line),
        _Https(line),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(hosts),
    ):
        opener.add_handler(handler)
    try:
        _check(url, hosts)
        with line, contextlib.closing(opener.open(url, timeout=TIMEOUT_SECONDS)) as answer, path.open("wb") as file:
            copy(url, answer, file)
            if line.cut:  # which looks like the end of an answer that did not say how long it is
                raise TimeoutError
    except JaxasrError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a URL that is none
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # the answer, which it keeps
        why = f"not all of it after {MOST_SECONDS:g} s" if line.cut else error or type(error).__name__
        raise DataError(
            f"{url}: {why}; an answer with a sound file was expected; check the URL, or download it and name the file."
        ) from error


class _Line:
    """The connection that a download goes through now; it is cut when the time is up, whatever it waits for."""

    def __init__(self) -> None:
        self.cut = False
        self._socket: socket.socket | None = None
        self._clock = threading.Timer(MOST_SECONDS, self._end)
        self._clock.daemon = True

    def __enter__(self) -> None:
        self._clock.start()

    def __exit__(self, *_: object) -> None:
        self._clock.cancel()
        self._socket = None

    def through(self, new: socket.socket) -> None:
        self._socket = new
        if self.cut:
            self._end()

    def _end(self) -> None:
        self.cut = True
        with contextlib.suppress(OSError):
            if self._socket is not None:
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # of TLS too, without its farewell


class _Connection(http.client.HTTPConnection):
    """To an address that was looked at: names are looked up once."""

    def __init__(self, host: str, *, line: _Line, **options: Any):
        super().__init__(host, **options)
        self._line = line

    def connect(self) -> None:
        self.sock = connected(self.host, self.port, self.timeout)
        self._line.through(self.sock)


class _SafeConnection(_Connection):
    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        super().connect()
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
        self._line.through(self.sock)
        self.sock.do_handshake()


class _Http(urllib.request.HTTPHandler):
    def __init__(self, line: _Line):
        super().__init__()
        self._line = line

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(functools.partial(_Connection, line=self._line), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, line: _Line):
        super().__init__()
        self._line = line

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(functools.partial(_SafeConnection, line=self._line), req)


def connected(host: str, port: int, timeout: float | None) -> socket.socket:
    """A connection to the first of the host's addresses that answers.

    Raises:
      ConfigError: one of them is of a private network, and the host is no number that a user could have allowed.
    """
    found = [(family, address) for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    private = [str(address[0]) for _, address in found if not _is_public(str(address[0]))]
    if private and not _is_address(host):
        raise ConfigError(
            f"{host}: its address is {private[0]}, of a private network; a public one was expected; add "
            f"{private[0]}:{port} to --allow_url, and give that as the host, if you trust it."
        )
    fault: OSError | None = None
    for family, address in found:
        new = socket.socket(family, socket.SOCK_STREAM)
        try:
            new.settimeout(timeout)
            new.connect(address)
        except OSError as error:
            new.close()
            fault = error
            continue
        return new
    raise fault or OSError("no address")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_UNICAST, _NAT64 = ipaddress.IPv6Network("2000::/3"), ipaddress.IPv6Network("64:ff9b::/96")


def _is_public(address: str) -> bool:
    """Whether it is of the internet, and so is an address of version 4 that is in it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        translated = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        ip = ip.ipv4_mapped or ip.sixtofour or translated or ip
    return ip.is_global and not ip.is_multicast and (ip.version == 4 or ip in _UNICAST)


def copy(url: str, answer: Any, file: IO[bytes]) -> None:
    """Writes all of the answer.

    Raises:
      DataError: it ends early, or is too long.
    """
    size = 0
    while size + (answer.length or 0) <= MOST_BYTES and (block := answer.read1(_BLOCK)):
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
        fp.close()  # or all that comes with the redirection would be read, however much
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(url: str, hosts: Collection[str], why: str = "") -> None:
    """Raises ConfigError where it does not lead to one of the hosts by http or https."""
    host = urllib.parse.urlsplit(url).netloc.lower()
    if not is_url(url) or host not in {name.lower() for name in hosts}:
        raise ConfigError(
            f"{url}{why}: {host or 'no host'} is not allowed; http:// or https:// and one of --allow_url "
            f"({', '.join(hosts) or 'none'}) were expected; add the host to --allow_url if you trust it."
        )
