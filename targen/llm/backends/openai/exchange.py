"""One POST and its reply."""

import aiohttp

from targen.llm.backends.openai.limits import Limits
from targen.llm.backends.openai.pool import Server
from targen.llm.backends.openai.replies import FatalError, Reply, RetryableError
from targen.llm.backends.openai.unreachable import why_unreachable
from targen.llm.server_errors import clean_message
from targen.llm.streams import completion_of, is_stream

PROXY_AUTHENTICATION = 407


async def exchange(
    session: aiohttp.ClientSession, server: Server, payload: bytes, key: str | None, limits: Limits
) -> Reply:
    """The reply to a payload; a streamed one is put together. Raises: RetryableError; FatalError if the proxy refuses."""
    try:
        async with session.post(
            server.url,
            data=payload,
            headers=server.headers,
            proxy=server.proxy_url,
            proxy_auth=server.proxy_auth,
            allow_redirects=False,
        ) as response:
            reply = Reply(response.status, response.headers, await _text(response, limits.reply_bytes))
    except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError) as err:
        if isinstance(err, aiohttp.ClientHttpProxyError) and err.status < 500:
            raise _refused_by_proxy(server, err.status, clean_message(err.message, key)) from None
        why, hopeless = why_unreachable(err, server.proxy_url)
        raise RetryableError(clean_message(why, key), overloaded=True, hopeless=hopeless, lost=True) from None
    except TimeoutError:
        limit = server.settings.timeout
        raise RetryableError(
            f"timeout: no complete answer in {limit:g} s (generator.timeout)", expensive=True
        ) from None
    except aiohttp.ClientError as err:
        is_lost = isinstance(err, aiohttp.ClientConnectionError)
        reason = f"{type(err).__name__}: {clean_message(str(err), key)}"
        raise RetryableError(reason, overloaded=is_lost, lost=is_lost) from None
    if reply.status == PROXY_AUTHENTICATION:
        raise _refused_by_proxy(server, reply.status, clean_message(reply.text, key))
    if reply.status == 200 and is_stream(reply.headers.get("Content-Type", ""), reply.text):
        server.structured.adaptation.disable_streaming()
        return Reply(reply.status, reply.headers, completion_of(reply.text))
    return reply


def _refused_by_proxy(server: Server, status: int, words: str) -> FatalError:
    return FatalError(
        f"generator.base_url: {server.base_url}: the proxy {server.proxy_url} answers status {status}: {words}, expected a proxy that "
        "lets calls pass. Put the user and the password into its variable (HTTPS_PROXY=http://user:password@host:port), or name the "
        "server in $NO_PROXY."
    )


async def _text(response: aiohttp.ClientResponse, limit: int) -> str:
    body = bytearray()
    async for block in response.content.iter_any():
        body += block
        if len(body) > limit:
            raise RetryableError(f"reply too long: more than {limit} bytes", expensive=True)
    return body.decode("utf-8", errors="replace")
