"""Turns messages into prompt tokens with the model's chat template, for every backend that runs in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from targen.config.groups.generation import Generator
from targen.llm.provider_body import Messages, merge_system
from targen.runtime.errors import UserError, one_line

RESERVED = ("conversation", "chat_template", "add_generation_prompt", "tokenize", "return_dict")
PROBE: Messages = [{"role": "system", "content": "Be brief 7."}, {"role": "user", "content": "Say yes."}]


class Chat:
    """The chat template of a tokenizer, or of `generator.chat_template`, with `generator.chat_template_kwargs`.

    If the template refuses or drops system messages, their text goes before the user's.
    Raises: UserError if there is no usable template.
    """

    def __init__(self, settings: Generator, tokenizer: Any) -> None:
        self._tokenizer: Any = tokenizer
        self._template = _read_template(settings.chat_template)
        self._arguments: Mapping[str, Any] = settings.chat_template_kwargs
        template = self._template or getattr(tokenizer, "chat_template", None)
        if not template:
            raise UserError(
                f"generator.model: {settings.path or settings.model} has no chat template. Take an instruct model, or set "
                "generator.chat_template=FILE."
            )
        for name in self._arguments:
            if name in RESERVED or name not in str(template):
                raise UserError(
                    f"generator.chat_template_kwargs.{name}: got {self._arguments[name]!r}, which the chat template does not "
                    "use. Remove it."
                )
        self._merges = not self._takes_system()

    def tokens(self, messages: Messages) -> list[int]:
        """The token ids of the prompt, up to where the assistant's turn begins."""
        token_ids: list[int] = self._render(merge_system(messages) if self._merges else messages, tokenize=True)
        return token_ids

    def _takes_system(self) -> bool:
        from jinja2.exceptions import TemplateError

        try:
            return PROBE[0]["content"] in self._render(PROBE, tokenize=False)
        except TemplateError:
            pass
        try:
            self._render(merge_system(PROBE), tokenize=False)
        except TemplateError as err:
            reason = one_line(err)
            raise UserError(
                f"generator.chat_template: the template cannot be used ({reason}), expected one that takes a user's message. "
                "Repair it, or choose another model."
            ) from None
        return False

    def _render(self, messages: Messages, tokenize: bool) -> Any:
        return self._tokenizer.apply_chat_template(
            messages,
            chat_template=self._template,
            add_generation_prompt=True,
            tokenize=tokenize,
            return_dict=False,
            **self._arguments,
        )


def _read_template(path: str | None) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8") if path else None
    except (OSError, UnicodeDecodeError) as err:
        raise UserError(f"generator.chat_template: {path} cannot be read ({err}). Correct the path.") from None
