"""Servers whose certificate is not trusted, and servers that speak no TLS."""

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from targen.runtime.errors import UserError
from tests.support.commands import HTTPServer, Server
from tests.support.fake_model import FakeModel
from tests.support.faulty_server import run


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[str]:
    """The address of a server with a certificate of its own."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj"]
    subprocess.run([*make, "/CN=localhost", *files], check=True, capture_output=True)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def test_a_certificate_that_is_not_trusted_is_named_and_how_to_trust_it(tmp_path: Path, self_signed: str) -> None:
    with pytest.raises(
        UserError, match=r"whose certificate cannot be verified \(self.signed certificate\).* SSL_CERT_FILE"
    ):
        run(tmp_path / "run", Server(self_signed))


def test_https_where_the_server_speaks_http_is_named(tmp_path: Path, serve) -> None:
    address = serve(FakeModel()).url.replace("http:", "https:")
    with pytest.raises(UserError, match=r"where TLS fails \(.*http:// for one that does not"):
        run(tmp_path, Server(address))
