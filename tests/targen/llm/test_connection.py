"""Addresses, proxies of the environment on loopback, certificates, and keys that no file may hold."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from targen.llm.backends.openai.connection import proxy_for, route_to, trusted_certificates
from targen.runtime.credentials import without_credentials
from targen.runtime.errors import UserError
from tests.support.commands import Server, command, files, reply, settings
from tests.support.fake_model import FakeModel
from tests.support.faulty_server import completion, overrides, run

AZURE = "http://a/openai/deployments/gpt4o"


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://a:8000/v1", "http://a:8000/v1/chat/completions"),
        ("http://a/v1/", "http://a/v1/chat/completions"),
        ("http://a", "http://a/chat/completions"),
        (f"{AZURE}?api-version=2024-10-21", f"{AZURE}/chat/completions?api-version=2024-10-21"),
        (f"{AZURE}/?x=1&api-version=1", f"{AZURE}/chat/completions?x=1&api-version=1"),
        (f"{AZURE}/chat/completions?api-version=1", f"{AZURE}/chat/completions?api-version=1"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1/chat/completions"),
    ],
)
def test_the_path_goes_before_the_query(base_url: str, url: str) -> None:
    assert route_to(base_url, None, {}).url == url


def test_a_key_goes_where_the_server_looks_for_it() -> None:
    assert route_to("http://a/v1", "k", {}).headers["Authorization"] == "Bearer k"
    azure = route_to(f"{AZURE}?api-version=1", "k", {}).headers
    assert azure["api-key"] == "k" and "Authorization" not in azure
    assert set(route_to("http://a/v1", None, {}).headers) == {"Content-Type"}


HTTP = {"HTTP_PROXY": "http://p:3128"}


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("http://a.b/v1", {}, None),
        ("http://a.b/v1", HTTP, "http://p:3128"),
        ("https://a.b/v1", HTTP, None),
        ("https://a.b/v1", {"https_proxy": "p:3128"}, "http://p:3128"),
        ("https://a.b/v1", {"HTTPS_PROXY": "https://p:3128/"}, "https://p:3128"),
        ("https://a.b/v1", HTTP | {"ALL_PROXY": "http://q:1"}, "http://q:1"),
        ("http://a.b/v1", HTTP | {"ALL_PROXY": "socks5://q:1"}, "http://p:3128"),
        ("http://a.b/v1", HTTP | {"http_proxy": "http://small:1"}, "http://small:1"),
        ("http://a.b/v1", HTTP | {"http_proxy": ""}, None),
        *((f"http://{host}:8000/v1", HTTP, None) for host in ("localhost", "127.0.0.1", "127.8.8.8", "[::1]", "LOCALHOST")),
        *(
            (f"http://{host}:8000/v1", HTTP | {"NO_PROXY": exceptions}, None)
            for host, exceptions in (
                ("a.b", "a.b"), ("a.b", "x, A.B"), ("x.a.b", "a.b"), ("x.a.b", ".a.b"), ("a.b", ".a.b"), ("x.a.b", "*.a.b"),
                ("a.b", "*"), ("a.b", "x,*"), ("a.b", "a.b:8000"), ("10.1.2.3", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3"),
                ("[fd00::1]", "fd00::/8"), ("[fd00::1]", "[fd00::1]:8000"), ("10.1.2.3", "10.1.2.3:8000"),
            )
        ),
        *(
            (f"http://{host}:8000/v1", HTTP | {"no_proxy": exceptions}, "http://p:3128")
            for host, exceptions in (
                ("a.b", ""), ("xa.b", "a.b"), ("a.b", "x.a.b"), ("a.b", "a.b:80"), ("11.1.2.3", "10.0.0.0/8"), ("a.b", "10.0.0.0/8"),
                ("a.b", ".,:,/"),
            )
        ),
    ],
)  # fmt: skip
def test_the_proxy_of_the_environment(url: str, environment: dict[str, str], proxy: str | None) -> None:
    route_proxy = proxy_for(url, environment)
    assert (route_proxy and route_proxy.url) == proxy


@pytest.mark.parametrize("address", ["socks5://me:secret@p:1", "http://", "http://p:x", "ftp://p"])
def test_a_proxy_that_cannot_be_used_is_one_line(address: str) -> None:
    with pytest.raises(
        UserError, match=r"^\$ALL_PROXY: got .*, expected http://host:port: .* add a.b to \$NO_PROXY.$"
    ) as caught:
        proxy_for("https://a.b/v1", {"ALL_PROXY": address})
    assert "secret" not in str(caught.value)
    assert proxy_for("http://localhost/v1", {"ALL_PROXY": address}) is None


def test_a_real_proxy_is_used_with_its_password_which_no_file_holds(tmp_path: Path, serve, monkeypatch, caplog) -> None:
    proxy, base_url, proxied = serve(FakeModel()), "http://llm.example:8000/v1", []
    proxy.misbehave = lambda number, handler: (
        proxied.append((handler.path, handler.headers.get("Proxy-Authorization"))) or False
    )
    monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://me:secretpw@").removesuffix("/v1"))
    caplog.set_level("INFO")
    run(tmp_path, Server(base_url))
    assert set(proxied) == {(f"{base_url}/chat/completions", "Basic bWU6c2VjcmV0cHc=")}
    assert f"is asked through the proxy {proxy.url.removesuffix('/v1')} of the environment" in caplog.text
    assert "secretpw" not in caplog.text and not any(b"secretpw" in data for data in files(tmp_path).values())
    local = serve(FakeModel())
    count = len(proxied)
    run(tmp_path / "local", local)
    assert len(proxied) == count and local.bodies


def test_a_proxy_that_lets_nothing_pass_is_named(tmp_path: Path, serve, monkeypatch) -> None:
    proxy = serve(FakeModel())
    where = proxy.url.removesuffix("/v1")
    monkeypatch.setenv("HTTP_PROXY", where)
    proxy.misbehave = lambda number, handler: reply(handler, 407, "who are you?") or True
    with pytest.raises(
        UserError, match=rf"the proxy {where} answers status 407: who are you\?, expected .* \$NO_PROXY"
    ):
        run(tmp_path / "a", Server("http://llm.example/v1"))
    monkeypatch.setenv("HTTPS_PROXY", where)  # which knows no CONNECT
    with pytest.raises(UserError, match=rf"where no server answers \(the proxy {where} answers status 501"):
        run(tmp_path / "b", Server("https://llm.example/v1"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"where no server answers \(the proxy http://127.0.0.1:9: "):
        run(tmp_path / "c", Server("http://llm.example/v1"))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, path = tmp_path / "key.pem", tmp_path / "certificates" / "llm.pem"
    path.parent.mkdir()
    arguments = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=llm.example"]
    arguments += ["-addext", "subjectAltName=DNS:llm.example,IP:127.0.0.1", "-keyout", str(key), "-out", str(path)]
    subprocess.run(arguments, check=True, capture_output=True)
    return path


@pytest.fixture
def tunnel(certificate: Path) -> Iterator[int]:
    """The port of a proxy for CONNECT; whatever it is asked for, it answers itself, with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.parents[1] / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            reply(self, 200, completion("{}"))

        def log_message(self, *_: object) -> None:
            pass

    def serve_one(connection: socket.socket) -> None:
        greeting = connection.recv(65536)
        assert greeting.startswith(b"CONNECT llm.example:443 ")
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            with context.wrap_socket(connection, server_side=True) as secure:
                Handler(secure, ("127.0.0.1", 0), None)  # type: ignore[arg-type]
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_tunnel_to_a_server_with_an_own_certificate(
    tmp_path: Path, certificate: Path, tunnel: int, monkeypatch, name: str, is_folder: bool
) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{tunnel}")
    server, short = Server("https://llm.example/v1"), ("generator.max_retries=0", "generator.concurrency=1")
    with pytest.raises(UserError, match="certificate"):
        run(tmp_path / "untrusted", server, *short)
    (certificate.parent / "README").write_text("no certificate")
    monkeypatch.setenv(name, str(certificate.parent if is_folder else certificate))
    with pytest.raises(UserError, match="no readable context in 9 answers"):  # the server says {} to everything
        run(tmp_path / "trusted", server, *short)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_certificates_that_cannot_be_read_are_one_line(tmp_path: Path, monkeypatch, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    for path in ("missing", "empty", "text"):
        with pytest.raises(
            UserError, match=rf"^\${name}: got {tmp_path / path}, which cannot be read \(.+\), expected a file or a"
        ):
            trusted_certificates({name: str(tmp_path / path)})
    monkeypatch.setenv(name, str(tmp_path / "missing"))
    done = command("targen.generate", *overrides(tmp_path / "run", Server("https://llm.example/v1")))
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and not (tmp_path / "run").exists()


URL = "http://me:secretpw@127.0.0.1:1/v1"


@pytest.mark.parametrize(
    "value",
    [
        URL,
        f"['{URL}',null]",
        "http://secretpw@127.0.0.1:1/v1",
        "'http://b/v1?api_key=secretpw'",
        "http://b/v1?x=1&key=secretpw",
    ],
)
def test_an_address_with_a_key_is_refused_and_shown_nowhere(tmp_path: Path, value: str) -> None:
    arguments = [*overrides(tmp_path / "run", Server(value)), "phases=[generate]"]
    for arguments_of_a_start in (arguments, [*arguments, "-m"]):
        done = command("targen.run", *arguments_of_a_start, cwd=tmp_path)
        assert done.returncode == 2 and "secretpw" not in done.stdout + done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert line.startswith("error: generator.base_url: got ") and "***" in line
    assert files(tmp_path) == {}


def test_an_address_with_a_key_in_a_file_of_settings_is_refused() -> None:
    with pytest.raises(UserError, match=r"got http://\*\*\*@127.0.0.1:1/v1, expected an address without"):
        settings("generator=openai", "generator.model=m", f"generator.base_url='{URL}'")


def test_addresses_without_a_key_stay_as_they_are() -> None:
    for text in (
        "https://a/v1?api-version=1",
        "https://api.x/accounts/1/ai/@cf/v1",
        "me@example.com",
        "http://a/key=1",
    ):
        assert without_credentials(text) == text
    assert without_credentials("see https://u:p@ss@h/v1?a=b&token=x&c=d") == "see https://***@h/v1?a=b&token=***&c=d"
