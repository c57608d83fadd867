"""A language model for tests: answers every request of the four steps, deterministically, from the request alone.

It writes well-formed but senseless data. `error_rate` of its answers are unusable, `flip_rate` of its self-corrections
change the label (always to the first one, so that it leans).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

NOUNS = [
    "river",
    "lantern",
    "harbor",
    "violin",
    "garden",
    "market",
    "engine",
    "window",
    "letter",
    "castle",
    "meadow",
    "bridge",
    "kettle",
    "ladder",
    "orchard",
]
VERBS = [
    "opened",
    "painted",
    "carried",
    "followed",
    "repaired",
    "crossed",
    "watched",
    "sold",
    "borrowed",
    "cleaned",
    "measured",
    "visited",
]
NAMES = ["Anna", "Karim", "Yuki", "Pedro", "Ingrid", "Samuel", "Leila", "Bruno", "Mei", "Oscar", "Tamar", "Viktor"]


@dataclass(frozen=True)
class FakeModel:
    error_rate: float = 0.0
    flip_rate: float = 0.0

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body of a chat completion for the body of a request."""
        rng = Random(json.dumps(body, sort_keys=True))
        text = "I am sorry, I cannot." if rng.random() < self.error_rate else json.dumps(self._answer(body, rng))
        usage = {"prompt_tokens": len(json.dumps(body["messages"])) // 4, "completion_tokens": len(text) // 4}
        message = {"role": "assistant", "content": text}
        return {"model": body["model"], "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}

    def _answer(self, body: Mapping[str, Any], rng: Random) -> dict[str, Any]:
        prompt, step = body["messages"][-1]["content"], body["response_format"]["json_schema"]["name"]
        schema = body["response_format"]["json_schema"]["schema"]
        if step == "contexts":
            count = int(re.search(r"Name (\d+) contexts", prompt)[1])
            return {
                "contexts": [
                    f"{rng.choice(NOUNS)} and {rng.choice(NOUNS)} {rng.randrange(10**6)}" for _ in range(count)
                ]
            }
        if step == "instance_seed":
            count = int(re.search(r"Write (\d+) instance", prompt)[1])
            fields = schema["properties"]["instance_seeds"]["items"]["properties"]
            return {"instance_seeds": [_seed(fields, prompt, rng) for _ in range(count)]}
        if step == "self_correction":
            options = schema["properties"]["label"]["enum"]
            given = re.search(r"The label that it was given: (.*)", prompt)[1]
            label = options[0] if rng.random() < self.flip_rate else given
            return {"explanation": f"Because of {rng.choice(NOUNS)}.", "label": label}
        return _generation(schema["properties"], prompt, rng)


def _sentence(rng: Random) -> str:
    return (
        f"{rng.choice(NAMES)} {rng.choice(VERBS)} the {rng.choice(NOUNS)} near the {rng.choice(NOUNS)} "
        f"{rng.randrange(2, 999)} times before {rng.choice(NAMES)} {rng.choice(VERBS)} it"
    )


def _seed(fields: Mapping[str, Any], prompt: str, rng: Random) -> dict[str, Any]:
    noun, other = rng.sample(NOUNS, 2)
    one, two = rng.sample(NAMES, 2)
    if "occupation" in fields:
        feminine = f"The clerk told the visitor that she should bring the {noun} at {rng.randrange(10**6)}."
        return {
            "occupation": "clerk",
            "participant": "visitor",
            "feminine": feminine,
            "masculine": feminine.replace("she", "he"),
        }
    if "passage" in fields:
        return {"title": noun, "passage": ". ".join(_sentence(rng) for _ in range(5)) + "."}
    if "predicate" in fields:
        return {
            "predicate": "think",
            "hypothesis": f"the {noun} was {rng.choice(VERBS)} by {one} for {rng.randrange(10**6)} days",
        }
    if "article" in fields:
        third = rng.choice([name for name in NAMES if name not in (one, two)])
        names = [one, two, third]
        return {"article": " ".join(f"{name} said that {_sentence(rng)}." for name in names * 2), "entities": names}
    if "sense_1" in fields:
        word = "bank" if "noun" in prompt else "run"
        return {"word": word, "sense_1": f"{noun} {rng.random()}", "sense_2": f"{other} {rng.random()}"}
    if "noun_phrase_1" in fields:
        text = f"The {noun} would not fit into the {other} because it was too big, {one} said on day {rng.randrange(10**6)}."
        return {
            "text": text,
            "noun_phrase_1": f"The {noun}",
            "noun_phrase_2": f"the {other}",
            "pronoun": "it",
            "referent": f"the {noun}",
        }
    return {"premise": _sentence(rng) + "."}


def _generation(fields: Mapping[str, Any], prompt: str, rng: Random) -> dict[str, str]:
    if "question" in fields:
        return {"question": f"Is the {rng.choice(NOUNS)} older than {rng.randrange(10**6)} years?"}
    if "premise" in fields:
        clause = re.search(r"Clause: (.*)", prompt)[1]
        return {"premise": f"{_sentence(rng)}. I do not think that {clause}."}
    if "probable" in fields:
        return {"probable": _sentence(rng) + ".", "improbable": _sentence(rng) + "."}
    if "query" in fields:
        return {"query": f"Later @placeholder bought a {rng.choice(NOUNS)} for {rng.randrange(10**6)} coins."}
    if "form1" in fields:
        word = re.search(r"Word: (\w+)", prompt)[1]
        pairs = {n: f"They {word if word == 'run' else 'saw the bank'} {rng.randrange(10**6)}." for n in (1, 2)}
        return {"sentence1": pairs[1], "form1": word, "sentence2": pairs[2], "form2": word}
    if "span1" in fields:
        one, two = re.search(r"Noun phrases: (.*); (.*)", prompt).groups()
        return {"span1": one if "to which the pronoun refers" in prompt else two, "span2": "it"}
    if "occupation" in prompt.lower():
        return {"hypothesis": f"The clerk should bring the {rng.choice(NOUNS)}."}
    return {"hypothesis": _sentence(rng) + "."}
