"""Encoder-decoder models: the encoder reads the prompt, the decoder answers."""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, cat
from transformers import AutoModelForSeq2SeqLM

from targen.config.groups.training import Model
from targen.tasks.task import Example, Task
from train.data.rendering import CUE, answers, cued_prompt, instruction_prompt, prompt
from train.data.truncation import Render, check_answers, truncated_texts
from train.families.base import Batch, Encoded, FewShot, of_type
from train.families.text import (
    EncodedText,
    TextFamily,
    device_of,
    encoded_texts,
    padded_answers,
    prompt_of_each_answer,
    split_by_prompt,
)
from train.inference.generation import GeneratedText, generation_batches, greedy_texts
from train.models.loading import PLAIN, FamilyTraits, Loaded, Loading, load

END = 1  # tokens at the end of a prompt that are never cut: its end token


class Seq2SeqFamily(TextFamily):
    """T5 and similar models."""

    traits = FamilyTraits(special_tokens=("pad", "eos"), ends_texts=True, limits_positions=False)
    auto_class = AutoModelForSeq2SeqLM
    lora_task = "SEQ_2_SEQ_LM"

    def load_pretrained(self, model: Model, *tasks: Task, loading: Loading = PLAIN) -> Loaded:
        """As Family; a model that is built from its sizes starts each answer with its padding, as T5 does."""
        start = {"decoder_start_token_id": 0} if model.config is not None else {}
        return load(self.auto_class, model, self.traits, loading, **start)

    def encode(
        self, loaded: Loaded, task: Task, examples: Sequence[Example], max_length: int, few_shot: FewShot | None = None
    ) -> list[EncodedText]:
        """Token ids of prompts, at most `max_length`, and of all possible answers, which are never truncated."""

        def tokenize(texts: list[str]) -> list[list[int]]:
            ids: list[list[int]] = loaded.tokenizer(texts)["input_ids"]
            return ids

        render: Render = _plain_prompt
        shots, tail = few_shot.per_example if few_shot is not None else (), END
        if few_shot is not None:
            render, tail = (instruction_prompt, END) if few_shot.instructs else (cued_prompt, len(tokenize([CUE])[0]))
        prompts, truncated = truncated_texts(tokenize, render, task, examples, shots, max_length, tail)
        texts = [answers(task, example) for example in examples]
        distinct = list(dict.fromkeys(answer for options in texts for answer in options))
        ids = dict(zip(distinct, loaded.tokenizer(text_target=distinct)["input_ids"], strict=True))
        end = loaded.tokenizer.eos_token_id
        without_end = [(text, [token for token in tokens if token != end]) for text, tokens in ids.items()]
        check_answers(task, without_end, max_length)
        return encoded_texts(EncodedText, prompts, truncated, examples, texts, ids)

    def collator(self, loaded: Loaded) -> Callable[[Sequence[Encoded]], Batch]:
        """Training batches: input_ids (examples, tokens), decoder_input_ids and labels (examples, answer tokens)."""

        def collate(batch: Sequence[Encoded]) -> Batch:
            examples = of_type(EncodedText, batch)
            labels = padded_answers([example.right_answer for example in examples])
            inputs = _padded_prompts(loaded, [example.prompt for example in examples])
            return {**inputs, "decoder_input_ids": _decoder_inputs(loaded, labels), "labels": labels}

        return collate

    def answer_scores(
        self, loaded: Loaded, prompts: Sequence[list[int]], answers: Sequence[Sequence[list[int]]]
    ) -> tuple[Tensor, ...]:
        """The encoder runs once for each prompt, and so does the decoder's first step, whose keys and values all answers share."""
        model, device = loaded.model, device_of(loaded)
        inputs = {name: values.to(device) for name, values in _padded_prompts(loaded, prompts).items()}
        hidden = model.get_encoder()(**inputs).last_hidden_state
        labels = padded_answers([ids for options in answers for ids in options]).to(device)
        decoder_inputs = _decoder_inputs(loaded, labels)  # the start token, then each answer without its last token
        first = model(
            encoder_outputs=(hidden,),
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=decoder_inputs[:1, :1].expand(len(prompts), 1),
            use_cache=True,
        )
        owner = prompt_of_each_answer(answers, device)
        logits = first.logits[owner]
        if labels.shape[1] > 1:
            cache = first.past_key_values
            cache.batch_select_indices(owner)
            later = model(
                encoder_outputs=(hidden[owner],),
                attention_mask=inputs["attention_mask"][owner],
                decoder_input_ids=decoder_inputs[:, 1:],
                past_key_values=cache,
                use_cache=True,
            )
            logits = cat([logits, later.logits], dim=1)
        return split_by_prompt(logits, labels, answers)

    def generate(
        self, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int, max_new_tokens: int
    ) -> Iterator[tuple[int, GeneratedText]]:
        """As TextFamily; positions are relative, so only `max_new_tokens` limits a text."""
        loaded.model.eval()
        examples = of_type(EncodedText, encoded)
        for indices, tokens in generation_batches(examples, batch_size, max_new_tokens, None):
            inputs = _padded_prompts(loaded, [examples[index].prompt for index in indices])
            yield from zip(indices, greedy_texts(loaded, inputs, tokens), strict=True)


FAMILY = Seq2SeqFamily()


def _plain_prompt(task: Task, example: Example, shots: Sequence[Example]) -> str:
    return prompt(task, example)


def _padded_prompts(loaded: Loaded, prompts: Sequence[list[int]]) -> dict[str, Tensor]:
    return dict(loaded.tokenizer.pad([{"input_ids": ids} for ids in prompts], return_tensors="pt"))


def _decoder_inputs(loaded: Loaded, labels: Tensor) -> Tensor:
    """(answers, tokens): the labels shifted right behind the start token."""
    inputs: Tensor = loaded.model.prepare_decoder_input_ids_from_labels(labels=labels)
    return inputs
