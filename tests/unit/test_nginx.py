"""The proxy of docs/deploy, as it stands there: what it lets through to the API, and what it says of whom."""

from __future__ import annotations

import datetime
import os
import pwd
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import CHECKOUT, eventually

CONFIGURATION = CHECKOUT / "docs" / "deploy" / "nginx" / "sluice.conf"
NAME = "sluice.example.com"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")

pytestmark = [
    pytest.mark.skipif(
        NGINX is None and "CI" not in os.environ, reason="nginx is not here: python3 -m cli.bootstrap --dev installs it"
    ),
    pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning"),
]


class Upstream(BaseHTTPRequestHandler):
    """In the API's place: tells what reached it, and holds a stream open as the API does."""

    protocol_version = "HTTP/1.1"
    goes_on = threading.Event()

    def do_GET(self) -> None:
        if self.path.endswith("/events"):
            self._stream()
            return
        self._answer(f"{self.headers['Host']} {self.headers['X-Forwarded-For']}".encode())

    def do_POST(self) -> None:
        self._answer(str(len(self.rfile.read(int(self.headers["Content-Length"])))).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("X-Accel-Buffering", "no")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"event: task.queued\n\n")
        self.wfile.flush()
        Upstream.goes_on.wait(30)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def certificate(folder: Path) -> tuple[Path, Path]:
    """One that nobody but this test trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "fullchain.pem", folder / "privkey.pem"
    chain.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    unlocked = serialization.NoEncryption()
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unlocked)
    )
    return chain, private


def ask(url: str, method: str = "GET", **how: object) -> requests.Response:
    headers = {"Host": NAME, "X-Forwarded-For": "192.0.2.1"}
    options = {"headers": headers, "verify": False, "timeout": 20, "allow_redirects": False}
    return requests.request(method, url, **{**options, **how})  # type: ignore[arg-type]


def is_alive(url: str) -> bool:
    try:
        return ask(f"{url}/livez").ok
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Its addresses by TLS and without. Of the page's file only ports, paths and the upstream are changed."""
    folder = tmp_path_factory.mktemp("nginx")
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with create_server(("127.0.0.1", 0)) as one, create_server(("127.0.0.1", 0)) as other:
        secure, plain = one.getsockname()[1], other.getsockname()[1]
    chain, private = certificate(folder)
    site = CONFIGURATION.read_text(encoding="utf-8")
    for old, new in {
        "server 127.0.0.1:5000;": f"server 127.0.0.1:{upstream.server_address[1]};",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ssl": f"listen 127.0.0.1:{secure} ssl",
        "/etc/ssl/sluice/fullchain.pem": str(chain),
        "/etc/ssl/sluice/privkey.pem": str(private),
    }.items():
        assert site.count(old) == 1, old
        site = site.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    kept = "".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    who = pwd.getpwuid(os.getuid()).pw_name
    aside = f"user {who}; daemon off; pid {folder}/pid; error_log stderr; events {{}}"
    (folder / "nginx.conf").write_text(f"{aside} http {{ access_log off; {kept}\n{site} }}")
    with subprocess.Popen([str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf")]) as process:
        try:
            eventually(lambda: is_alive(f"https://127.0.0.1:{secure}"), within=30, what="nginx")
            yield f"https://127.0.0.1:{secure}", f"http://127.0.0.1:{plain}"
        finally:
            Upstream.goes_on.set()
            process.terminate()
            upstream.shutdown()


def test_everybody_comes_by_tls(front: tuple[str, str]) -> None:
    secure, plain = front
    moved = ask(f"{plain}/api/tasks?limit=1")
    assert (moved.status_code, moved.headers["Location"]) == (301, f"https://{NAME}/api/tasks?limit=1")
    assert "max-age=" in ask(f"{secure}/livez").headers["Strict-Transport-Security"]


def test_the_api_learns_its_name_and_whom_nginx_sees(front: tuple[str, str]) -> None:
    """And not whom the client claims to speak for."""
    assert ask(f"{front[0]}/api/tasks").text == f"{NAME} 127.0.0.1"


def test_figures_are_not_for_the_world(front: tuple[str, str]) -> None:
    assert ask(f"{front[0]}/metrics").status_code == 404


def test_an_event_passes_before_its_stream_ends(front: tuple[str, str]) -> None:
    with ask(f"{front[0]}/api/tasks/one/events", stream=True) as stream:
        assert next(stream.iter_lines()) == b"event: task.queued"


def test_uploads_pass_up_to_their_bound(front: tuple[str, str]) -> None:
    assert ask(f"{front[0]}/api/files", "POST", data=b"x" * (2 << 20)).text == str(2 << 20)
    headers = {"Host": NAME, "Content-Length": str(300 << 20), "Expect": "100-continue"}
    assert ask(f"{front[0]}/api/files", "POST", data=b"", headers=headers).status_code == 413
