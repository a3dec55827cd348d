import contextlib
import http.server
import io
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from jaxasr import fetch
from jaxasr.data.audio import SoundSource
from jaxasr.data.features import FeatureSource
from jaxasr.errors import ConfigError, DataError


def wav(seconds: float = 0.1) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(round(seconds * 8000)), 8000, format="WAV")
    return file.getvalue()


def drip(answer) -> None:
    """A byte now and then: each comes in time."""
    with contextlib.suppress(OSError):
        answer.write(b"HTTP/1.0 200 OK\r\n\r\n")
        for byte in wav():
            answer.write(bytes([byte]))
            answer.flush()
            time.sleep(0.05)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self):
        body = b"<html>no sound</html>" if self.path == "/page.wav" else wav(601 if self.path == "/long.wav" else 0.1)
        port = self.server.server_address[1]
        leads = {"/moved.wav": "/a%20b.wav", "/away.wav": f"http://localhost:{port}/a.wav", "/file.wav": "file:///x"}
        leads |= {"/inside.wav": f"http://innocent.test:{port}/a.wav"}
        if self.path == "/long_way.wav":
            self.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: /a.wav\r\n\r\n")
        if self.path in ("/drip.wav", "/long_way.wav"):
            drip(self.wfile)
            return
        self.send_response(302 if self.path in leads else 404 if self.path == "/gone.wav" else 200)
        if self.path in leads:
            self.send_header("Location", leads[self.path])
        self.send_header("Content-Length", str(len(body) + 9 * (self.path == "/short.wav")))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def arrived(folder: pathlib.Path, *names: str, hosts: tuple[str, ...] = (), data: bytes = b"") -> dict[str, str]:
    return fetch.arrived(names, SoundSource(8000), folder, standard_input=io.BytesIO(data), hosts=hosts)


def test_standard_input_and_urls_become_files(server, tmp_path):
    urls = [f"http://{server}/a%20b.wav", f"HTTP://{server}/moved.wav?x=1#y"]
    files = arrived(tmp_path, "-", urls[0], "here.wav", urls[1].replace("?x=1#y", ""), hosts=(server,), data=wav())
    assert list(files) == ["-", urls[0], f"HTTP://{server}/moved.wav"]
    assert all(pathlib.Path(path).read_bytes() == wav() for path in files.values())


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("gone.wav", DataError, "HTTP Error 404"),
        ("short.wav", DataError, "bytes early; all of the file was expected"),
        ("long.wav", DataError, "601.0 s of sound; at most 600 s were expected"),
        ("page.wav", DataError, "begins like no known kind of sound file"),
        ("away.wav", ConfigError, r"localhost:\d+ is not allowed"),
        ("file.wav", DataError, "Redirection to url .file:///x. is not allowed"),
    ],
)
def test_what_cannot_be_had_is_named(server, tmp_path, path, error, message):
    with pytest.raises(error, match=f"^.*{server}/{path}.*{message}"):
        arrived(tmp_path, f"http://{server}/{path}", hosts=(server,))


def test_no_host_is_allowed_by_itself(server, tmp_path):
    for hosts in ((), ("example.org",), (server.split(":")[0],)):
        with pytest.raises(ConfigError, match=f"^http://{server}/a.wav: {server} is not allowed; "):
            arrived(tmp_path, f"http://{server}/a.wav", hosts=hosts)
    with pytest.raises(ConfigError, match="is not allowed"):
        arrived(tmp_path, f"http://{server}@example.org/a.wav", hosts=(server,))
    with pytest.raises(DataError, match=r"^http://\[::1/a.wav: .*; check the URL"):
        arrived(tmp_path, "http://[::1/a.wav", hosts=(server,))
    assert list(tmp_path.iterdir()) == []


def test_size_and_silence_have_limits(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "MOST_BYTES", 100)
    with pytest.raises(DataError, match="more than 100 bytes; a smaller file was expected"):
        arrived(tmp_path, f"http://{server}/a.wav", hosts=(server,))
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.1)
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DataError, match="timed out; an answer"):
            arrived(tmp_path, f"http://{host}/a.wav", hosts=(host,))


def test_all_of_it_has_to_come_in_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "MOST_SECONDS", 0.3)
    began = time.perf_counter()
    with pytest.raises(DataError, match=r"drip.wav: not all of it after 0.3 s; an answer"):
        arrived(tmp_path, f"http://{server}/drip.wav", hosts=(server,))
    assert time.perf_counter() - began < 2.0


def test_what_comes_with_a_redirection_is_not_read(server, tmp_path):
    began = time.perf_counter()
    assert arrived(tmp_path, f"http://{server}/long_way.wav", hosts=(server,))
    assert time.perf_counter() - began < 2.0


PRIVATE = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%1", "fc00::1",
    "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "2002:a00:1::",
    "2001:db8::1", "::127.0.0.1", "fec0::1", "2001:0:7f00:1::1", "64:ff9b:1::7f00:1",
]  # fmt: skip


def names(monkeypatch, *answers: list[str]) -> list[str]:
    """Lets every name that is looked up lead to these addresses, in turn; returns the names as they come."""
    asked, answers = [], iter(answers)

    def looked_up(host, port, **_):
        asked.append(host)
        return [(socket.AF_INET6 if ":" in a else socket.AF_INET, 1, 6, "", (a, port)) for a in next(answers)]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    return asked


@pytest.mark.parametrize("address", PRIVATE)
def test_no_name_leads_to_a_private_address(tmp_path, monkeypatch, address):
    for addresses in ([address], ["93.184.216.34", address]):
        names(monkeypatch, addresses)
        with pytest.raises(ConfigError, match=r"^innocent.test: its address is .*, of a private network; "):
            arrived(tmp_path, "http://innocent.test/a.wav", hosts=("innocent.test",))


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1", "017700000001"])
def test_no_other_spelling_of_this_computer_is_its_number(server, tmp_path, host):
    host = f"{host}:{server.split(':')[1]}"
    with pytest.raises(ConfigError, match="of a private network"):
        arrived(tmp_path, f"http://{host}/a.wav", hosts=(host,))


def test_no_redirection_leads_to_a_private_address(server, tmp_path, monkeypatch):
    hosts = (server, f"innocent.test:{server.split(':')[1]}")
    asked = names(monkeypatch, ["127.0.0.1"], ["127.0.0.1"])
    with pytest.raises(ConfigError, match=r"^innocent.test: its address is 127.0.0.1"):
        arrived(tmp_path, f"http://{server}/inside.wav", hosts=hosts)
    assert asked == ["127.0.0.1", "innocent.test"]


def test_a_name_is_looked_up_once(tmp_path, monkeypatch):
    """What was looked at is what is connected to, whatever the name leads to the next time."""
    tried = []
    asked = names(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])

    def refuse(_, address):
        tried.append(address)
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(DataError, match=r"refused.*; an answer"):
        arrived(tmp_path, "http://innocent.test/a.wav", hosts=("innocent.test",))
    assert (asked, [address[0] for address in tried]) == (["innocent.test"], ["93.184.216.34"])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="https: no openssl to make a certificate with")
def test_https_is_checked(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj"]
    make += ["/CN=a", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.handle_error = lambda *_: None
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{httpd.server_address[1]}"
        with pytest.raises(DataError, match=r"a.wav: .*certificate verify failed.*; an answer"):
            arrived(tmp_path, f"https://{host}/a.wav", hosts=(host,))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        [path] = arrived(tmp_path, f"https://{host}/a.wav", hosts=(host,)).values()
        assert pathlib.Path(path).read_bytes() == wav()
        monkeypatch.setattr(fetch, "MOST_SECONDS", 0.3)
        with pytest.raises(DataError, match="not all of it after"):
            arrived(tmp_path, f"https://{host}/drip.wav", hosts=(host,))
        httpd.shutdown()


def test_no_proxy_is_asked(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert arrived(tmp_path, f"http://{server}/a.wav", hosts=(server,))


def test_what_is_no_sound(tmp_path):
    for data, came in (
        (b"", "begins like no"),
        (b"no sound", "begins like no"),
        (b"fLaC", "cannot be decoded"),
    ):
        with pytest.raises(DataError, match=f"^-: {came}.*; "):
            arrived(tmp_path, "-", data=data)
    with pytest.raises(DataError, match=r"^-: '-'; --frontend=features reads"):
        fetch.arrived(["-"], FeatureSource(16, 100), tmp_path, standard_input=io.BytesIO(), hosts=())
