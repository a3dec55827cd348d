import contextlib
import http.server
import io
import pathlib
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from jaxasr import fetch
from jaxasr.data.audio import SoundSource
from jaxasr.data.features import FeatureSource
from jaxasr.errors import ConfigError, DataError


def wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(800), 8000, format="WAV")
    return file.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self):
        body = b"<html>no sound</html>" if self.path == "/page.wav" else wav()
        port = self.server.server_address[1]
        leads = {"/moved.wav": "/a%20b.wav", "/away.wav": f"http://localhost:{port}/a.wav", "/file.wav": "file:///x"}
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
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd, pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1,localhost")
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
        ("page.wav", DataError, "cannot be decoded"),
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


def test_what_is_no_sound(tmp_path):
    for data in (b"", b"no sound"):
        with pytest.raises(DataError, match=r"^-: cannot be decoded \(.*\); a sound file"):
            arrived(tmp_path, "-", data=data)
    with pytest.raises(DataError, match=r"^-: '-'; --frontend=features reads"):
        fetch.arrived(["-"], FeatureSource(16, 100), tmp_path, standard_input=io.BytesIO(), hosts=())
