"""The values of a task's YAML file. What YAML itself would take silently for something else is refused, with the line."""

from pathlib import Path
from typing import Any

from targen.runtime.errors import UserError, one_line, short_path
from targen.runtime.jsonl import check_unicode


def read_task_file(path: Path) -> Any:
    """The file as OmegaConf reads it. Raises: UserError with the line of what cannot be read, or is read as something else."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    where = short_path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        check_unicode(text, where)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as err:
        raise UserError(f"{where}: got bytes that are not UTF-8 ({err}), expected a text. Save it as UTF-8.") from None
    except RecursionError:
        raise UserError(f"{where}: got values nested too deep, expected a task. Repair it.") from None
    except yaml.MarkedYAMLError as err:
        raise UserError(_syntax_error(where, text, err)) from None
    except yaml.YAMLError as err:
        raise UserError(f"{where}: got no YAML ({one_line(err)}), expected a task. Repair it.") from None
    if root is None:
        raise UserError(
            f"{where}: got an empty file, expected a task. See docs/own_task.md, or python -m targen.new_task."
        )
    if not isinstance(root, yaml.MappingNode):
        raise UserError(
            f"{where}: got no keys, expected keys and values such as `description: ...`. See docs/own_task.md."
        )
    _check_nodes(where, root)
    try:
        return OmegaConf.create(text)
    except (yaml.YAMLError, ValueError, OmegaConfBaseException) as err:
        raise UserError(f"{where}: got values that cannot be read ({one_line(err)}). Repair it.") from None


def _syntax_error(where: str, text: str, err: Any) -> str:
    """The message for a text that is no YAML: line, what is wrong, what to do."""
    mark = err.problem_mark or err.context_mark
    number = mark.line if mark is not None else 0
    line = (text.splitlines() or [""])[min(number, len(text.splitlines()) - 1)]
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in str(err.problem):
        return f"{where}:{number + 1}: got a tab, expected blanks before a key. Replace it by blanks."
    reason = one_line(err.problem)
    return (
        f"{where}:{number + 1}: got {line.strip()[:60]!r}, which is no YAML ({reason}). Quote a text with a colon, a brace "
        "or a quote, or write it on lines of its own after `key: >-`."
    )


def _check_nodes(where: str, node: Any) -> None:
    """Refuses keys that repeat, and names that YAML reads as something else than a text: yes, no, on, off, null, 4.5, a date."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            number = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f'{where}:{number}: got brackets as a key, expected a name. Quote it: "[a, b]".')
            _check_name(where, key)
            if key.value in lines and key.tag != "tag:yaml.org,2002:merge":
                first_line = lines[key.value]
                raise UserError(
                    f"{where}:{number}: got {key.value} again (first in line {first_line}), expected it once. Remove one."
                )
            lines[key.value] = number
            _check_nodes(where, value)
            if key.value in ("name", "verbalizer") and isinstance(value, yaml.ScalarNode):
                _check_name(where, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if isinstance(item, yaml.ScalarNode):
                _check_name(where, item)
            _check_nodes(where, item)


def _check_name(where: str, node: Any) -> None:
    kind = node.tag.rpartition(":")[2]
    if kind in ("str", "int", "merge"):
        return
    read_as = {"bool": "true or false", "null": "nothing", "float": "a number", "timestamp": "a date"}.get(kind, kind)
    raise UserError(
        f"{where}:{node.start_mark.line + 1}: got {node.value or 'an empty name'}, which YAML reads as {read_as}, expected a text. "
        f'Quote it: "{node.value}".'
    )
