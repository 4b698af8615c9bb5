"""Which token comes next: greedily, or drawn with the request's own random stream.

A draw is the largest of the logits, each with a Gumbel number of its own added (Gumbel 1954; Maddison et al. 2014, A*
Sampling, section 2). The numbers are hashes of the request's seed, the step and the token, so that the same request
gives the same sample in any batch. Rounding differs a little with the batch: here it changes a draw only where two
tokens come out equal, and not wherever a cumulative sum passes a random point.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from harness.engine.devices import upload
from harness.engine.elementwise import greatest
from harness.errors import ModelError, UsageError, suggest
from harness.quick import dataclass
from harness.types import GenerationParams

_PENALTIES = ("presence_penalty", "frequency_penalty")
_OF_BEAMS = ("length_penalty", "early_stopping")
_KNOWN_EXTRA = ("min_p", "repetition_penalty", *_PENALTIES, "num_beams", *_OF_BEAMS)
# What other tools write out although it changes nothing.
_NEUTRAL: Mapping[str, Any] = {"use_cache": True, "num_return_sequences": 1}
_REMEDIES = {
    "float16": "try dtype=bfloat16 or dtype=float32",
    "bfloat16": "check the weights, or try dtype=float32",
    "float32": "its weights are damaged, or not of this architecture",
}
# What a value may be, where that is not any number from 0 on. A top_k of -1 says, as to vLLM, that all tokens count.
_RANGES = {
    "top_p": (0.0, 1.0, "a share from 0 to 1"),
    "top_k": (-1, math.inf, "a number of tokens (0 or -1: all)"),
    "min_p": (0.0, 1.0, "a share from 0 to 1"),
    "repetition_penalty": (1e-6, math.inf, "a number above 0"),
    "presence_penalty": (-2.0, 2.0, "a number from -2 to 2"),
    "frequency_penalty": (-2.0, 2.0, "a number from -2 to 2"),
    "length_penalty": (-math.inf, math.inf, "a number"),
}
# SplitMix64: what is added for each step, and how a state is mixed (shift, then factor).
_GAMMA = 0x9E3779B97F4A7C15
_MIXING = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31
# Rows are drawn so many values at a time on a processor, where they then stay in its cache.
_CACHED_VALUES = 1 << 17


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """How the tokens of one request are chosen. `temperature` 0 is greedy.

    presence_penalty and frequency_penalty are taken from the logits of tokens that the answer holds, once, and as often
    as it holds them (OpenAI's API; vLLM). num_beams above 1 is beam search, which draws nothing.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False

    @property
    def penalises(self) -> bool:
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0

    @property
    def is_plain_argmax(self) -> bool:
        return self.temperature == 0.0 and not self.penalises and self.num_beams == 1


def sampling_rule(params: GenerationParams, defaults: Any) -> SamplingRule:
    """The rule of a request; what it leaves open comes from the checkpoint's generation config.

    Raises UsageError for a parameter that no code here would obey, and for a value that makes no sense.
    """
    extra = dict(params.extra)
    for name, value in extra.items():
        if name in _NEUTRAL and value == _NEUTRAL[name]:
            continue
        if name not in _KNOWN_EXTRA:
            known = ("until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k", *_KNOWN_EXTRA)
            raise UsageError(
                f"generation_kwargs: '{name}={value}' is not known to this model{suggest(name, known)} "
                f"(it takes: {', '.join(known)})"
            )

    def chosen(name: str, given: Any, neutral: float) -> float:
        stored = getattr(defaults, name, None)
        value = given if given is not None else stored if stored is not None else neutral
        # Others would silently choose nothing, or divide by zero.
        least, most, fitting = _RANGES.get(name, (0.0, math.inf, "a number of 0 or more"))
        if not (isinstance(value, int | float) and least <= value <= most):
            raise UsageError(f"generation_kwargs: {name}={value} is not {fitting}")
        return float(value)

    penalties: dict[str, Any] = {
        "repetition_penalty": chosen("repetition_penalty", extra.get("repetition_penalty"), 1.0),
        **{name: chosen(name, extra.get(name, 0.0), 0.0) for name in _PENALTIES},
    }
    beams = _beams(params, extra)
    if beams:
        return SamplingRule(
            **beams, length_penalty=chosen("length_penalty", extra.get("length_penalty", 1.0), 1.0), **penalties
        )
    if not params.do_sample:
        return SamplingRule(**penalties)
    return SamplingRule(
        temperature=chosen("temperature", params.temperature, 1.0),
        top_p=chosen("top_p", params.top_p, 1.0),
        top_k=max(0, int(chosen("top_k", params.top_k, 0))),
        min_p=chosen("min_p", extra.get("min_p"), 0.0),
        **penalties,
    )


def _beams(params: GenerationParams, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What `generation_kwargs` say of beam search; nothing where there is one beam. Raises UsageError."""
    number, early = extra.get("num_beams", 1), extra.get("early_stopping", False)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise UsageError(f"generation_kwargs: num_beams={number} is not a number of beams of at least 1")
    if number == 1:
        if unused := next((name for name in _OF_BEAMS if name in extra), None):
            raise UsageError(f"generation_kwargs: {unused} belongs to beam search, num_beams=4 for example")
        return {}
    if params.do_sample:
        raise UsageError(f"generation_kwargs: num_beams={number} draws nothing: take temperature and do_sample out")
    if unknown := next((name for name in _PENALTIES if extra.get(name)), None):
        raise UsageError(f"generation_kwargs: {unknown} has no meaning for beam search; repetition_penalty has")
    if early not in (True, False, "never"):
        raise UsageError(f"generation_kwargs: early_stopping={early} is not true, false or never")
    return {"num_beams": number, "early_stopping": early}


class RandomStream:
    """The random numbers of one request: a 64-bit key for each draw (Steele et al. 2014, SplitMix)."""

    def __init__(self, state: int) -> None:
        self._state = state

    def next_key(self) -> int:
        """The key of the next draw, as a signed number."""
        self._state = (self._state + _GAMMA) % (1 << 64)
        mixed = self._state
        for shift, factor in _MIXING:
            mixed = ((mixed ^ (mixed >> shift)) * factor) % (1 << 64)
        return _signed(mixed ^ (mixed >> _LAST_SHIFT))


def random_stream(seed: int | None, repeat: int) -> RandomStream:
    """The request's own random numbers. Repetitions of one seed differ."""
    # Mixed first: the streams of seeds that follow each other would overlap.
    return RandomStream(RandomStream((seed or 0) * _GAMMA).next_key() + repeat * _MIXING[0][1])


@dataclass
class RowChoice:
    """What choosing a row's next token needs besides its logits.

    history: the prompt, of `prompt` tokens, and the answer so far.
    """

    rule: SamplingRule
    stream: RandomStream
    history: Sequence[int]
    prompt: int = 0


def choose_tokens(logits: torch.Tensor, rows: Sequence[RowChoice], dtype: str) -> list[int]:
    """The next token of each row of `logits` [rows, vocabulary] (may be changed in place).

    Raises ModelError when the logits are not numbers.
    """
    if logits.is_cuda or not all(row.rule.is_plain_argmax for row in rows):
        logits = logits.float()
    for index, row in enumerate(rows):
        if row.rule.penalises:
            _penalise(logits[index], row)
    top, chosen = greatest(logits)
    drawn = [index for index, row in enumerate(rows) if row.rule.temperature > 0]
    if drawn:
        places = upload(drawn, str(logits.device))
        chosen[places] = _draw(logits[places], [rows[index] for index in drawn])
    # Nothing can be said of infinite logits either: half precision overflows to them.
    broken = torch.isnan(top - top)
    # All that a step must know of the device comes in one piece, for which it waits once.
    tokens, bad = torch.stack((chosen, broken.long())).tolist()
    if any(bad):
        raise _not_numbers(dtype)
    return list(tokens)


def check_finite(values: torch.Tensor, dtype: str) -> None:
    """Raise ModelError when a value is NaN, naming the dtype and what to try. -inf is a number: of a barred token."""
    if bool(torch.isnan(values).any()):
        raise _not_numbers(dtype)


def _not_numbers(dtype: str) -> ModelError:
    return ModelError(f"the model returned NaN in {dtype}: {_REMEDIES.get(dtype, _REMEDIES['float32'])}")


def _penalise(logits: torch.Tensor, row: RowChoice) -> None:
    """Divide positive and multiply negative logits of seen tokens (Keskar et al. 2019, CTRL, section 4.1); then take
    presence and frequency penalties from those that the answer holds."""
    device, rule = str(logits.device), row.rule
    if rule.repetition_penalty != 1.0:
        # Places of images are no tokens of the vocabulary.
        seen = upload(sorted({token for token in row.history if token < len(logits)}), device)
        values = logits[seen]
        penalty = rule.repetition_penalty
        logits[seen] = torch.where(values < 0, values * penalty, values / penalty)
    counts = Counter(token for token in row.history[row.prompt :] if token < len(logits))
    if counts and (rule.presence_penalty or rule.frequency_penalty):
        taken = [rule.presence_penalty + rule.frequency_penalty * count for count in counts.values()]
        logits[upload(list(counts), device)] -= upload(taken, device, torch.float32)


def _draw(logits: torch.Tensor, rows: Sequence[RowChoice]) -> torch.Tensor:
    """A token for each row of logits [rows, vocabulary], by its own rule and its own random numbers."""
    keys = torch.tensor([row.stream.next_key() for row in rows])
    step = len(rows) if logits.is_cuda else max(1, _CACHED_VALUES // logits.shape[-1])
    pieces = [
        _draw_some(logits[at : at + step], [row.rule for row in rows[at : at + step]], keys[at : at + step])
        for at in range(0, len(rows), step)
    ]
    return torch.cat(pieces)


def _draw_some(logits: torch.Tensor, rules: Sequence[SamplingRule], keys: torch.Tensor) -> torch.Tensor:
    device, size = str(logits.device), logits.shape[-1]
    settings = [[rule.temperature for rule in rules], [rule.top_p for rule in rules], [rule.min_p for rule in rules]]
    temperature, top_p, min_p = upload(settings, device, torch.float32).unsqueeze(-1)
    scaled = logits / temperature
    ids = torch.arange(size, dtype=torch.int32, device=logits.device).unsqueeze(0)
    least = scaled.amax(dim=-1, keepdim=True) + min_p.log()
    if any(rule.top_k or rule.top_p < 1.0 for rule in rules):
        kept = [min(rule.top_k or size, size) for rule in rules]
        rank = ids[:, : max(kept)]
        # To have all in order, sorting is much faster than asking for the largest.
        ordered = scaled.sort(dim=-1, descending=True) if max(kept) == size else scaled.topk(max(kept), dim=-1)
        scaled, ids = ordered[0], ordered[1].int()
        top_k = upload(kept, device).unsqueeze(-1)
        scaled.masked_fill_(rank >= top_k, float("-inf"))
        # A token stays when the tokens above it hold less than top_p of what top_k left.
        share = torch.softmax(scaled, dim=-1)
        beyond = (share.cumsum(-1) - share >= top_p) & (top_p < 1.0)
        scaled.masked_fill_(beyond & (rank > 0), float("-inf"))
    if any(rule.min_p > 0.0 for rule in rules):
        # A token that is so much less likely than the likeliest.
        scaled.masked_fill_(scaled < least, float("-inf"))
    chosen = scaled.add_(_gumbel(upload(keys, device), ids)).argmax(dim=-1, keepdim=True)
    return ids.expand(len(rules), -1).gather(-1, chosen).squeeze(-1).long()


def _gumbel(keys: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """A Gumbel number for each key [rows] and token id [rows or 1, tokens], int32: float32 [rows, tokens].

    The hash is lowbias32 (Wellons 2018), on 32-bit numbers because processors multiply eight of them at once; the two
    halves of a key enter before it and within.
    """
    low, high = (_low_bits(keys).unsqueeze(-1), _low_bits(keys >> 32).unsqueeze(-1))
    mixed = ids * _signed(0x9E3779B1, 32) + low
    mixed.bitwise_xor_(_shifted(mixed, 16)).mul_(0x7FEB352D)
    mixed.bitwise_xor_(_shifted(mixed, 15)).bitwise_xor_(high).mul_(_signed(0x846CA68B, 32))
    mixed.bitwise_xor_(_shifted(mixed, 16))
    uniform = _shifted(mixed, 8).float().add_(0.5).mul_(2.0**-24)
    # Small numbers are exact, and become the large ones here, which decide.
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _low_bits(numbers: torch.Tensor) -> torch.Tensor:
    """The lower 32 bits of 64-bit numbers, as int32."""
    low = numbers.bitwise_and(0xFFFFFFFF)
    return torch.where(low >= 1 << 31, low - (1 << 32), low).int()


def _shifted(values: torch.Tensor, bits: int) -> torch.Tensor:
    """A shift to the right that brings zeros in, of 32-bit numbers that torch takes as signed."""
    return (values >> bits).bitwise_and_((1 << (32 - bits)) - 1)


def _signed(number: int, bits: int = 64) -> int:
    """A number of so many bits as torch writes it."""
    return number - (1 << bits) if number >= 1 << (bits - 1) else number
