"""From a request to token ids: where a continuation begins, where a window ends, and that BOS is written once.

Pure Python. It asks a transformers tokenizer only to encode strings. The rules equal those of lm-eval's `hf` model
(lm_eval/api/model.py and lm_eval/models/huggingface.py), except where those crash or shift; such places are marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from harness.engine.plan import common_prefix
from harness.engine.prefix_tokens import PrefixTokenizer
from harness.errors import UsageError
from harness.quick import dataclass
from harness.reasoning import opened_by
from harness.types import GenerationParams, Media, Prompt, Request

DEFAULT_MAX_NEW_TOKENS = 256
DEFAULT_MAX_LENGTH = 2048
OVERFLOW = ("truncate", "skip", "error")
_AT_ONCE = 2048
"""Requests that are encoded together: what a tokenizer returns takes many times the memory of the ids."""
_FIRST_PORTION, _OTHER_PORTIONS = (64, 512), (512, 4096)
"""Requests of a portion: with so many it ends where the next prompt begins otherwise, and with so many in any case. The
first one is what the first answer waits for."""
_ALIKE = 256
"""Characters; what two prompts share of fewer is little to compute twice."""


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image whose tokens have the ids `first` to `first + count - 1`, wherever it is shown.

    text: what stands for it in a prompt. grid: (time, height, width) in patches, where the model's positions need it.
    alone: False where the prompt shows other images too, and the processor takes an image otherwise there.
    """

    media: Media
    first: int
    count: int
    text: str = field(default="", compare=False)
    grid: tuple[int, int, int] | None = None
    alone: bool = True


@dataclass(frozen=True, slots=True)
class ScoreSequence:
    """Token ids of which those of `scored` are scored, each given all before it.

    `part` is the number of the continuation, or of the window of a rolling request. `context` has at least one token,
    and is one tuple for all continuations of a request. A causal model computes `tokens[:-1]`; an encoder-decoder
    model reads `context` and scores the rest.
    """

    request: int
    part: int
    context: tuple[int, ...]
    scored: tuple[int, ...]
    images: tuple[PlacedImage, ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        """All token ids; made anew each time."""
        return self.context + self.scored

    @property
    def inputs(self) -> tuple[int, ...]:
        """What a causal model computes: all but the last. No copy where one token is scored."""
        return self.context + self.scored[:-1]

    @property
    def start(self) -> int:
        """Where what is scored begins."""
        return len(self.context)

    def __len__(self) -> int:
        return len(self.context) + len(self.scored)


@dataclass(frozen=True, slots=True)
class GenerateSequence:
    """A prompt that is to be continued by at most `max_new_tokens` tokens.

    opened: the mark by which the prompt has opened reasoning, so that the answer begins within it; None elsewhere.
    """

    request: int
    tokens: tuple[int, ...]
    max_new_tokens: int
    params: GenerationParams
    repeat: int = 0
    opened: str | None = None
    images: tuple[PlacedImage, ...] = ()


@dataclass
class Encoded:
    """Requests as token ids. `parts[i]` says how many pieces request i was split into.

    rolling: the requests whose pieces are windows of one text, to be added up.
    """

    scores: list[ScoreSequence] = field(default_factory=list)
    generations: list[GenerateSequence] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    parts: dict[int, int] = field(default_factory=dict)
    truncated: dict[int, int] = field(default_factory=dict)
    prompt_tokens: dict[int, int] = field(default_factory=dict)
    rolling: set[int] = field(default_factory=set)

    @classmethod
    def joined(cls, portions: Iterable[Encoded]) -> Encoded:
        """One of several that hold different requests."""
        whole = cls()
        for portion in portions:
            whole.scores += portion.scores
            whole.generations += portion.generations
            whole.take_facts(portion)
        return whole

    def take_facts(self, other: Encoded) -> None:
        """Add all that another one says of its requests, without their sequences."""
        self.errors.update(other.errors)
        self.parts.update(other.parts)
        self.truncated.update(other.truncated)
        self.prompt_tokens.update(other.prompt_tokens)
        self.rolling |= other.rolling


@dataclass(frozen=True)
class TokenRules:
    """What decides how a text becomes the tokens that a model sees.

    max_length: the model's window, in tokens. prefix_token: what stands before a text that has no context.
    add_bos_token: None leaves it to the tokenizer. on_overflow: what happens to a request that is longer than the
    window: cut from the left (`truncate`), or answered by an error (`skip` and `error`; the latter ends the run).
    vocabulary: how many tokens the model knows, where the tokenizer knows more; None where every token is known.
    """

    max_length: int
    prefix_token: int
    add_bos_token: bool | None = None
    on_overflow: str = "truncate"
    is_encoder_decoder: bool = False
    vocabulary: int | None = None

    @property
    def may_refuse(self) -> bool:
        """Whether requests can be such that none is to be answered."""
        return self.on_overflow == "error" or self.vocabulary is not None


class Encoder:
    """Encodes texts with one tokenizer under one set of rules."""

    def __init__(self, tokenizer: Any, rules: TokenRules) -> None:
        self.tokenizer = tokenizer
        self.rules = rules
        self._prefix_tokenizer = PrefixTokenizer(tokenizer)
        heads = [tokenizer.decode([rules.prefix_token]), getattr(tokenizer, "bos_token", None) or ""]
        self._bos_texts = tuple({text for text in heads if text.strip()})
        self._ids: dict[int, int] = {}

    def kept(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The ids, to be kept for the whole run: equal ones are one object, of which millions would fill memory."""
        return tuple(map(self._ids.setdefault, ids, ids))

    def encode(self, texts: Sequence[str], special: bool | None = None) -> list[list[int]]:
        """Token ids of each text. `special` None adds BOS (or EOS) as the tokenizer does, but never a second one."""
        known: dict[str, list[int]] = {}
        for flag in (True, False):
            chosen = [text for text in dict.fromkeys(texts) if self._wants_special(text, special) is flag]
            known.update(zip(chosen, self._prefix_tokenizer.encode(chosen, flag), strict=True))
        if special is None and self.rules.add_bos_token is not None:
            known = {text: self._with_bos_rule(text, ids) for text, ids in known.items()}
        return [known[text] for text in texts]

    def extend(
        self, contexts: Sequence[str], encoded: Sequence[list[int]], continuations: Sequence[str]
    ) -> list[list[int]]:
        """Token ids of `context + continuation` for each pair; `encoded` are those of the contexts."""
        wholes: dict[int, list[int]] = {}
        for flag in (True, False):
            chosen = [index for index, text in enumerate(contexts) if self._wants_special(text, None) is flag]
            ids = self._prefix_tokenizer.extend(
                [contexts[index] for index in chosen],
                [encoded[index] for index in chosen],
                [continuations[index] for index in chosen],
                flag,
            )
            wholes.update(zip(chosen, ids, strict=True))
        if self.rules.add_bos_token is None:
            return [wholes[index] for index in range(len(contexts))]
        return [self._with_bos_rule(context, wholes[index]) for index, context in enumerate(contexts)]

    def count(self, text: str) -> int:
        """Tokens of `text`, special tokens included as a model would see them."""
        return len(self.encode([text])[0])

    def _wants_special(self, text: str, special: bool | None) -> bool:
        if special is not None:
            return special
        return not self._starts_with_bos(text) and self.rules.add_bos_token is not False

    def _starts_with_bos(self, text: str) -> bool:
        return bool(self._bos_texts) and text.startswith(self._bos_texts)

    def _with_bos_rule(self, text: str, ids: list[int]) -> list[int]:
        """Tokenizers differ in whether `add_special_tokens` writes BOS: here it is what `add_bos_token` says."""
        bos = getattr(self.tokenizer, "bos_token_id", None)
        if bos is None or self._starts_with_bos(text):
            return ids
        if self.rules.add_bos_token and ids[:1] != [bos]:
            return [bos, *ids]
        if not self.rules.add_bos_token and ids[:1] == [bos]:
            return ids[1:]
        return ids


def encode_requests(
    encoder: Encoder, requests: Sequence[Request], render: Callable[[Prompt], str], where: str
) -> Encoded:
    """Turn requests into token sequences. What is wrong with one request is its error and stops no other."""
    encoded = Encoded.joined(encode_in_portions(encoder, requests, render))
    if encoder.rules.on_overflow == "error":
        _refuse_overflow(encoded, where)
    if encoder.rules.vocabulary is not None:
        _refuse_unknown_tokens(encoder, encoder.rules.vocabulary, encoded, where)
    return encoded


def encode_in_portions(
    encoder: Encoder, requests: Sequence[Request], render: Callable[[Prompt], str]
) -> Iterator[Encoded]:
    """The same, as it is done: each portion holds all of its requests, and those that begin alike are mostly in one.

    Requests with continuations come first, and all others in the last portion. Nothing is refused.
    """
    encoded, texts, before = Encoded(), dict[int, str](), ""
    least, most = _FIRST_PORTION
    for index, request in enumerate(requests):
        if request.kind != "loglikelihood" or (text := _rendered(index, request, render, encoded)) is None:
            continue
        parted = len(texts) >= least and common_prefix(before, text) < _ALIKE
        if parted or len(texts) == most:
            _encode_choices(encoder, requests, texts, encoded)
            yield encoded
            encoded, texts = Encoded(), {}
            least, most = _OTHER_PORTIONS
        texts[index] = before = text
    _encode_choices(encoder, requests, texts, encoded)
    texts = {}
    for index, request in enumerate(requests):
        if request.kind == "rolling":
            _encode_rolling(encoder, index, request, encoded)
        elif request.kind == "generate" and (text := _rendered(index, request, render, encoded)) is not None:
            texts[index] = text
    for some in _cut(list(texts)):
        for index, ids in zip(some, encoder.encode([texts[index] for index in some]), strict=True):
            opened = reasoning_opened_by(requests[index].prompt, texts[index])
            _add_generation(encoder, index, ids, requests[index], opened, encoded)
    yield encoded


def _cut(indices: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(indices), _AT_ONCE):
        yield indices[at : at + _AT_ONCE]


def reasoning_opened_by(prompt: Prompt, text: str) -> str | None:
    """The mark by which a prompt, rendered as `text`, has opened reasoning that it does not close."""
    return opened_by(text, prompt.messages[-1].text if prompt.is_chat else "")


def _rendered(index: int, request: Request, render: Callable[[Prompt], str], encoded: Encoded) -> str | None:
    """The string of a request. A prompt that cannot be rendered is the error of its request."""
    try:
        return render(request.prompt)
    except UsageError as error:
        encoded.errors[index] = str(error)
        return None


def split_whitespace(context: str, continuation: str) -> tuple[str, str]:
    """Move white space at the end of the context to the continuation, where tokenizers keep it with the word."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def scored_from(context: Sequence[object], whole: Sequence[object]) -> int:
    """Index of the first token of `whole` = encode(context + continuation) that belongs to the continuation.

    It follows the longest token prefix that `whole` shares with `context` = encode(context). Where no token spans the
    join this is `len(context)`, as in lm-eval. Where one does, that token and what of the context differs with it is
    scored too, so that every byte of the continuation counts; lm-eval would shift the cut, or find nothing to score.
    """
    if whole[: len(context)] == context:
        return min(len(context), len(whole) - 1)
    pairs = enumerate(zip(context, whole, strict=False))
    return min(next((at for at, (one, other) in pairs if one != other), len(whole)), len(whole) - 1)


def windows(tokens: Sequence[int], prefix_token: int, max_length: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Cut a long text into (sequence, start) such that each token is scored once, given at least one token before it.

    The first window begins with `prefix_token`; a later one is filled from the left with tokens already scored
    (lm_eval/utils.py, get_rolling_token_windows with context_len=1).
    """
    first = min(max_length, len(tokens))
    if first:
        yield (prefix_token, *tokens[:first]), 1
    done = first
    while done < len(tokens):
        count = min(len(tokens) - done, max_length)
        end = done + count
        sequence = tuple(tokens[end - max_length - 1 : end])
        yield sequence, len(sequence) - count
        done = end


def _encode_choices(encoder: Encoder, requests: Sequence[Request], texts: Mapping[int, str], encoded: Encoded) -> None:
    """Add the sequences of requests with continuations, whose prompts these are."""
    for some in _cut(list(texts)):
        _encode_some_choices(encoder, requests, some, texts, encoded)


def _encode_some_choices(
    encoder: Encoder,
    requests: Sequence[Request],
    indices: Sequence[int],
    texts: Mapping[int, str],
    encoded: Encoded,
) -> None:
    pairs: list[tuple[int, int, str, str]] = []
    for index in indices:
        for part, continuation in enumerate(requests[index].continuations):
            pairs.append((index, part, *split_whitespace(texts[index], continuation)))
        encoded.parts[index] = len(requests[index].continuations)
    before = [context for _, _, context, _ in pairs if context]
    after = [text for _, _, context, text in pairs if context]
    contexts = encoder.encode(before)
    separate = encoder.rules.is_encoder_decoder
    # An encoder-decoder model reads the context alone, so that there is no join to look for.
    wholes = encoder.encode(after, special=False) if separate else encoder.extend(before, contexts, after)
    alone = encoder.encode([text for _, _, context, text in pairs if not context], special=False)
    with_context, without = iter(zip(contexts, wholes, strict=True)), iter(alone)
    for index, part, context, _ in pairs:
        if not context:
            ids, prefix = next(without), encoder.rules.prefix_token
            sequence, start = ids if ids[:1] == [prefix] else [prefix, *ids], 1
        else:
            ids, whole = next(with_context)
            sequence, start = ([*ids, *whole], len(ids)) if separate else (whole, scored_from(ids, whole))
            if start == 0 and sequence:
                sequence, start = [encoder.rules.prefix_token, *sequence], 1
        empty = not requests[index].continuations[part] or len(sequence) <= start
        _add_score(encoder, index, part, [] if empty else sequence, start, encoded)


def _add_score(encoder: Encoder, index: int, part: int, sequence: Sequence[int], start: int, encoded: Encoded) -> None:
    limit = encoder.rules.max_length
    if not sequence:
        encoded.errors[index] = f"continuation {part} is empty: there is nothing to score"
        return
    scored = len(sequence) - start
    if scored > limit:
        encoded.errors[index] = (
            f"continuation {part} has {scored} tokens but the model's window is {limit}: give a larger max_length"
        )
        return
    # The last token is never an input, so that one more than the window fits (and for an encoder, only its own part).
    room = limit if encoder.rules.is_encoder_decoder else limit + 1 - scored
    cut = max(0, start - room)
    encoded.prompt_tokens[index] = max(encoded.prompt_tokens.get(index, 0), start - cut)
    if cut and not _accept_overflow(encoder, index, cut, encoded):
        return
    context, before = sequence[cut:start], encoded.scores[-1] if encoded.scores else None
    shared = before is not None and before.request == index and before.context == tuple(context)
    kept = before.context if before is not None and shared else encoder.kept(context)
    encoded.scores.append(ScoreSequence(index, part, kept, encoder.kept(sequence[start:])))


def _encode_rolling(encoder: Encoder, index: int, request: Request, encoded: Encoded) -> None:
    """Add the windows of a text."""
    (ids,) = encoder.encode([request.prompt.text], special=False)
    pieces = list(windows(ids, encoder.rules.prefix_token, encoder.rules.max_length))
    encoded.rolling.add(index)
    encoded.parts[index] = len(pieces)
    encoded.prompt_tokens[index] = len(ids)
    encoded.scores += [
        ScoreSequence(index, part, sequence[:start], sequence[start:]) for part, (sequence, start) in enumerate(pieces)
    ]


def _add_generation(
    encoder: Encoder, index: int, ids: list[int], request: Request, opened: str | None, encoded: Encoded
) -> None:
    params = request.generation or GenerationParams()
    new_tokens = DEFAULT_MAX_NEW_TOKENS if params.max_new_tokens is None else params.max_new_tokens
    limit = encoder.rules.max_length
    room = limit if encoder.rules.is_encoder_decoder else limit - new_tokens
    ids = ids or [encoder.rules.prefix_token]
    encoded.parts[index] = 1
    if new_tokens < 1 or room < 1:
        encoded.errors[index] = (
            f"max_new_tokens={new_tokens} leaves no room for the prompt in a window of {limit} tokens: "
            "ask for fewer, or give a larger max_length"
        )
        return
    cut = max(0, len(ids) - room)
    encoded.prompt_tokens[index] = len(ids) - cut
    if cut and not _accept_overflow(encoder, index, cut, encoded):
        return
    encoded.generations.append(
        GenerateSequence(index, encoder.kept(ids[cut:]), new_tokens, params, request.repeat, opened)
    )


def _accept_overflow(encoder: Encoder, index: int, cut: int, encoded: Encoded) -> bool:
    encoded.truncated[index] = max(encoded.truncated.get(index, 0), cut)
    if encoder.rules.on_overflow == "truncate":
        return True
    encoded.errors[index] = (
        f"the request is {cut} tokens longer than the model's window of {encoder.rules.max_length} "
        f"(on_overflow={encoder.rules.on_overflow})"
    )
    return False


def _refuse_overflow(encoded: Encoded, where: str) -> None:
    if encoded.truncated:
        worst = max(encoded.truncated.values())
        many = len(encoded.truncated)
        which = "1 request is" if many == 1 else f"{many} requests are"
        raise UsageError(
            f"{where}: {which} longer than the model's window, by up to {worst} tokens: "
            "give fewer few-shot examples, a larger max_length, or on_overflow=truncate"
        )


def _refuse_unknown_tokens(encoder: Encoder, vocabulary: int, encoded: Encoded, where: str) -> None:
    inputs = [score.tokens for score in encoded.scores] + [prompt.tokens for prompt in encoded.generations]
    largest = max(map(max, inputs), default=0)
    if largest >= vocabulary:
        text = encoder.tokenizer.convert_ids_to_tokens(largest)
        raise UsageError(
            f"{where}: the prompts have the token {largest} ({text!r}), but "
            f"the model knows {vocabulary}: give the tokenizer that belongs to it with --model_args tokenizer=DIR"
        )
