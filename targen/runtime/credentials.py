"""User names, passwords and keys in addresses: a run writes its settings to files, so an address must not hold any."""

import re

# In `scheme://user:password@host`, and in a query such as `?api_key=...`.
_USER = re.compile(r"(?<=://)[^\s/?#'\"]+(?=@)")
_SECRET = re.compile(
    r"(?P<name>[?&][^=&\s]*(?:key|token|secret|passw|pwd|credential|signature|auth)[^=&\s]*=|[?&](?:sig|code)=)(?P<value>[^&#\s'\",\]}]+)",
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """The text with *** for user names, passwords and keys in its addresses."""
    return _SECRET.sub(r"\g<name>***", _USER.sub("***", text))


def holds_credentials(text: str) -> bool:
    """Whether an address in the text holds a user name, a password or a key."""
    return without_credentials(text) != text
