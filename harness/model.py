"""What a model plugin is: it answers requests, in any order, as soon as each is done."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, Self

from harness.errors import UsageError, suggest
from harness.quick import dataclass
from harness.secret import revealed
from harness.stopwatch import Seconds, Stopwatch
from harness.streaming import AskTimed
from harness.types import Prompt, Request, RequestKind, Response, Sample
from harness.words import Phrase, Translate, english, phrase, said

NO_TIME = Seconds()
BY_RATE = phrase("by the rate of one product of matrices, of which half is reached")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What the command line says about how to run any model. None of it may change an answer beyond float noise."""

    batch_size: int | str = "auto"
    max_batch_size: int | None = None
    device: str = "auto"
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a model will compute for a set of requests, known before it loads.

    requests: how many. tokens: of all inputs, were each computed alone. unique_tokens: distinct in the prefix tree.
    planned_tokens: what goes through the model, padding included. new_tokens: at most so many are generated.
    seconds: a rough estimate for the device; processor: the same in seconds of processor, None where that is not known.
    memory: what the model takes of the device, in a line. unshared: why each input is computed alone, in words; empty
    where prefixes are shared. known_by: how the seconds are, as the end of a sentence. opening: that loading takes at
    least, imports and tokens among it. peak_memory: bytes of main memory that the process will have at most.
    is_of_server: another machine computes; then `tokens` and `new_tokens` are what is paid for, and `known_by` says how
    the first are known.
    """

    requests: int
    tokens: int
    unique_tokens: int
    planned_tokens: int
    new_tokens: int
    seconds: float
    memory: str | Phrase = ""
    unshared: str = ""
    known_by: str | Phrase = BY_RATE
    opening: Seconds = NO_TIME
    peak_memory: int | None = None
    is_of_server: bool = False
    processor: float | None = None

    @property
    def text(self) -> str:
        """One line for a person, in English."""
        return self.said(english)

    def said(self, t: Translate) -> str:
        """The same in the language of `t`."""
        if self.is_of_server:
            bounded = self.new_tokens or not self.requests
            most = t("up to {n}", n=f"{self.new_tokens:,}") if bounded else t("no limit on tokens")
            return t(
                "{requests} requests, {tokens} tokens of prompts {how}, {most} of answers",
                requests=f"{self.requests:,}",
                tokens=f"{self.tokens:,}",
                how=said(self.known_by, t),
                most=most,
            )
        generated = t(", up to {n} to generate", n=f"{self.new_tokens:,}") if self.new_tokens else ""
        unshared = t(" (prefixes are not shared: {why})", why=said(self.unshared, t)) if self.unshared else ""
        return t(
            "{requests} requests, {tokens} tokens, {unique} of them distinct, {planned} to compute ({times} x distinct)"
            "{generated}; about {seconds} s of the model, {how}{unshared}",
            requests=f"{self.requests:,}",
            tokens=f"{self.tokens:,}",
            unique=f"{self.unique_tokens:,}",
            planned=f"{self.planned_tokens:,}",
            times=f"{self.planned_tokens / max(1, self.unique_tokens):.2f}",
            generated=generated,
            seconds=f"{self.seconds:,.0f}",
            how=said(self.known_by, t),
            unshared=unshared,
        )


@dataclass(frozen=True, slots=True)
class Activity:
    """How hard a model works, as the board of a run shows it. None where something is not known.

    operations: of floating point, in products of matrices since it was loaded, attention left out. matrix_rate: how
    many a second its device reaches in such products, as measured. places: requests that may be under way at servers at
    once, of which `under_way` are. sent, refused: requests to servers, and those refused for being too many (429).
    granted: requests a second that servers let in, where they refuse more.
    """

    operations: float | None = None
    matrix_rate: float | None = None
    under_way: int | None = None
    places: int | None = None
    sent: int = 0
    refused: int = 0
    granted: float | None = None


GENERATION = frozenset({
    "temperature", "top_p", "top_k", "min_p", "do_sample", "num_beams", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "max_gen_toks", "max_new_tokens", "max_tokens", "until",
})  # fmt: skip
"""What belongs to `--gen_kwargs` and is often given to the model."""


class Model(ABC):
    """Base class of all models. A life has four steps, each called once and in this order:

    1. `__init__`: takes `--model_args` as keywords. Cheap; refuses bad values with `UsageError`.
    2. `prepare`: reads configuration and tokenizer, and refuses what cannot work. Then `inspect_samples`. No
       weights yet.
    3. `load`: loads weights or opens connections. Not called when every answer is already on disk.
    4. `respond`: answers, part after part; a judge is asked again for what could not be read. Then `close`.
    """

    name: ClassVar[str]
    """The name for `--model`."""
    supports: ClassVar[frozenset[RequestKind]]
    """The kinds of request that this model can answer."""
    modalities: ClassVar[frozenset[str]] = frozenset({"text"})
    """Of `text`, `image`, `video`, `audio`: what a prompt may hold."""
    takes_tools: ClassVar[bool] = False
    """Whether prompts may offer functions to call (`Prompt.tools`), which the model shows in its own form."""
    answers_samples: ClassVar[bool] = False
    """True where the answer depends on which sample asks, not on the request alone (`replay`): then two samples with
    one and the same prompt are asked for separately, and `take_samples` says which they are."""
    sees_prompts: ClassVar[bool] = True
    """False where answers are known without a look at the prompt (`replay`): then its images need not be here."""
    aliases: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Other names for `--model`, as other tools have them, and the arguments that each implies; not inherited."""
    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Names of arguments that other tools take, and that change nothing here: they are understood and left out."""
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Arguments that other tools take, and what to write here in their place, as the end of a sentence. One without a
    value (none, false) asks for nothing and is left out."""
    secrets: ClassVar[frozenset[str]] = frozenset()
    """Names of arguments that are never written down: a manifest and a log hold `***` in their place."""

    asks_one_by_one: ClassVar[bool] = False
    """Whether `respond` calls `admits` before each request that it asks."""

    options: ModelOptions = ModelOptions()
    admits: Callable[[], bool | None] = staticmethod(lambda: True)
    """Whether another request may be asked: False where none may be any more, and the rest is to be left without an
    answer; None where that hangs on the answers to those under way."""
    folder: Path | None = None
    """The run's folder while answers go into one, from before `load`: there a model may keep, in a folder of its own,
    what lets it go on where an earlier command stopped."""
    clock: Stopwatch = Stopwatch()
    """A run's own, from before `load`: a model may tell it what its time goes to (`with self.clock.phase("plan")`)."""
    say: Callable[[str], None] = staticmethod(lambda text: None)
    """Tells the user something while the model works, in one line; to be called in the thread that wants answers."""

    @classmethod
    def arguments(cls) -> tuple[Mapping[str, inspect.Parameter], bool]:
        """The arguments of `--model_args` by name, and whether any others are taken, too."""
        # Without an `__init__` of its own a class shows that of `object`, which seems to take anything.
        plain = cls.__init__ is object.__init__
        parameters = {} if plain else inspect.signature(cls.__init__).parameters
        known = {n: p for n, p in parameters.items() if n != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        return known, any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    @classmethod
    def takes(cls, name: str) -> bool:
        """Whether `--model_args` may hold an argument of this name."""
        known, open_ended = cls.arguments()
        return open_ended or name in known

    @classmethod
    def create(cls, args: Mapping[str, Any], options: ModelOptions) -> Self:
        """Build a model from `--model_args`, with an error that names a wrong or missing argument."""
        known, open_ended = cls.arguments()
        idle = {*cls.without_effect, *(name for name in cls.elsewhere if not args.get(name))}
        args = {name: value for name, value in args.items() if name in known or name not in idle}
        for name in args:
            if name not in known and name in cls.elsewhere:
                raise UsageError(f"--model_args: '{name}' of lm-eval is not here: {cls.elsewhere[name]}")
            if name not in known and not open_ended and name in GENERATION:
                raise UsageError(
                    f"--model_args: '{name}' says how answers are generated: write --gen_kwargs {name}={args[name]}"
                )
            if name not in known and not open_ended:
                takes = f"(it takes: {', '.join(known) or 'none'})"
                raise UsageError(
                    f"--model_args: model '{cls.name}' takes no argument '{name}'{suggest(name, known)} {takes}"
                )
        for name in known:
            if known[name].default is inspect.Parameter.empty and name not in args:
                raise UsageError(f"--model_args: model '{cls.name}' needs '{name}', as in --model_args {name}=...")
        model = cls(**revealed(dict(args)))
        model.options = options
        return model

    @classmethod
    def import_libraries(cls) -> None:
        """Import what `prepare` will need, where that takes long. Called, if at all, before a model is made, while the
        run waits for another process; may not fail."""

    def prepare(self) -> None:
        """Read configuration and tokenizer and check that this model can work. Weights stay on disk.

        Raises `UsageError` for whatever can be known now: a folder without tokenizer, an adapter for another base.
        """

    def prepare_to_show(self, chats: bool = False) -> None:
        """In the place of `prepare` where prompts are only shown and their tokens counted: may leave out what takes
        long and is needed for answers alone. chats: whether they are shown as chats; all are strings where not."""
        self.prepare()

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """All that decides this model's answers, as JSON: weights, revision, adapter, dtype. Known after `prepare`.

        Answers on disk are reused exactly when the identity is equal. Batch size and device are no part of it.
        """

    def inspect_samples(self, samples: Sequence[Sample]) -> None:
        """Look at every selected sample, once, after `prepare` and before `load`; most models need not.

        There may be more of them than memory holds: some are made as they are looked at. Raises `UsageError` for
        samples that it cannot answer.
        """

    def take_samples(self, samples: Sequence[Sample]) -> None:
        """Of a model whose answers are those of samples (`answers_samples`): a part of them, which is asked next.

        Called after `load`, or before it, once for each part: until it is called again, `respond` is given the very
        `Request` objects that these samples hold.
        """
        self.inspect_samples(samples)

    def forecast(self, requests: Sequence[Request]) -> Forecast | None:
        """What answering `requests` will compute; None where that cannot be known. Works after `prepare`."""
        return None

    def take_over(self, other: Model) -> None:
        """Keep what `other` has loaded and this model would load again: the base of two adapters, say.

        When several models run one after another, this is called once the earlier one has answered, and before `load`
        (if that is called at all). `other` is closed next. Most models need not.
        """

    def load(self) -> None:
        """Load weights, or open connections. Raises `ModelError`."""

    @abstractmethod
    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        """Yield `(index into requests, response)` in any order, each as soon as it is done.

        What goes wrong with one request is its response's `error`; only what ends all work is raised.
        """

    def activity(self) -> Activity | None:
        """How hard it works just now; None where that is not known. Asked a few times a second while `respond` runs, in
        another thread: reads counters, and nothing else."""
        return None

    def timed(self) -> AbstractAsyncContextManager[AskTimed]:
        """For `harness bench`: asks a server for streamed replies, each exactly once and at once, and times them.

        To be entered after `load`, in the event loop that asks. Raises `UsageError` where this model is no such server.
        """
        raise UsageError(f"model '{self.name}' is no server whose streamed replies can be timed (openai is)")

    def close(self) -> None:
        """Give back memory and connections."""

    def render(self, prompt: Prompt) -> str:
        """The exact string that the model is shown, chat template and prefill included. Works after `prepare`.

        Here, for models with a template of their own elsewhere: the turns, images by their hashes.
        """
        if not prompt.is_chat:
            return prompt.text
        turns = [f"<{message.role}>\n{message.outline}\n" for message in prompt.messages]
        return "".join(turns) + prompt.prefill

    def count_tokens(self, text: str) -> int | None:
        """Tokens in `text`, special tokens that `render` already wrote included; None where it cannot be known."""
        return None

    def describe(self) -> Mapping[str, Any]:
        """What the manifest should say about the model beyond its identity (devices, dtype, versions). After `load`."""
        return {}

    def incidents(self) -> Sequence[Mapping[str, Any]]:
        """What went wrong while it answered and was survived, for the report: JSON, each with one line as its `text`.

        A worker that died, a faster way that had to be given up. What failed a request is that response's error.
        """
        return ()
