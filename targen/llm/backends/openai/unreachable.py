"""Why there is no connection to a server, and what to do about it."""

import ssl

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientHttpProxyError,
    ClientProxyConnectionError,
)


def why_unreachable(err: ClientConnectorError | ClientHttpProxyError, proxy: str | None) -> tuple[str, str]:
    """The reason on one line, and the message about the address if it ends the run."""
    if isinstance(err, ClientConnectorCertificateError):
        cause = err.certificate_error
        why = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(cause)
        return f"certificate not trusted: {why}", (
            f"whose certificate cannot be verified ({why}), expected one that this machine trusts. To trust a CA of your own, set "
            "SSL_CERT_FILE to the file (PEM) that holds its certificate; for another name or an expired date, mend the server."
        )
    if isinstance(err, ClientHttpProxyError):
        why = f"the proxy {proxy} answers status {err.status}: {err.message}"
    else:
        why = str(getattr(err, "os_error", None) or err)
    if isinstance(err, ClientProxyConnectionError):
        why = f"the proxy {proxy}: {why}"
    if isinstance(err, ClientConnectorSSLError):
        return f"no TLS: {why}", (
            f"where TLS fails ({why}), expected a server that speaks https. Correct the address: http:// for one that does not."
        )
    return f"cannot connect: {why}", (
        f"where no server answers ({why}), expected an OpenAI-compatible server. Start it, or correct the address."
    )
