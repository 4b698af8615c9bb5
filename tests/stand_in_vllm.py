"""What the vllm model uses of vLLM's API, answered by transformers: for machines where vLLM is not installed.

It keeps vLLM's habits: a prefix cache in whole blocks, log-probabilities of prompt tokens only where computed,
a stop string that is found in the text, and text without special tokens.
"""

from __future__ import annotations

import copy
import sys
from collections import deque
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import SimpleNamespace
from typing import Any

import torch

from harness.engine import load_processor

__version__ = "0.0-stand-in"
__spec__ = ModuleSpec("vllm", None)
BLOCK = 16


@dataclass
class EngineArgs:
    model: str = ""
    tokenizer: str | None = None
    revision: str | None = None
    dtype: str = "auto"
    trust_remote_code: bool = False
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    gpu_memory_utilization: float = 0.9
    enforce_eager: bool = False
    enable_prefix_caching: bool = True
    enable_lora: bool = False
    max_lora_rank: int = 16
    disable_log_stats: bool = True
    limit_mm_per_prompt: dict[str, int] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None


class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    max_tokens: int = 16
    prompt_logprobs: int | None = None
    logprob_token_ids: tuple[int, ...] = ()
    skip_reading_prefix_cache: bool = False
    detokenize: bool = True
    skip_special_tokens: bool = True
    allowed_token_ids: tuple[int, ...] = ()

    def __init__(self, **chosen: Any) -> None:
        for name, value in chosen.items():
            if not hasattr(type(self), name):
                raise TypeError(f"unexpected keyword argument '{name}'")
            setattr(self, name, value)


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


class LLM:
    def __init__(self, **args: Any) -> None:
        self.llm_engine = Engine(EngineArgs(**args))


TEXT_KEYS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


@dataclass
class Shown:
    """A prompt with all tokens of its images, and the tensors of their pixels."""

    tokens: list[int]
    pixels: dict[str, Any] = field(default_factory=dict)
    image_token: int = -1
    adapter: LoRARequest | None = None


@dataclass
class Engine:
    args: EngineArgs
    waiting: deque[tuple[str, Shown, SamplingParams]] = field(default_factory=deque)
    blocks: set[tuple[int, ...]] = field(default_factory=set)
    adapted: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

        config = AutoConfig.from_pretrained(self.args.model)
        self.sees = hasattr(config, "vision_config")
        family: Any = AutoModelForImageTextToText if self.sees else AutoModelForCausalLM
        self.module = family.from_pretrained(self.args.model, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.args.tokenizer)
        self.processor = load_processor(self.args.model, config) if self.sees else None
        self.engine_core = SimpleNamespace(shutdown=self.waiting.clear)
        self.model_config = SimpleNamespace(
            try_get_generation_config=lambda: self.module.generation_config.to_diff_dict()
        )

    def add_request(
        self, name: str, prompt: dict[str, Any], params: SamplingParams, lora_request: LoRARequest | None = None
    ) -> None:
        images = prompt.get("multi_modal_data", {}).get("image", [])
        if len(images) > (self.args.limit_mm_per_prompt or {}).get("image", 1):
            raise ValueError("more images than limit_mm_per_prompt allows")
        shown = self._with_images(prompt["prompt_token_ids"], images) if images else Shown(prompt["prompt_token_ids"])
        if len(shown.tokens) >= (self.args.max_model_len or sys.maxsize):
            raise ValueError("the prompt is longer than the maximum model length")
        if lora_request is not None:
            shown.adapter = lora_request
            self._load_adapter(lora_request)
        self.waiting.append((name, shown, params))

    def _load_adapter(self, request: LoRARequest) -> None:
        from peft import PeftModel

        if not self.args.enable_lora:
            raise ValueError("Got lora_request but LoRA is not enabled!")
        if request.lora_int_id not in self.adapted:
            loaded = PeftModel.from_pretrained(copy.deepcopy(self.module), request.lora_path).eval()
            if max(each.r for each in loaded.peft_config.values()) > self.args.max_lora_rank:
                raise ValueError("the rank is above max_lora_rank")
            self.adapted[request.lora_int_id] = loaded

    def _with_images(self, tokens: list[int], images: list[Any]) -> Shown:
        """One mark of an image is one token, in the place of which vLLM writes all that the processor does."""
        mark = self.tokenizer.convert_tokens_to_ids(self.processor.image_token)
        assert tokens.count(mark) == len(images)
        settings = dict(self.args.mm_processor_kwargs or {})
        marks = self.processor.image_token * len(images)
        found = dict(self.processor(text=[marks], images=[images], return_tensors="pt", images_kwargs=settings))
        written, left = [], list(images)
        for token in tokens:
            own = [token]
            if token == mark:
                one = self.processor(
                    text=[self.processor.image_token], images=[[left.pop(0)]], images_kwargs=dict(settings)
                )
                own = one["input_ids"][0]
            written += own
        pixels = {name: value for name, value in found.items() if name not in TEXT_KEYS}
        return Shown(written, pixels, self.module.config.image_token_id)

    def abort_request(self, names: list[str]) -> None:
        self.waiting = deque(each for each in self.waiting if each[0] not in names)

    @torch.inference_mode()
    def step(self) -> list[Any]:
        """One request from beginning to end."""
        name, shown, params = self.waiting.popleft()
        tokens = shown.tokens
        number = 0 if shown.adapter is None else shown.adapter.lora_int_id
        cached = 0 if params.skip_reading_prefix_cache or shown.pixels else self._cached(tokens, number)
        self.blocks |= {(number, *tokens[:end]) for end in range(BLOCK, len(tokens) + 1, BLOCK)}
        logprobs = self._logprobs(tokens, shown)
        prompt = None
        if params.prompt_logprobs is not None:
            prompt = [None if at <= cached else _entry(logprobs[at - 1], token) for at, token in enumerate(tokens)]
        answer = self._generate(shown, params)
        answer.logprobs = [{token: _entry(logprobs[-1], token)[token] for token in params.logprob_token_ids}]
        return [
            SimpleNamespace(
                request_id=name,
                finished=True,
                outputs=[answer],
                prompt_token_ids=tokens,
                prompt_logprobs=prompt,
                num_cached_tokens=cached,
            )
        ]

    def _cached(self, tokens: list[int], adapter: int) -> int:
        """At least one token is always computed."""
        ends = [end for end in range(BLOCK, len(tokens), BLOCK) if (adapter, *tokens[:end]) in self.blocks]
        return max(ends, default=0)

    def _logprobs(self, tokens: list[int], shown: Shown) -> torch.Tensor:
        ids = torch.tensor([tokens])
        kinds = (ids == shown.image_token).int()
        more = {"mm_token_type_ids": kinds} if "image_grid_thw" in shown.pixels else {}
        module = self.module if shown.adapter is None else self.adapted[shown.adapter.lora_int_id]
        return torch.log_softmax(module(ids, **shown.pixels, **more).logits[0].float(), dim=-1)

    def _generate(self, shown: Shown, params: SamplingParams) -> Any:
        random = torch.Generator().manual_seed(params.seed or 0)
        ends = {self.module.generation_config.eos_token_id, self.tokenizer.eos_token_id, *params.stop_token_ids}
        tokens: list[int] = []
        reason = "length"
        while len(tokens) < params.max_tokens and reason == "length":
            scores = self._logprobs([*shown.tokens, *tokens], shown)[-1]
            if params.allowed_token_ids:
                allowed = torch.tensor(params.allowed_token_ids)
                scores = torch.full_like(scores, float("-inf")).index_copy(0, allowed, scores[allowed])
            if params.temperature > 0:
                token = int(torch.multinomial((scores / params.temperature).softmax(-1), 1, generator=random))
            else:
                token = int(scores.argmax())
            tokens.append(token)
            text = self.tokenizer.decode(tokens, skip_special_tokens=params.skip_special_tokens)
            if token in ends or any(stop in text for stop in params.stop):
                reason = "stop"
        return SimpleNamespace(token_ids=tokens, finish_reason=reason, logprobs=None)


def _entry(logprobs: torch.Tensor, token: int) -> dict[int, Any]:
    value = logprobs[token]
    return {token: SimpleNamespace(logprob=float(value), rank=1 + int((logprobs > value).sum()))}
