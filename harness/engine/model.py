"""The base class of local torch models: a plugin opens files, the engine does the work.

class Mine(TorchModel):
    name = "mine"

    def __init__(self, pretrained: str) -> None:
        super().__init__(pretrained)

    def open_config(self): ...            # a transformers configuration
    def open_tokenizer(self): ...         # a transformers tokenizer
    def open_model(self, device, dtype):  # the module, on `device`, in evaluation mode
        ...

    @property
    def identity(self): ...               # JSON that says which weights these are
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from harness.engine import devices, memory
from harness.engine.chat import ChatTemplate, read_template
from harness.engine.limits import EngineLimits
from harness.engine.outcomes import Assembler, join_windows
from harness.engine.tokens import (
    DEFAULT_MAX_LENGTH,
    OVERFLOW,
    Encoded,
    Encoder,
    GenerateSequence,
    ScoreSequence,
    TokenRules,
    encode_requests,
)
from harness.errors import ModelError, UsageError, suggest
from harness.model import Forecast, Model
from harness.types import Prompt, Request, RequestKind, Response, Sample

if TYPE_CHECKING:
    from harness.engine.execute import Executor
    from harness.engine.plain import GenerateRow, Piece
    from harness.engine.workers import WorkerPool

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextOptions:
    """How texts become tokens and tokens answers. Part of a model's identity.

    max_length: the window in tokens; None reads it from the configuration. add_bos_token, prefix_token_id: None
    leaves them to the tokenizer. chat_template: Jinja text or a file. think_end_token: text or id that ends a
    reasoning block. on_overflow: `truncate` (from the left), `skip` (an error on that sample) or `error`.
    """

    max_length: int | None = None
    add_bos_token: bool | None = None
    prefix_token_id: int | None = None
    chat_template: str | None = None
    chat_template_args: Mapping[str, Any] = field(default_factory=dict)
    think_end_token: str | int | None = None
    on_overflow: str = "truncate"

    def __post_init__(self) -> None:
        if self.on_overflow not in OVERFLOW:
            raise UsageError(
                f"--model_args: unknown on_overflow '{self.on_overflow}'{suggest(self.on_overflow, OVERFLOW)} "
                f"(one of {', '.join(OVERFLOW)})"
            )
        if self.max_length is not None and (not isinstance(self.max_length, int) or self.max_length < 2):
            raise UsageError(f"--model_args: max_length={self.max_length} is not a number of tokens above 1")


class TorchModel(Model):
    """Answers requests with a transformers model in this process. See the module's docstring for what to implement."""

    supports: ClassVar[frozenset[RequestKind]] = frozenset({"loglikelihood", "rolling", "generate"})

    spreads: bool = False
    """Whether one copy of the model lies on all devices, rather than a copy on each."""
    limits: EngineLimits = EngineLimits()
    """The sizes by which its work is cut."""

    def __init__(self, where: str, text: TextOptions | None = None, dtype: str = "auto") -> None:
        """`where` names the model in errors: its folder or id."""
        devices.check_dtype(dtype)
        self.where = where
        self.text_options = text or TextOptions()
        self.dtype = dtype
        self.config: Any = None
        self.tokenizer: Any = None
        self.device = ""
        self.devices: tuple[str, ...] = ()
        self._module: Any = None
        self._pool: WorkerPool | None = None

    @abstractmethod
    def open_config(self) -> Any:
        """Read the configuration. Raises UsageError, one line, when it is not there."""

    @abstractmethod
    def open_tokenizer(self) -> Any:
        """Read the tokenizer. Raises UsageError, one line, when it is not there."""

    @abstractmethod
    def open_model(self, device: str, dtype: Any) -> Any:
        """Load the weights as `dtype` (a torch.dtype) onto `device`."""

    def prepare(self) -> None:
        self.devices = devices.resolve_devices(self.options.device)
        self.device = self.devices[0]
        self.config = self.open_config()
        self.tokenizer = self.open_tokenizer()
        self.torch_dtype = devices.resolve_dtype(self.dtype, self.config, self.device)
        self.chat = ChatTemplate(
            self.tokenizer,
            read_template(self.text_options.chat_template),
            self.text_options.chat_template_args,
            self.where,
        )
        self.rules = self._token_rules()
        self.encoder = Encoder(self.tokenizer, self.rules)

    def inspect_samples(self, samples: Sequence[Sample]) -> None:
        """Refuse before weights load what would be refused later: generation parameters that would not be obeyed, a
        chat template that takes no such conversation, and requests that are too long where `on_overflow` forbids it."""
        from harness.engine.sampling import sampling_rule

        requests = [request for sample in samples for request in sample.requests]
        for params in {request.generation for request in requests if request.generation is not None}:
            sampling_rule(params, None)
        for request in requests[:1]:
            self.render(request.prompt)
        if self.rules.may_refuse:
            encode_requests(self.encoder, requests, self.render, self.where)

    def take_over(self, other: Model) -> None:
        """Keep the worker processes of `other`; each of them keeps what this model can use of what it has loaded."""
        if isinstance(other, TorchModel) and other.devices == self.devices and not (self.spreads or other.spreads):
            self._pool, other._pool = other._pool, None

    def load(self) -> None:
        if len(self.devices) > 1 and not self.spreads:
            from harness.engine.workers import WorkerPool

            pool, self._pool = self._pool, None
            if pool is None:
                pool = WorkerPool(self, self.devices)
            else:
                pool.switch(self)
            self._pool = pool
            return
        needed = self.bytes_to_load()
        # Where main memory runs out, the system ends the process without a word: that is worth looking first.
        if needed is not None and needed > memory.free_memory(self.device):
            raise self._too_large(needed)
        try:
            self._module = self.open_model(self.device, self.torch_dtype).eval()
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            raise self._too_large(needed or memory.weight_bytes(self.config, self.torch_dtype.itemsize)) from None
        self._stop_ids = self._end_tokens()
        self.executor = self._make_executor()
        self._notes_at_load = len(self.executor.notes)

    def bytes_to_load(self) -> int | None:
        """Bytes that the weights will take on the device: 0 where they are there already, or are spread over several;
        None where that is known only once they are loaded."""
        return None

    def _too_large(self, needed: int) -> ModelError:
        cost = memory.TokenCost.of(self.config, self.torch_dtype.itemsize)
        what = memory.too_large(needed, cost, self.rules.max_length, self.device, self.dtype_name)
        return ModelError(f"{self.where}: {what}")

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        self._module = None
        self.__dict__.pop("executor", None)
        if self.device:
            memory.release(self.device)

    def render(self, prompt: Prompt) -> str:
        return self.chat.render(prompt) if prompt.is_chat else prompt.text

    def count_tokens(self, text: str) -> int | None:
        return self.encoder.count(text)

    def describe(self) -> Mapping[str, Any]:
        if self._pool is not None:
            return {**self._pool.description, "device": ", ".join(self.devices), "workers": len(self.devices)}
        import torch
        import transformers

        return {
            "device": self.device,
            "dtype": self.dtype_name,
            "max_length": self.rules.max_length,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "sharing": self.executor.notes or "prefixes are computed once",
            "parameters": self._module.num_parameters(),
            "weight_bytes": self._module.get_memory_footprint(),
        }

    def incidents(self) -> Sequence[Mapping[str, Any]]:
        if self._pool is not None:
            notes, lost = self._pool.notes, [each.to_dict() for each in self._pool.lost]
        else:
            executor = self.__dict__.get("executor")
            notes, lost = ([] if executor is None else executor.notes[self._notes_at_load :]), []
        return [*lost, *({"kind": "sharing", "text": note} for note in notes)]

    @property
    def dtype_name(self) -> str:
        """`float32`, `bfloat16` or `float16`. Known after `prepare`."""
        return str(self.torch_dtype).removeprefix("torch.")

    @property
    def text_identity(self) -> dict[str, Any]:
        """The part of a model's identity that the engine knows: dtype, window, template, token rules."""
        return {
            "dtype": self.dtype_name,
            "max_length": self.rules.max_length,
            "add_bos_token": self.rules.add_bos_token,
            "prefix_token": self.rules.prefix_token,
            "chat_template": self.chat.text,
            "chat_template_args": dict(self.text_options.chat_template_args),
            "think_end_token": self.text_options.think_end_token,
            "on_overflow": self.rules.on_overflow,
        }

    def forecast(self, requests: Sequence[Request]) -> Forecast:
        """What answering `requests` will compute. Works after `prepare`."""
        from harness.engine.forecast import forecast

        encoded = encode_requests(self.encoder, requests, self.render, self.where)
        # Workers on a processor share its cores.
        copies = 1 if self.spreads or self.device == "cpu" else len(self.devices)
        found = forecast(encoded, len(requests), self.config, self.device, self.torch_dtype, copies, self.limits.plan)
        weights = self.bytes_to_load() or memory.weight_bytes(self.config, self.torch_dtype.itemsize)
        cost = memory.TokenCost.of(self.config, self.torch_dtype.itemsize)
        return replace(found, memory=memory.outlook(weights, cost, self.device, self.dtype_name))

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        encoded = encode_requests(self.encoder, requests, self.render, self.where)
        assembler = Assembler(encoded)
        for answer in assembler.start():
            yield self._finished(requests, answer)
        for request, part, outcome, seconds in self._run(encoded):
            for answer in assembler.add(request, part, outcome, seconds):
                yield self._finished(requests, answer)

    def _finished(self, requests: Sequence[Request], answer: tuple[int, Response]) -> tuple[int, Response]:
        index, response = answer
        return (index, join_windows(response)) if requests[index].kind == "rolling" else answer

    def _run(self, encoded: Encoded) -> Iterator[Piece]:
        if self._pool is not None:
            return self._pool.run(encoded)
        return self.run_sequences(encoded.scores, encoded.generations)

    def run_sequences(
        self, scores: Sequence[ScoreSequence], generations: Sequence[GenerateSequence]
    ) -> Iterator[Piece]:
        """Compute token sequences on this process's copy of the model."""
        if scores:
            yield from self.executor.score(scores)
        if generations:
            yield from self.executor.generate([self._generate_row(sequence) for sequence in generations])

    def _make_executor(self) -> Executor:
        from harness.engine.execute import Executor

        batch_size, most = self.options.batch_size, self.options.max_batch_size
        rows = min(batch_size, most or batch_size) if isinstance(batch_size, int) else most
        pad = _pad_token(self.tokenizer, self._stop_ids)
        return Executor(self._module, self.device, self.dtype_name, pad, rows, self.limits)

    def _generate_row(self, sequence: GenerateSequence) -> GenerateRow:
        from harness.engine.plain import GenerateRow
        from harness.engine.sampling import sampling_rule
        from harness.engine.stops import StopRule

        rule = StopRule(
            self.tokenizer,
            sequence.params.until,
            self._stop_ids,
            sequence.max_new_tokens,
            self.text_options.think_end_token,
        )
        defaults = getattr(self._module, "generation_config", None)
        return GenerateRow(sequence, rule, sampling_rule(sequence.params, defaults))

    def _end_tokens(self) -> frozenset[int]:
        stored = getattr(getattr(self._module, "generation_config", None), "eos_token_id", None)
        found = [*(stored if isinstance(stored, list) else [stored]), self.tokenizer.eos_token_id]
        return frozenset(int(token) for token in found if token is not None)

    def _token_rules(self) -> TokenRules:
        options = self.text_options
        prefix = options.prefix_token_id
        for candidate in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            prefix = candidate if prefix is None else prefix
        if prefix is None:
            raise UsageError(
                f"{self.where}: the tokenizer has neither BOS nor EOS, so that nothing can stand before a text without "
                "context: give --model_args prefix_token_id=N"
            )
        return TokenRules(
            max_length=options.max_length or _window(self.config, self.tokenizer),
            prefix_token=prefix,
            add_bos_token=options.add_bos_token,
            on_overflow=options.on_overflow,
            is_encoder_decoder=bool(getattr(self.config, "is_encoder_decoder", False)),
            vocabulary=_smaller_vocabulary(self.config, self.tokenizer),
        )


def _smaller_vocabulary(config: Any, tokenizer: Any) -> int | None:
    """How many tokens the model knows, where its tokenizer knows more: some have spare ones that no text contains."""
    size = getattr(getattr(config, "text_config", None) or config, "vocab_size", None)
    return size if isinstance(size, int) and len(tokenizer) > size else None


def _window(config: Any, tokenizer: Any) -> int:
    """The model's window: what its configuration says, else its tokenizer, else 2,048 tokens, as in lm-eval."""
    text = getattr(config, "text_config", None) or config
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    length = getattr(tokenizer, "model_max_length", None)
    # Tokenizers without a limit say 1e30.
    return int(length) if isinstance(length, int) and length < 10**9 else DEFAULT_MAX_LENGTH


def _pad_token(tokenizer: Any, stop_ids: frozenset[int]) -> int:
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return min(stop_ids, default=0)
