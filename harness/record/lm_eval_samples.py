"""The lines of lm-eval's `samples_<task>_<time>.jsonl`: one for each sample and filter pipeline.

The shape is that of lm_eval/evaluator.py (`evaluate`) and lm_eval/loggers/evaluation_tracker.py
(`save_results_samples`), read off files that lm-eval 0.4.13 wrote.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.record.codec import encode_messages, jsonable
from harness.types import JSON, Prompt, Record, Request, ScoreName

INVALID = "[invalid]"
"""What lm-eval's filters give where they read nothing, unless the task names another text."""
_PAIRS_OF_TEXTS = frozenset({"bleu", "chrf", "chrf++", "ter"})
_PAIRS_OF_CHOICES = frozenset({"f1", "mcc"})
_ORDER = ("acc", "f1", "mcc", "acc_norm", "acc_bytes", "exact_match", "brier_score", "likelihood", "acc_mutual_info")
"""Metrics of choices as lm-eval logs them, whatever their order in the task file."""


class AsRecorded:
    """What a record alone cannot say: how its prompt read to the model, and its gold as the task file gives it.

    This one says what the record itself holds; a run knows more.
    """

    def prompt(self, prompt: Prompt) -> str | None:
        """The text that the model is shown for a chat; None where a server has the template."""
        return None

    def target(self, record: Record) -> JSON:
        """What is right as the task file says it: a text where it names a choice by its text."""
        return list(record.target) if isinstance(record.target, tuple) else record.target

    def asked(self, record: Record) -> Sequence[Request]:
        """What was asked, where a class of lm-eval's made the requests of a row; else none."""
        return ()

    def items(self, record: Record, pipeline: str) -> Mapping[str, JSON]:
        """What a sample gives to metrics that have no value for one sample, by metric."""
        return {}


def sample_line(
    record: Record, config: Mapping[str, Any], pipeline: str, only_pipeline: str, shown: AsRecorded
) -> dict[str, JSON]:
    """One sample as lm-eval logs it for one of its filter pipelines. `doc` is the row as loaded."""
    scores = dict(shown.items(record, pipeline))
    for key, value in record.scores.items():
        name = ScoreName.parse(key)
        if (name.pipeline or only_pipeline) == pipeline:
            scores[their_name(name.metric, config)] = _item(name.metric, value, record, config, pipeline)
    if record.choices and record.logprobs:
        scores = {name: scores[name] for name in sorted(scores, key=_place)}
    arguments, prompt = _arguments(record, config, shown), _shown(record.prompt, shown)
    doc, target = jsonable(record.doc), str(shown.target(record))
    return {
        "doc_id": record.id,
        **({"view": record.view.index} if record.view is not None else {}),
        "doc": doc,
        "target": target,
        "arguments": arguments,
        **(_replies_of_kinds(record) if shown.asked(record) else _replies(record, config, pipeline)),
        "filter": pipeline,
        "metrics": list(scores),
        "doc_hash": sha(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": sha(prompt if isinstance(prompt, str) else prompt[0]),
        "target_hash": sha(target),
        **jsonable(scores),
    }


def their_name(metric: str, config: Mapping[str, JSON]) -> str:
    """`r@1` and `pass@1` for what is `r_at_1` and `pass_at_1` here, where the task or its own `pass_at_k` says so."""
    theirs = re.sub(r"_at_(?=\d+$)", "@", metric)
    written = json.dumps(config.get("metric_list"), default=str)
    return theirs if f'"{theirs}"' in written or re.search(r"!function [^\"]*\bpass_at_k\b", written) else metric


def generation_kwargs(config: Mapping[str, Any]) -> dict[str, JSON]:
    """Parameters of generation as lm-eval completes them (lm_eval/config/task.py; lm_eval/defaults.py)."""
    given, stop = config.get("generation_kwargs"), config.get("fewshot_delimiter", "\n\n")
    if given is None:
        return {"temperature": 0.0, "do_sample": False, "max_gen_toks": 256, "until": [stop]}
    temperature = {"temperature": float(given["temperature"])} if "temperature" in given else {}
    return {"until": [stop], **given, **temperature} if "until" not in given else {**given, **temperature}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _place(metric: str) -> int:
    return _ORDER.index(metric) if metric in _ORDER else len(_ORDER)


def _replies(record: Record, config: Mapping[str, Any], pipeline: str) -> dict[str, JSON]:
    """Requests x repeats, and what was read of them; lm-eval writes every number in them as text."""
    values = [value for response in record.responses for value in response.logprobs]
    if config.get("output_type") == "loglikelihood_rolling":
        return {"resps": [[str(value)] for value in values], "filtered_resps": list(map(str, values))}
    greedy = [flag for response in record.responses for flag in response.is_greedy]
    pairs = [[str(value), *map(str, greedy[place : place + 1])] for place, value in enumerate(values)]
    if pairs:
        return {"resps": [[pair] for pair in pairs], "filtered_resps": pairs}
    answers = _answers(record, config, pipeline)
    return {
        "resps": [[str(response.text) for response in record.responses]],
        "filtered_resps": answers if len(answers) == 1 else [answers],
    }


def _replies_of_kinds(record: Record) -> dict[str, JSON]:
    """Replies to the requests of a class: a text, a number and whether it is what the model says first, or a number."""
    replies: list[Any] = [
        [*map(str, response.logprobs), *map(str, response.is_greedy)] if response.is_greedy
        else str(response.logprobs[0]) if response.logprobs
        else str(response.text)
        for response in record.responses
    ]  # fmt: skip
    return {"resps": [[reply] for reply in replies], "filtered_resps": replies}


def _answers(record: Record, config: Mapping[str, Any], pipeline: str) -> list[JSON]:
    """What a pipeline read of the replies; what it could not read, as lm-eval's filter says so."""
    named = (each for each in config.get("filter_list") or () if each.get("name") == pipeline)
    steps = [step for each in named for step in each.get("filter") or ()]
    unread = next((step["fallback"] for step in reversed(steps) if isinstance(step.get("fallback"), str)), INVALID)
    return [unread if answer is None else str(answer) for answer in record.answers.get(pipeline, ())]


def _item(metric: str, value: Any, record: Record, config: Mapping[str, Any], pipeline: str) -> JSON:
    """The value of one sample as lm-eval logs it: for a metric of whole sets, what goes into it."""
    if value is None:
        return None
    texts = _answers(record, config, pipeline)
    if metric in _PAIRS_OF_TEXTS and texts:
        golds = list(record.target) if isinstance(record.target, tuple) else record.target
        return [golds, texts[0]]
    if record.choices and record.logprobs and isinstance(record.target, int):
        if metric in _PAIRS_OF_CHOICES:
            return [record.target, max(range(len(record.logprobs)), key=record.logprobs.__getitem__)]
        if metric == "brier_score":
            return [record.target, _shares(record.logprobs)]
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def _shares(logprobs: Sequence[float]) -> list[JSON]:
    weights = [math.exp(value - max(logprobs)) for value in logprobs]
    return [weight / sum(weights) for weight in weights]


def _arguments(record: Record, config: Mapping[str, Any], shown: AsRecorded) -> dict[str, JSON]:
    return {
        f"gen_args_{index}": {f"arg_{place}": value for place, value in enumerate(arguments)}
        for index, arguments in enumerate(_requests(record, config, shown))
    }


def _requests(record: Record, config: Mapping[str, Any], shown: AsRecorded) -> Iterator[tuple[JSON, ...]]:
    """What each request was called with."""
    if asked := shown.asked(record):
        yield from (_called_with(request, shown) for request in asked)
        return
    prompt = _shown(record.prompt, shown)
    if record.contexts:
        yield from ((_shown(context, shown), record.continuation) for context in record.contexts)
    elif record.choices and record.logprobs:
        # In a chat the choice begins the turn, and a delimiter stands only behind a prefill without a blank at its end.
        prefill = record.prompt.prefill
        bare = record.prompt.is_chat and (not prefill or prefill[-1].isspace())
        delimiter = "" if bare else config.get("target_delimiter", " ")
        texts = [delimiter + choice for choice in record.choices]
        yield from ((prompt, text) for text in texts)
        if sum(len(response.logprobs) for response in record.responses) == 2 * len(texts):
            yield from (("", text) for text in texts)  # the choices without their question
    elif config.get("output_type") == "loglikelihood":
        yield prompt, record.target
    elif record.logprobs:
        yield (prompt,)
    else:
        yield prompt, generation_kwargs(config)


def _called_with(request: Request, shown: AsRecorded) -> tuple[JSON, ...]:
    prompt = _shown(request.prompt, shown)
    if request.generation is None:
        return prompt, *request.continuations
    generation = request.generation
    return prompt, {"until": list(generation.until), "max_gen_toks": generation.max_new_tokens}


def _shown(prompt: Prompt, shown: AsRecorded) -> str | list[str]:
    """A prompt as lm-eval writes it: a text, and for a server that has the template, a list of one text, its turns."""
    if not prompt.is_chat:
        return prompt.text
    text = shown.prompt(prompt)
    if text is not None:
        return text
    return [json.dumps(encode_messages(prompt.messages), ensure_ascii=False) + prompt.prefill]
