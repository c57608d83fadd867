"""Checks of the templates of conf/method and conf/task before the first call."""

from string import Formatter

from targen.config.groups.method import Method
from targen.runtime.errors import UserError
from targen.synthesis.prompts.step_prompts import common_fields, whole_fields
from targen.tasks.specification_checks import template_problems
from targen.tasks.task import Task


def checked_templates(method: Method, tasks: list[Task]) -> None:
    """Checks the templates of a method and of all tasks. Raises: UserError with all problems, a line each."""
    problems = list(dict.fromkeys(problem for task in tasks for problem in check_templates(method, task)))
    if problems:
        raise UserError("\n".join(problems))


def check_templates(method: Method, task: Task) -> list[str]:
    """All problems of the templates of a method with a task, a line each."""
    common, crossed = set(common_fields(task)), set(task.crossed_variants)
    variant = set(task.variants) - set(task.free_variants)
    seed = {name for name, spec in task.instance_seed.fields.items() if isinstance(spec, str)}
    generation = variant | seed | {"context", *task.drawn_fields}
    where = f"tasks.{task.name}"
    templates = {
        "method.contexts": (method.contexts or "", common | {"count", "contexts", "known", "format"}),
        "method.known_contexts": (method.known_contexts, {"contexts"}),
        "method.instance_seed": (method.instance_seed or "", common | {"context", "count", "instruction", "format"}),
        "method.self_correction": (method.self_correction, common | {"instance", "label", "refusal", "format"}),
        "method.blind_correction": (method.blind_correction, common | {"instance", "refusal", "format"}),
        "method.refusal": (method.refusal, {"unusable"}),
        "method.seed_purposes": (method.seed_purposes, {"purposes"}),
        "method.seed_label": (method.seed_label, {"label"}),
        f"{where}.instance_seed.instruction": (task.instance_seed.instruction, crossed),
        f"{where}.instance_seed.each": (task.instance_seed.each, variant),
        f"{where}.generation.instruction": (task.generation.instruction, generation),
    }
    for name, spec in task.instance_seed.fields.items():
        if isinstance(spec, str):
            templates[f"{where}.instance_seed.fields.{name}"] = (spec, crossed)
    problems = []
    if method.instance_seed is not None and method.contexts is None:
        problems.append("method.contexts: got null, expected a template: instance seeds are written in contexts.")
    if method.instance_seed is not None and method.shown != {"context"}:
        problems.append(
            "method.instance_seed: got a template, expected null with attributes, instructions or demonstrations."
        )
    if method.rounds is not None and method.instance_seed is None:
        problems.append(
            "method.rounds: got rounds without method.instance_seed, expected its template: they choose its contexts."
        )
    if method.instance_seed is None:
        templates |= _whole_templates(method, task)
        problems += _whole_problems(method, task)
    else:
        extra = {"failures"} if method.rounds is not None else set()
        templates["method.generation"] = (method.generation, common | extra | {"instruction", "constraint", "format"})
        problems += [
            f"method.generation: got no field {{{name}}}, expected it, with method.rounds."
            for name in extra - _names(method.generation)
        ]
    if method.rounds is not None:
        templates["method.rounds.failures"] = (method.rounds.failures, {"failures"})
    for label in task.labels:
        templates[f"{where}.labels.{label.name}.constraint"] = (label.constraint, generation)
        templates[f"{where}.labels.{label.name}.seed"] = (label.seed, variant)
    return problems + [
        problem for key, (text, fields) in templates.items() for problem in template_problems(key, text, fields)
    ]


def _whole_templates(method: Method, task: Task) -> dict[str, tuple[str, set[str]]]:
    """By key, the templates of a method that asks for a whole instance, with the fields that each may have."""
    common, where = set(common_fields(task)), f"tasks.{task.name}"
    variant = set(task.variants) - set(task.free_variants)
    own_fields = {"instruction", "constraint", "given_label", "format"}
    templates = {
        "method.generation": (method.generation, common | own_fields | method.shown),
        "method.given_label": (method.given_label, {"label"}),
    }
    if method.attributes is not None:
        fields = common | {"attribute", "attributes", "values", "count", "known", "format"}
        templates["method.attributes.prompt"] = (method.attributes.prompt, fields)
        templates["method.attributes.known"] = (method.attributes.known, {"values"})
    if method.instructions is not None:
        templates["method.instructions.prompt"] = (method.instructions.prompt, common | {"count", "known", "format"})
        templates["method.instructions.known"] = (method.instructions.known, {"instructions"})
    if method.demonstrations is not None:
        templates["method.demonstrations.row"] = (method.demonstrations.row, {"instance", "label"})
        templates["method.demonstrations.intro"] = (method.demonstrations.intro, common)
        templates["method.demonstrations.stand_in"] = (method.demonstrations.stand_in or "", common)
    if task.whole is not None:
        templates[f"{where}.whole.instruction"] = (task.whole.instruction, variant)
        templates |= {f"{where}.whole.fields.{name}": (text, variant) for name, text in task.whole.fields.items()}
    return templates


def _whole_problems(method: Method, task: Task) -> list[str]:
    """Problems of a task for a method that asks for a whole instance, other than those of its templates."""
    where, problems = f"tasks.{task.name}", []
    for name in sorted(method.shown - _names(method.generation)):
        problems.append(f"method.generation: got no field {{{name}}}, expected it, for the method asks for its values.")
    if method.attributes is not None and not task.attributes:
        problems.append(f"{where}.attributes: got none, expected what varies between instances. Name three to five.")
    if task.whole is None:
        return [
            *problems,
            f"{where}.whole: got none, expected how an instance is written in one answer (see conf/task).",
        ]
    if set(task.whole.fields) != set(task.built_fields):
        expected = sorted(task.built_fields)
        problems.append(f"{where}.whole.fields: got {sorted(task.whole.fields)}, expected {expected}.")
    constraints = [label.constraint for label in task.labels]
    texts = [task.whole.instruction, *constraints, *(t for t in whole_fields(task).values() if isinstance(t, str))]
    for key in sorted(set(task.crossed_variants) - frozenset().union(*map(_names, texts))):
        problems.append(f"{where}.whole.instruction: got no field {{{key}}}, expected the variant that is asked for.")
    for label in task.labels:
        for name in sorted(_names(label.constraint) - (set(task.variants) - set(task.free_variants))):
            problems.append(
                f"{where}.labels.{label.name}.constraint: got the field {{{name}}}, which is not known before a whole "
                f"instance is written. Take method=targen, or a constraint without it."
            )
    return problems


def _names(template: str) -> frozenset[str]:
    """The fields of a template; none if it cannot be parsed, which `template_problems` reports."""
    try:
        return frozenset(name for _, name, _, _ in Formatter().parse(template) if name is not None)
    except ValueError:
        return frozenset()
