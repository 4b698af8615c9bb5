"""Fixtures for the authors of plugins and tasks. Importing this module imports no torch.

    def test_my_metric():
        assert check_metric(MyMetric()) == []
        assert MyMetric().score(observation("Beijing", reply="beijing")) == 1.0

    def test_my_model():
        assert check_model(MyModel()) == []

    def test_my_task(tmp_path):
        model = tiny_causal_lm(tmp_path / "model")
        result = run_harness("--tasks", "my_task", "--model", "hf", "--model_args", f"pretrained={model}")
        assert result.exit_code == 0

`harness check` makes the same checks of metrics, filters, models, modifiers and tasks, without a test.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.filters import Filter
from harness.metrics import ALL_OUTPUT_TYPES, BatchMetric, CorpusMetric, Metric, Observation, RepeatMetric, ScoreKey
from harness.model import Model
from harness.modifiers import NEEDS, Asked, Modifier
from harness.types import JSON, GenerationParams, OutputType, Prompt, Request, Response, Sample

if TYPE_CHECKING:
    from click.testing import Result as CommandResult

_KINDS = ("loglikelihood", "rolling", "generate")

_TEXT = (
    "The quick brown fox jumps over the lazy dog.\n",
    "Question: How many apples are left? Answer: 42\n",
    "以下是关于大学法学的单项选择题，请直接给出正确答案的选项。\n",
    "题目：下列哪一项是正确的？\nA. 甲\nB. 乙\nC. 丙\nD. 丁\n答案是：A\n",
    "0123456789 + - * / = ( ) [ ] { } <think> </think>\n",
)
_REPLIES: tuple[str | None, ...] = ("The answer is 42.", "好的，答案是 B", " \n", "", '{"a": [1', None)
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_causal_lm(
    path: Path | str,
    architecture: str = "qwen2",
    *,
    vocab_size: int = 400,
    hidden: int = 32,
    layers: int = 2,
    max_length: int = 512,
    seed: int = 0,
    gain: float = 0.85,
    texts: Sequence[str] = (),
    **config: Any,
) -> Path:
    """Write a small random model with a tokenizer trained on the spot to `path`, and return `path`.

    architecture: a model type of transformers: `qwen2`, `llama`, `gpt2`, `mamba`, `t5` and so on. Further keywords go
    into its configuration. gain: how far a layer stretches what it is given; larger makes answers depend more on what
    came long before. The same arguments give the same files.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.utils import logging

    quiet: Any = logging
    quiet.disable_progress_bar()
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer(vocab_size, texts)
    tokenizer.save_pretrained(path)
    settings = _config(architecture, len(tokenizer), hidden, layers, max_length, config)
    family: Any = AutoModelForSeq2SeqLM if settings.is_encoder_decoder else AutoModelForCausalLM
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = family.from_config(settings)
    # Weights far enough from zero that predictions differ between contexts.
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.08 if "embed" in name or "wte" in name else gain / hidden**0.5)
    torch.random.set_rng_state(state)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    if settings.is_encoder_decoder:
        settings.decoder_start_token_id = tokenizer.pad_token_id
        model.generation_config.decoder_start_token_id = tokenizer.pad_token_id
    model.save_pretrained(path)
    return path


def tiny_tokenizer(vocab_size: int = 400, texts: Sequence[str] = ()) -> Any:
    """A byte-level BPE tokenizer of transformers, trained on a few lines of English, Chinese and arithmetic."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([*_TEXT * 4, *texts], trainer)
    tokenizer = fast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def _config(architecture: str, vocab: int, hidden: int, layers: int, max_length: int, extra: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    heads = 4
    names = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "d_model": hidden,
        "n_embd": hidden,
        "intermediate_size": 2 * hidden,
        "d_ff": 2 * hidden,
        "num_hidden_layers": layers,
        "num_layers": layers,
        "n_layer": layers,
        "num_attention_heads": heads,
        "num_heads": heads,
        "n_head": heads,
        "num_key_value_heads": 2,
        "head_dim": hidden // heads,
        "d_kv": hidden // heads,
        "max_position_embeddings": max_length,
        "n_positions": max_length,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
    }
    kind = CONFIG_MAPPING[architecture]
    known = {*kind.__init__.__annotations__, *getattr(kind, "__annotations__", {}), *dir(kind), *kind().to_dict()}
    # Names that an architecture maps to another one would be set twice.
    chosen = {key: value for key, value in names.items() if key in known and key not in kind.attribute_map}
    return kind(**{**chosen, **extra})


def run_harness(*argv: str) -> CommandResult:
    """Run a command of the command line in this process. Returns `.exit_code`, `.stdout` and `.stderr`."""
    from click.testing import CliRunner

    from harness.cli.main import main

    return CliRunner().invoke(main, [str(word) for word in argv])


def observation(
    target: int | str | tuple[str, ...] | None,
    reply: str | None = None,
    *,
    choices: Sequence[str] = (),
    logprobs: Sequence[float] = (),
    doc: Mapping[str, JSON] | None = None,
) -> Observation:
    """What a metric sees of one sample: a generated reply, or the log-probabilities of choices or of a text."""
    sample = Sample("task", "", 0, dict(doc or {}), (), target, tuple(choices))
    if not logprobs:
        return Observation(sample, (Response(text=reply or ""),), predictions=(reply,))
    best = max(logprobs)
    response = Response(
        logprobs=tuple(logprobs),
        is_greedy=tuple(value == best for value in logprobs),
        token_counts=tuple(max(1, len(text)) for text in choices) or (max(1, len(str(target))),),
    )
    return Observation(sample, (response,), unconditional=(response,) if choices else ())


def check_metric(metric: Metric, seen: Sequence[Observation] = ()) -> list[str]:
    """Hold a metric against the contract of `harness.Metric`. Returns what is wrong, one line each.

    `seen` are observations to score; without any, a few plain ones of each output type that the metric names. Give your
    own where the metric reads columns of the row.
    """
    where = f"metric '{getattr(metric, 'name', type(metric).__name__)}'"
    unknown = set(metric.output_types) - ALL_OUTPUT_TYPES
    problems = [f"{where}: output_types names '{name}', which is no output type" for name in sorted(unknown)]
    scores: list[tuple[float, ...]] = []
    if isinstance(metric, BatchMetric):
        metric.prepare_corpus([each.sample for each in seen])
    times = 1
    if isinstance(metric, RepeatMetric):
        times = metric.replies
        if metric.wants_inner and metric.inner is None:
            metric.use(_Same())
    kinds = sorted(metric.output_types & ALL_OUTPUT_TYPES)
    examples = [
        replace(item, responses=item.responses * times, predictions=item.predictions * times)
        for kind in kinds
        for item in _examples(kind)
    ]
    for each in seen or examples:
        shown = f"target {each.sample.target!r}, reply {each.predictions or each.logprobs}"
        try:
            first, second = metric.score(each), metric.score(each)
        except Exception as error:
            # A metric that reads columns of its benchmark's rows cannot be judged on rows without them.
            if seen or not isinstance(error, KeyError):
                problems.append(f"{where}: score raises {type(error).__name__}: {error} ({shown})")
            continue
        if repr(first) != repr(second):
            problems.append(f"{where}: score gives {first!r} and then {second!r} for the same sample ({shown})")
        if first is not None:
            row = first if isinstance(first, tuple) else (first,)
            problems += [
                f"{where}: score gives {value!r}, not a finite number ({shown})"
                for value in row
                if not isinstance(value, int | float) or not math.isfinite(value)
            ]
            scores.append(row)
    if isinstance(metric, CorpusMetric):
        return problems
    return problems or _check_aggregation(metric, where, scores)


def _check_aggregation(metric: Metric, where: str, scores: list[tuple[float, ...]]) -> list[str]:
    from harness.scoring.aggregation import AGGREGATIONS

    if metric.aggregation != "self" and metric.aggregation not in AGGREGATIONS:
        known = ", ".join(sorted({*AGGREGATIONS, "self"}))
        return [f"{where}: unknown aggregation '{metric.aggregation}' (known: {known})"]
    widths = {len(row) for row in scores}
    if metric.values and widths:
        names = ", ".join(metric.values)
        return [] if widths == {len(metric.values)} else [f"{where}: score gives {sorted(widths)} numbers for {names}"]
    if len(widths) > 1:
        return [f"{where}: score gives {sorted(widths)} numbers for different samples; the count must be the same"]
    if metric.aggregation != "self" and widths - {1}:
        return [f"{where}: score gives {widths.pop()} numbers, which '{metric.aggregation}' cannot join; use 'self'"]
    if metric.aggregation == "self" and scores:
        try:
            float(metric.aggregate(scores))
        except Exception as error:
            return [f"{where}: aggregate raises {type(error).__name__}: {error}"]
    return []


class _Same(Metric):
    """1 where a reply is the target: what metrics of several replies are tried with."""

    name = "same"

    def score(self, seen: Observation) -> float:
        return float(seen.predictions[0] == seen.sample.target)


def _examples(kind: OutputType) -> list[Observation]:
    if kind == "multiple_choice":
        choices = ("Paris", "Rome", "罗马")
        return [observation(gold, choices=choices, logprobs=(-1.0, -2.0, -3.0)) for gold in (0, 2)]
    if kind in ("loglikelihood", "loglikelihood_rolling"):
        return [observation("两点之间", logprobs=(-4.0,)), observation("a straight line", logprobs=(-9.5,))]
    return [observation("42", "42"), observation("42", "7"), observation(("42", "43"), "43"), observation("42", None)]


def check_model(model: Model) -> list[str]:
    """Take a model through its life, as a run does, and hold it against `harness.Model`. Returns what is wrong."""
    where = f"model '{getattr(model, 'name', type(model).__name__)}'"
    problems = [
        f"{where}: supports names '{kind}', which is no kind" for kind in sorted(set(model.supports) - {*_KINDS})
    ]
    try:
        model.prepare()
        identity = json.dumps(dict(model.identity), sort_keys=True)
        requests = _requests(model)
        samples = [Sample("task", "", n, {}, (request,), "8") for n, request in enumerate(requests)]
        model.inspect_samples(samples)
        model.load()
        if model.answers_samples:
            model.take_samples(samples)
        problems += [f"{where}: {problem}" for problem in _check_answers(requests, model)]
        if json.dumps(dict(model.identity), sort_keys=True) != identity:
            problems.append(f"{where}: identity is another after answering than after prepare")
    except Exception as error:
        problems.append(f"{where}: {type(error).__name__}: {error}")
    finally:
        model.close()
    return problems


def check_filter(step: Filter, replies: Sequence[str | None] = ()) -> list[str]:
    """Hold a filter against the contract of `harness.Filter`. Returns what is wrong, one line each.

    `replies` are what it is given, one at a time and all together; without any, plain and odd ones.
    """
    from harness.scoring.scores import checked_answers

    where = f"filter '{getattr(step, 'name', type(step).__name__)}'"
    sample = Sample("task", "", 0, {}, (), "B", ("A", "B"))
    given = tuple(replies) or _REPLIES
    problems: list[str] = []
    raised: list[str] = []
    lacking: set[str] = set()
    trials = (*((reply,) for reply in given), given)
    for asked in trials:
        shown = f"given {list(asked)}"
        try:
            both = step.apply(asked, sample), step.apply(asked, sample)
        except Exception as error:
            raised.append(f"{type(error).__name__}: {error}")
            problems.append(f"{where}: apply raises {raised[-1]} ({shown})")
            lacking |= {raised[-1]} if isinstance(error, KeyError | ValueError) else set()
            continue
        try:
            first, second = (checked_answers(answers, len(asked)) for answers in both)
        except (TypeError, ValueError) as error:
            problems.append(f"{where}: apply: {error} ({shown})")
            continue
        if first != second:
            problems.append(f"{where}: apply gives {first} and then {second} for the same replies ({shown})")
        if len(first) != len(asked) and not step.joins:
            problems.append(f"{where}: apply makes {len(first)} of {len(asked)} replies, which 'joins' does not say")
    # A filter that reads columns of its benchmark's rows cannot be judged on rows without them: whatever the reply.
    says_one_thing = len(raised) >= len(trials) - 2 and len({*raised}) == len(lacking) == 1
    return [] if says_one_thing and not replies else problems


def check_modifier(modifier: Modifier) -> list[str]:
    """Hold a modifier against the contract of `harness.Modifier`. Returns what is wrong, one line each."""
    where = f"modifier '{getattr(modifier, 'name', type(modifier).__name__)}'"
    unknown = sorted(set(modifier.needs) - NEEDS)
    problems = [f"needs names '{name}', which no task says" for name in unknown]
    asked = Asked(("one", "two", "三"), wordings=2, rewordings=("How so?",), salt="salt", images=("a", "b"))
    try:
        views, again = list(modifier.views(asked)), list(modifier.views(asked))
        scores = modifier.row_scores([ScoreKey("acc", "none", _Share(), "mean", True)], "ABC")
    except Exception as error:
        return [f"{where}: {type(error).__name__}: {error}"]
    if not views or views != again:
        problems.append("views gives no view at all" if not views else "views gives other views for the same row")
    if len(views) > 1 and not modifier.several:
        problems.append("views shows a row several times, which 'several' does not say")
    if modifier.several and not scores:
        problems.append("shows a row several times, and row_scores says nothing of all its views together")
    orders = [view.order for view in views if view.order and sorted(view.order) != [0, 1, 2]]
    problems += [f"views orders three options as {list(order)}" for order in orders]
    orders = [view.image_order for view in views if view.image_order and sorted(view.image_order) != [0, 1]]
    problems += [f"views orders two images as {list(order)}" for order in orders]
    strange = [score for score in scores if score.of != "acc"]
    problems += [f"row_scores: '{score.name}' is of '{score.of}', no score of the task" for score in strange]
    return [f"{where}: {problem}" for problem in problems]


class _Share(Metric):
    """The score of the task that `check_modifier` makes up."""

    name = "acc"
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float:
        return 1.0


def _requests(model: Model) -> list[Request]:
    prompt = Prompt("3 + 5 =", prefix="1 + 1 = 2\n\n")
    every = [
        Request("loglikelihood", prompt, (" 8", " 15", "八")),
        Request("rolling", Prompt("Water boils at 100 degrees.")),
        Request("generate", prompt, generation=GenerationParams(until=("\n",), max_new_tokens=4)),
    ]
    return [request for request in every if request.kind in model.supports]


def _check_answers(requests: Sequence[Request], model: Model) -> Iterator[str]:
    if list(model.respond([])):
        yield "respond answers where nothing was asked"
    answers = list(model.respond(requests))
    if sorted(index for index, _ in answers) != list(range(len(requests))):
        yield f"respond answers {[index for index, _ in answers]} where {len(requests)} requests were numbered from 0"
        return
    for index, response in answers:
        request = requests[index]
        wanted = max(1, len(request.continuations))
        if response.error:
            yield f"a plain {request.kind} request fails: {response.error}"
        elif request.kind == "generate" and not isinstance(response.text, str):
            yield f"a generate request needs a text in its response, not {response.text!r}"
        elif request.kind != "generate":
            yield from _check_logprobs(request.kind, wanted, response)


def _check_logprobs(kind: str, wanted: int, response: Response) -> Iterator[str]:
    needed = ("logprobs", "token_counts") if kind == "rolling" else ("logprobs", "is_greedy", "token_counts")
    for name in needed:
        if len(getattr(response, name)) != wanted:
            yield f"a {kind} response needs {wanted} values in {name}, not {len(getattr(response, name))}"
    if not all(value <= 1e-6 for value in response.logprobs):
        yield f"a {kind} response holds {response.logprobs}: log-probabilities are numbers of at most 0"
