"""How a server is reached: its address, who asks, the proxy of the environment, and the certificates that are trusted."""

import ipaddress
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from targen.runtime.credentials import without_credentials
from targen.runtime.errors import UserError

PATH = "/chat/completions"
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True)
class Proxy:
    """A proxy; its address is without user name and password, so it may be shown."""

    url: str
    user: str
    password: str


@dataclass(frozen=True)
class Route:
    """The address of a server's completions, the headers of each call, and the proxy on the way."""

    url: str
    headers: Mapping[str, str]
    proxy: Proxy | None


def route_to(base_url: str, key: str | None, environment: Mapping[str, str]) -> Route:
    """The way to the server at `base_url`. Raises: UserError if the environment names a proxy that cannot be used."""
    parts = urlsplit(base_url)
    url = urlunsplit(parts._replace(path=parts.path.rstrip("/").removesuffix(PATH) + PATH, fragment=""))
    headers = {"Content-Type": "application/json"}
    if key and "api-version" in parts.query:  # Azure takes a key in this header only
        headers["api-key"] = key
    elif key:
        headers["Authorization"] = f"Bearer {key}"
    return Route(url, headers, proxy_for(base_url, environment))


def proxy_for(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy that the environment names for an address; None: no proxy, as for every address of this machine.

    Raises: UserError if it cannot be used.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    names = (f"{parts.scheme}_proxy", "all_proxy")
    name = next((name for name in names if _variable(environment, name)), None)
    if name is None or _is_this_machine(host) or _is_excepted(host, port, _variable(environment, "no_proxy")):
        return None
    address = _variable(environment, name)
    proxy = urlsplit(address if "://" in address else f"http://{address}")
    try:
        usable = proxy.scheme in ("http", "https") and bool(proxy.hostname) and proxy.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UserError(
            f"${name.upper()}: got {without_credentials(address)}, expected http://host:port: only HTTP proxies can be used. Correct "
            f"it, or add {host} to $NO_PROXY."
        )
    where = proxy.netloc.rpartition("@")[2]
    return Proxy(f"{proxy.scheme}://{where}", unquote(proxy.username or ""), unquote(proxy.password or ""))


def _variable(environment: Mapping[str, str], name: str) -> str:
    """A variable that may be written in small or capital letters; small ones win, as in curl."""
    return environment.get(name, environment.get(name.upper(), "")).strip()


def on_this_machine(url: str) -> bool:
    """Whether an address is one of the loopback interface."""
    return _is_this_machine(urlsplit(url).hostname or "")


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _is_excepted(host: str, port: int | None, no_proxy: str) -> bool:
    """Whether a list such as `example.com,.example.com,10.0.0.0/8,host:8000,*` names the host; a domain names its hosts too."""
    return any(_entry_matches(entry.lower(), host, port) for entry in no_proxy.replace(",", " ").split())


def _entry_matches(entry: str, host: str, port: int | None) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    name, colon, entry_port = entry.rpartition(":")
    if not (colon and entry_port.isdigit()):
        name, entry_port = entry, ""
    name = name.strip("[]").removeprefix("*").lstrip(".")
    if entry != "*" and not name:
        return False
    return (entry == "*" or host == name or host.endswith(f".{name}")) and entry_port in ("", str(port))


def trusted_certificates(environment: Mapping[str, str]) -> ssl.SSLContext:
    """The certificates that servers are checked with: the system's, and those of the files or folders that BUNDLES name.

    Raises: UserError if one of them cannot be read.
    """
    context = ssl.create_default_context()
    for name in BUNDLES:
        if path := environment.get(name, "").strip():
            try:
                _load_certificates(context, Path(path).expanduser())
            except OSError as err:  # also ssl.SSLError
                raise UserError(
                    f"${name}: got {path}, which cannot be read ({err.strerror or err}), expected a file or a folder of "
                    "certificates (PEM). Correct it, or unset it."
                ) from None
    return context


def _load_certificates(context: ssl.SSLContext, path: Path) -> None:
    """Raises: OSError if there is no certificate."""
    if not path.is_dir():
        context.load_verify_locations(cafile=path)
        return
    has_certificate = False
    for file in sorted(path.iterdir()):  # not as capath, which finds only files that are named by a hash
        with suppress(OSError):  # something else may lie there too
            context.load_verify_locations(cafile=file)
            has_certificate = True
    if not has_certificate:
        raise OSError("it holds no certificate")
