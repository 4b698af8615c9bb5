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
import threading
import weakref
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from harness.engine import devices, libraries, memory
from harness.engine.limits import EngineLimits
from harness.engine.outcomes import Assembler, Failed
from harness.engine.prefetch import prefetched
from harness.engine.processor import ImageProcessor
from harness.engine.prompt_encoder import PromptEncoder, TextOptions
from harness.engine.sounds import SoundProcessor
from harness.engine.stops import end_tokens
from harness.engine.tokens import Encoded, GenerateSequence, PlacedImage, ScoreSequence
from harness.errors import ModelError, UsageError
from harness.model import Activity, Forecast, Model
from harness.stopwatch import Seconds
from harness.types import Prompt, Request, RequestKind, Response, Sample

if TYPE_CHECKING:
    from harness.engine.execute import Executor
    from harness.engine.plain import GenerateRow, Piece
    from harness.engine.workers import WorkerPool

log = logging.getLogger(__name__)


class TorchModel(Model):
    """Answers requests with a transformers model in this process. See the module's docstring for what to implement."""

    takes_tools = True
    supports: ClassVar[frozenset[RequestKind]] = frozenset({"loglikelihood", "rolling", "generate"})

    spreads: bool = False
    """Whether one copy of the model lies on all devices, rather than a copy on each."""
    limits: EngineLimits = EngineLimits()
    """The sizes by which its work is cut."""
    matrix_rate: float | None = None
    """Operations a second that its device reaches in products of matrices; known once it is loaded."""

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
        self.processor: ImageProcessor | SoundProcessor | None = None
        self.module: Any = None
        """The model, once it is loaded in this process; None where worker processes have it."""
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

    @classmethod
    def import_libraries(cls) -> None:
        libraries.import_libraries()

    def open_devices(self) -> tuple[str, ...]:
        """The torch devices to use, in order. Raises UsageError for one that is not there."""
        return devices.resolve_devices(self.options.device)

    def open_processor(self) -> ImageProcessor | SoundProcessor | None:
        """Read what makes tensors of images or of sounds; None for a model of text alone."""
        return None

    def prepare(self) -> None:
        libraries.import_libraries()
        self.devices = self.open_devices()
        self.device = self.devices[0]
        self.config = self.open_config()
        self.tokenizer = self.open_tokenizer()
        self.torch_dtype = devices.resolve_dtype(self.dtype, self.config, self.device)
        self.processor = self.open_processor()
        if self.processor is None:
            self.prompts = PromptEncoder(self.config, self.tokenizer, self.text_options, self.where)
            return
        from harness.engine.image_prompts import ImagePromptEncoder

        self.prompts = ImagePromptEncoder(self.config, self.tokenizer, self.text_options, self.where, self.processor)

    def inspect_samples(self, samples: Sequence[Sample]) -> None:
        """Refuse before weights load what would be refused later: generation parameters that would not be obeyed, a
        chat template that takes no such conversation, and requests that are too long where `on_overflow` forbids it."""
        from harness.engine.sampling import sampling_rule

        requests = [request for sample in samples for request in sample.requests]
        for params in {request.generation for request in requests if request.generation is not None}:
            rule = sampling_rule(params, None)
            if rule.num_beams > 1 and (self.prompts.options.thinking.budget or self.processor is not None):
                what = "images" if self.processor is not None else "--thinking_budget"
                raise UsageError(f"generation_kwargs: num_beams={rule.num_beams}: beam search knows no {what}")
        self.prompts.check(requests)

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
        libraries.import_model_classes()
        needed = self.bytes_to_load()
        # Where main memory runs out, the system ends the process without a word: that is worth looking first.
        if needed is not None and needed > memory.free_memory(self.device):
            raise self._too_large(needed)
        from harness.engine.unset_weights import UnsetWeights

        try:
            with UnsetWeights():
                self.module = self.open_model(self.device, self.torch_dtype).eval()
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            raise self._too_large(needed or memory.weight_bytes(self.config, self.torch_dtype.itemsize)) from None
        generation_config = getattr(self.module, "generation_config", None)
        self._stop_ids = end_tokens(getattr(generation_config, "eos_token_id", None), self.tokenizer)
        self.executor = self._make_executor()
        self._notes_at_load = len(self.executor.notes)
        from harness.engine.rate import matrix_rate

        self.matrix_rate = matrix_rate(self.device, self.torch_dtype)

    def bytes_to_load(self) -> int | None:
        """Bytes that the weights will take on the device: 0 where they are there already, or are spread over several;
        None where that is known only once they are loaded."""
        return None

    def _too_large(self, needed: int) -> ModelError:
        cost = memory.TokenCost.of(self.config, self.torch_dtype.itemsize)
        what = memory.too_large(needed, cost, self.prompts.rules.max_length, self.device, self.dtype_name)
        return ModelError(f"{self.where}: {what}")

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        known = None if self.module is None else weakref.ref(self.module)
        self.module = None
        self.__dict__.pop("executor", None)
        if known is not None:
            memory.release(self.device, collect=known() is not None)

    def render(self, prompt: Prompt) -> str:
        return self.prompts.render(prompt)

    def count_tokens(self, text: str) -> int | None:
        return self.prompts.count_tokens(text)

    def describe(self) -> Mapping[str, Any]:
        if self._pool is not None:
            return {**self._pool.description, "device": ", ".join(self.devices), "workers": len(self.devices)}
        import torch
        import transformers

        return {
            "device": self.device,
            "dtype": self.dtype_name,
            "max_length": self.prompts.rules.max_length,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "sharing": self.executor.notes or "prefixes are computed once",
            "parameters": self.module.num_parameters(),
            "weight_bytes": self.module.get_memory_footprint(),
            **{
                f"{kind}_encoded": getattr(self.executor.decoder, "encoded", 0)
                for kind in getattr(self.processor, "rules", ())
            },
        }

    def activity(self) -> Activity | None:
        if self._pool is not None:
            return self._pool.activity
        executor = self.__dict__.get("executor")
        return None if executor is None else Activity(executor.operations, self.matrix_rate)

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
            **self.prompts.identity,
            **({} if self.processor is None else self.processor.rules),
        }

    @property
    def model_family(self) -> Any:
        """The class of transformers that makes a module of this kind, and reads its weights. Known after `prepare`."""
        import transformers

        if isinstance(self.processor, SoundProcessor):
            return transformers.AutoModelForMultimodalLM
        if self.processor is not None:
            return transformers.AutoModelForImageTextToText
        if getattr(self.config, "is_encoder_decoder", False):
            return transformers.AutoModelForSeq2SeqLM
        return transformers.AutoModelForCausalLM

    def forecast(self, requests: Sequence[Request]) -> Forecast:
        """What answering `requests` will compute. Works after `prepare`."""
        began = Seconds.now()
        libraries.import_model_classes()
        from harness.engine.forecast import forecast, probed, unshared_reason
        from harness.engine.stand_in import Original

        unshared_reason(self.config)  # imports the class
        encoded = self.prompts.encode(requests)
        # Workers on a processor share its cores.
        copies = 1 if self.spreads or self.device == "cpu" else len(self.devices)
        opening = Seconds.now().since(began)  # a run does this while it loads, and after
        outlook = forecast(encoded, len(requests), self.config, self.device, self.torch_dtype, copies, self.limits.plan)
        if self.device == "cpu":
            original = Original(
                self.config,
                self.torch_dtype,
                self.tokenizer,
                self.limits,
                self._rows,
                self.model_family,
                self.processor,
            )
            outlook = probed(outlook, encoded, original)
        outlook = replace(outlook, opening=opening + outlook.opening)
        weights = self.bytes_to_load() or memory.weight_bytes(self.config, self.torch_dtype.itemsize)
        cost = memory.TokenCost.of(self.config, self.torch_dtype.itemsize)
        return replace(outlook, memory=memory.outlook(weights, cost, self.device, self.dtype_name))

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        assembler, begun = Assembler(), threading.Event()

        def expected() -> Iterator[Encoded]:
            for portion in self.clock.over("tokens", prefetched(self._portions(requests), begun)):
                assembler.expect(portion)
                yield portion

        for request, part, outcome, seconds in self.pieces(expected()):
            begun.set()
            yield from assembler.start()
            yield from assembler.add(request, part, outcome, seconds)
        yield from assembler.start()

    def _portions(self, requests: Sequence[Request]) -> Iterator[Encoded]:
        """What is asked, so many prompts at a time; at once where several devices are to begin with what takes longest,
        which is what is generated."""
        portions = self.prompts.portions(requests)
        mixed = len({request.kind == "generate" for request in requests}) == 2
        return iter([Encoded.joined(portions)]) if self._pool is not None and mixed else portions

    def pieces(self, portions: Iterable[Encoded]) -> Iterator[Piece]:
        """Outcomes of all sequences, each as soon as it is known, here or in other processes."""
        if self._pool is not None:
            return self._pool.run(portions)
        return self.run_portions(portions)

    def run_sequences(
        self, scores: Sequence[ScoreSequence], generations: Sequence[GenerateSequence]
    ) -> Iterator[Piece]:
        """Compute token sequences on this process's copy of the model."""
        return self.run_portions([Encoded(list(scores), list(generations))])

    def run_portions(self, portions: Iterable[Encoded]) -> Iterator[Piece]:
        """The same for sequences that come a portion at a time."""
        self.executor.time_by(self.clock)
        if self.processor is None:
            yield from self._compute(portions)
            return
        encoded = Encoded.joined(portions)
        images = {(each.request, each.part): each.images for each in encoded.scores if each.images}
        images.update({(each.request, 0): each.images for each in encoded.generations if each.images})
        broken = self._register(images.values())
        for request, part, outcome, seconds in self._compute([encoded]):
            reason = next(
                (broken[image.first] for image in images.get((request, part), ()) if image.first in broken), ""
            )
            yield request, part, Failed(reason) if reason else outcome, seconds

    def _compute(self, portions: Iterable[Encoded]) -> Iterator[Piece]:
        """What is generated begins when all is scored."""
        generations: list[GenerateSequence] = []

        def scores() -> Iterator[Sequence[ScoreSequence]]:
            for portion in portions:
                generations.extend(portion.generations)
                if portion.scores:
                    yield portion.scores

        yield from self.executor.score(scores())
        if generations:
            yield from self.executor.generate([self._generate_row(sequence) for sequence in generations])

    def _register(self, images: Iterable[Sequence[PlacedImage]]) -> Mapping[int, str]:
        """Make images or sounds known to the decoder. Returns where it will say, by their first id, which it could not
        show."""
        from harness.engine.hearing import HearingDecoder
        from harness.engine.vision import VisionDecoder

        decoder = self.executor.decoder
        if not isinstance(decoder, VisionDecoder | HearingDecoder):
            return {}
        distinct = {image.first: image for several in images for image in several}
        decoder.register(distinct.values())
        decoder.check_first(distinct.values())
        return decoder.broken

    @property
    def _rows(self) -> int | None:
        """The most rows of a batch, as the command line allows; None for as many as fit."""
        batch_size, most = self.options.batch_size, self.options.max_batch_size
        return min(batch_size, most or batch_size) if isinstance(batch_size, int) else most

    def _make_executor(self) -> Executor:
        from harness.engine.execute import Executor

        pad = self.tokenizer.pad_token_id
        pad = min(self._stop_ids, default=0) if pad is None else int(pad)
        return Executor(
            self.module, self.device, self.dtype_name, pad, self._rows, self.limits, processor=self.processor
        )

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
            sequence.opened,
        )
        defaults = getattr(self.module, "generation_config", None)
        budget = self.prompts.thinking_budget(sequence.opened)
        return GenerateRow(sequence, rule, sampling_rule(sequence.params, defaults), budget)
