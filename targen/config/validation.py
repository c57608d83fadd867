"""Values from YAML as frozen, checked data; each value that does not fit is named by its key."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from targen.runtime.errors import UserError, did_you_mean

Checked = TypeVar("Checked")
LONGEST = 100  # characters of a value in a message


def check(kind: type[Checked], values: Any, where: str = "") -> Checked:
    """`values` as an instance of `kind`. Raises: UserError with a line for each key that does not fit."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as err:
        lines: dict[str, str] = {}
        for problem in err.errors():
            key = ".".join([where] * bool(where) + [str(part) for part in problem["loc"] if _is_key(part, values)])
            got = "nothing" if problem["type"] == "missing" else _short(problem["input"])
            lines.setdefault(key, f"{key}: got {got}, expected {_expected(problem)}")
        raise UserError("\n".join(lines.values())) from None


def name_in(registry: Mapping[str, object]) -> AfterValidator:
    """Accepts the names of the registry; the error lists them."""

    def check_name(name: str) -> str:
        if name not in registry:
            *first, last = map(repr, registry)
            raise PydanticCustomError("literal_error", "unknown name", {"expected": f"{', '.join(first)} or {last}"})
        return name

    return AfterValidator(check_name)


def _is_key(part: int | str, values: Any) -> bool:
    """Whether a part of pydantic's location is a key; it also adds the names of a union's members."""
    return isinstance(part, int) or (part.isidentifier() and part not in ("int", "str", "float", "constrained"))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _expected(problem: Any) -> str:
    kind, context = problem["type"], problem.get("ctx") or {}
    if kind == "literal_error":
        got = problem["input"]
        options = [option.strip("' ") for option in str(context["expected"]).replace(" or ", ", ").split(",")]
        hint = " " + did_you_mean(got, options) if isinstance(got, str) and len(options) > 1 else ""
        return f"{context['expected']}.{hint}"
    if kind == "unexpected_keyword_argument":
        return "no such key. Remove it."
    if kind == "missing":
        return "a value. Add it."
    text = str(problem["msg"]).removeprefix("Input should be ")
    return text[0].lower() + text[1:] + "."
