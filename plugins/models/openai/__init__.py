"""`--model openai`: any server that speaks OpenAI's API (vLLM, SGLang, llama.cpp, `transformers serve`, a provider).

    harness --model openai --model_args base_url=http://localhost:8000/v1,model=Qwen/Qwen3-8B --tasks gsm8k

The key is taken from OPENAI_API_KEY or `api_key=`, and is written down nowhere. Log-likelihoods need the completions
API and a server that gives log-probabilities of the prompt; the chat API has none, and is refused for such tasks.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from harness import (
    Activity,
    AskTimed,
    ChatTemplateError,
    Forecast,
    HarnessError,
    Model,
    Prompt,
    Request,
    RequestKind,
    Response,
    Sample,
    Thinking,
    TimedReply,
    UsageError,
    hookimpl,
    sealed,
    shown,
)

from .asking import Asking, Seat
from .background import Background
from .batch_asking import BatchAsking, BatchSeat
from .batch_book import BatchBook
from .batch_server import MOST_REQUESTS
from .client import Client
from .connection import Connection, let_open
from .errors import RequestError, short
from .first_failures import FirstFailures
from .flavours import Flavour, Needs, flavour_of
from .http2 import Http2Connection
from .labels import MOST_TOP, LabelCheck
from .pictures import MOST_BYTES, MOST_FRAME_PIXELS, MOST_PIXELS
from .servers import Servers
from .settings import OPENAI, deployment, read_settings
from .text_length import prompt_tokens
from .timing import TimedSeat
from .wire import has_media

BATCHES = "batches"
_BY_CHAT: frozenset[RequestKind] = frozenset({"generate"})
_BY_LABELS: frozenset[RequestKind] = frozenset({"generate", "loglikelihood"})
# What of a served model's entry in the list of models tells one set of weights from another: vLLM's and SGLang's path
# of the weights, the base of an adapter, llama.cpp's description of the file.
_SERVED = ("root", "parent", "meta")


class OpenAIModel(Model):
    """`--model openai --model_args model=NAME,base_url=URL`.

    model, base_url  what the server calls the model, and the server's address up to `/v1` (default: OPENAI_BASE_URL);
                     several, with commas between them, share the work
    name             what tells this model from others, where the server's name for it does not: a checkpoint's
    api_key          default: the environment's OPENAI_API_KEY
    api              `chat`, `completions`, or `auto`: chat for chat prompts and media, completions for the rest
    num_concurrent   requests under way at once at a server; `auto`: up to 64, as long as replies stay quick
    timeout          seconds for one reply; `total_timeout`: for one sample with all its retries and waits
    max_retries      on 5xx, timeouts and broken connections (6: half a minute to a minute in all, in which a server may
                     start again); `retry_delay`: seconds before the first. A 429 is no try, nor a 503 of a server that
                     answers others: the request waits as asked, within total_timeout
    max_gen_toks     tokens of an answer where the task says nothing (default: 256 by completions, the server's by chat)
    extra_body       further fields of every request, as JSON; `omit`: fields that this server refuses, `+` between them
    stream           ask for replies in pieces; done without asking where a server gives no others
    headers          further headers, as JSON
    verify_certificate  false: trust any; a file or folder: trust these. Default: REQUESTS_CA_BUNDLE, SSL_CERT_FILE
    http2            true: many requests on each connection, where an https server offers HTTP/2 (extra `http2`)
    flavour          what kind of server it is, where that does not show: `vllm`, `sglang`, `llama.cpp`, `ollama`,
                     `lmdeploy`, `tensorrt_llm`, or `openai`: none of these. Fields go by the names that it knows, and
                     what it would drop without a word is refused
    tokenizer        the model's tokenizer, a folder or an id: needed for chat prompts by completions, for texts without
                     context, and to cut prompts to `max_length` tokens
    logprobs         `echo`, `prompt_logprobs`, or `auto`: how the server gives log-probabilities of a prompt
    choices          `top_logprobs`: by the chat API, score options that are labels from the first token of the answer,
                     of which the server says the likeliest `top_logprobs` (20)
    think_end_token  the text that ends a reasoning block, which then does not count as answer
    thinking, reasoning_effort, thinking_budget: as the flags of these names; `thinking_dialect` says in which fields a
                     server takes them: `template`, `enable_thinking`, `thinking`, `reasoning`, `effort`,
                     `ollama`, or `auto`
    max_image_pixels  the longest side of an image; a larger one is scaled to it. max_image_bytes: of its file.
                     max_frame_pixels: of a frame of a video
    batch_api        ask by batches, as the flag of this name; of `batch_requests` questions at most (50,000), looked at
                     every `batch_poll` seconds (60)
    continue_final_message  have the server go on with a prefilled answer (vLLM, SGLang) instead of answering it
    """

    name = "openai"
    supports: ClassVar = frozenset({"loglikelihood", "rolling", "generate"})
    modalities: ClassVar = frozenset({"text", "image", "video", "audio"})
    takes_tools = True
    asks_one_by_one = True
    secrets: ClassVar = frozenset({"api_key", "headers"})
    aliases: ClassVar = {
        "local-chat-completions": {"api": "chat"},
        "openai-chat-completions": {"api": "chat"},
        "local-completions": {"api": "completions"},
        "openai-completions": {"api": "completions"},
    }
    without_effect: ClassVar = frozenset(
        {"tokenized_requests", "tokenizer_backend", "eos_string", "trust_remote_code", "use_fast_tokenizer"}
    )
    elsewhere: ClassVar = {
        "seed": "--seed N draws samples, or --gen_kwargs seed=N gives every request the same one",
        "truncate": "the server knows its window; tokenizer=DIR,max_length=N cuts prompts and counts them",
        "add_bos_token": "the server's own tokenizer begins a text as its model wants",
        "custom_prefix_token_id": "the server's own tokenizer begins a text as its model wants",
        "revision": "tokenizer=DIR names a folder, of one revision",
        "pretrained": "model=NAME is the name that the server knows",
        "ca_cert_path": "SSL_CERT_FILE=FILE names certificates to trust; verify_certificate=false looks at none",
        "auth_token": "api_key=KEY, or OPENAI_API_KEY in the environment",
        "header": 'headers={"NAME": "VALUE"}',
        "max_images": "--limit and the task say what is shown; max_image_pixels=N makes pictures smaller",
    }

    def __init__(
        self,
        model: str,
        base_url: str | Sequence[str] | None = None,
        api_key: str | None = None,
        name: str | None = None,
        api: str = "auto",
        num_concurrent: int | str = "auto",
        timeout: float = 300.0,
        total_timeout: float = 900.0,
        max_retries: int = 6,
        retry_delay: float = 1.0,
        max_gen_toks: int | None = None,
        extra_body: Mapping[str, Any] | str | None = None,
        omit: str | Sequence[str] = (),
        stream: bool = False,
        headers: Mapping[str, str] | str | None = None,
        verify_certificate: bool | str = True,
        tokenizer: str | None = None,
        max_length: int | None = None,
        logprobs: str = "auto",
        choices: str = "none",
        top_logprobs: int = MOST_TOP,
        think_end_token: str | None = None,
        thinking: str = "auto",
        reasoning_effort: str | None = None,
        thinking_budget: int | None = None,
        thinking_dialect: str = "auto",
        continue_final_message: bool = True,
        batch_api: bool = False,
        batch_requests: int = MOST_REQUESTS,
        batch_poll: float = 60.0,
        max_image_pixels: int = MOST_PIXELS,
        max_image_bytes: int = MOST_BYTES,
        max_frame_pixels: int = MOST_FRAME_PIXELS,
        flavour: str = "auto",
        http2: bool | str = False,
    ) -> None:
        settings = read_settings({name: value for name, value in locals().items() if name != "self"})
        self.settings, self.thinking, self.title = settings, settings.thinking, settings.title
        self.address, self.places = settings.addresses[0], settings.places
        self.tokenizer_path, self.max_length = settings.tokenizer, settings.max_length
        self.servers = Servers(settings.addresses, settings.at_one)
        if settings.batch_api:
            self.asks_one_by_one = False  # type: ignore[misc]
        if settings.api == "chat":
            self.supports = _BY_LABELS if settings.scores_labels else _BY_CHAT  # type: ignore[misc]
        self._needs, self._label_check = Needs(), LabelCheck()
        self._batches: BatchAsking | None = None
        self._shown: set[str] = set()
        self._served: Mapping[str, Any] | None = None
        self._background = Background()
        self._asking = Asking(settings, FirstFailures(self.servers.shown), self.render)
        self._connection = (Http2Connection if settings.http2 else Connection)(
            [address.base.geturl() for address in settings.addresses], settings.verify_certificate
        )
        self._client = Client(self.servers, settings, self._connection)

    def prepare(self) -> None:
        """Read the tokenizer, if one was given."""
        if self.tokenizer_path is not None:
            from .tokens import LocalTokenizer

            template_args = self.thinking.template_args
            self._asking.cuts_prompts = self.max_length is not None
            self._asking.tokenizer = LocalTokenizer(
                self.tokenizer_path, self.max_length, self.options.offline, template_args
            )

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which model, asked how. Not the key, the address, or how many requests run at once.

        Which model: its `name`, if the user gave one; else what the server calls it, and what the server says of its
        weights, where it says anything and is there.
        """
        return {
            **self._which(),
            "api": self.settings.api,
            "extra_body": shown(sealed(self.settings.extra_body)),
            "omit": list(self.settings.omit),
            "max_gen_toks": self.settings.max_gen_toks,
            "tokenizer": self.tokenizer_path,
            "max_length": self.max_length,
            "think_end_token": self.settings.think_end_token,
            "continue_final_message": self.settings.continue_final_message,
            **({"thinking": self._asking.thinking_fields} if self._asking.thinking_fields else {}),
            **({"images": self.settings.media.pictures.identity} if "image" in self._shown else {}),
            **({"frames": asdict(self.settings.media.frames)} if "video" in self._shown else {}),
            **({"sounds": asdict(self.settings.media.sounds)} if "audio" in self._shown else {}),
            **({"choices": self.settings.top_logprobs} if self.settings.scores_labels else {}),
            **({} if self.settings.flavour is None else {"flavour": self._asking.flavour.name}),
        }

    def _which(self) -> Mapping[str, Any]:
        if self.title is not None:
            return {"name": self.title}
        return {"model": self._asking.model, **deployment(self.address), **self._served_identity()}

    def inspect_samples(self, samples: Sequence[Sample]) -> None:
        """Refuse what the API in use cannot answer, before anything runs."""
        for sample in samples:
            for request in sample.requests:
                self._refuse_impossible(request, sample.task, sample.subset)
                scores_prompt = request.kind != "generate" and not self.settings.scores_labels
                by_chat, prompt = self._asking.by_chat(request), request.prompt
                continues = bool(prompt.prefill) and by_chat and self.settings.continue_final_message
                is_rendered = request.kind == "generate" and prompt.is_chat and not by_chat
                as_ids = is_rendered and self.tokenizer_path is not None
                self._needs.note(request, sample.task, scores_prompt=scores_prompt, continues=continues, as_ids=as_ids)
                self._shown.update(media.kind for media in request.prompt.shown_media)
        if self.thinking != Thinking():
            self._check_thinking([request for sample in samples for request in sample.requests])
        self._needs.check(self._asking.flavour)

    def load(self) -> None:
        """See whether the server is there."""
        if self.address.shown == OPENAI and not self.settings.opens_server:
            raise UsageError("no key for api.openai.com: set OPENAI_API_KEY, or name a server of your own by base_url=")
        if (most := let_open(self.places.most)) < self.places.most:
            self.say(
                f"this system lets a process have about {most} connections (ulimit -Hn): num_concurrent is too high"
            )
        self._run(self._client.check())
        for problem in self._client.absent:
            self.say(f"{problem}; the others are asked")
        if self.settings.flavour is None:
            self._take_flavour(flavour_of(self._client.listings, short(self._asking.model)))
        if (
            self.folder is not None
            and not self.settings.batch_api
            and (left := BatchBook(self.folder / BATCHES).under_way)
        ):
            names = ", ".join(batch.batch or batch.file for batch in left)
            self.say(f"{names}: under way since an earlier command, and paid for: --batch_api fetches the answers")

    def _take_flavour(self, found: Flavour) -> None:
        """Ask as this kind of server wants it. Raises UsageError for what it cannot do."""
        self._needs.check(found)
        if self._asking.thinking_fields and found.thinking not in ("template", self.settings.thinking_dialect):
            raise UsageError(
                f"{self.thinking.flags}: this is {found.title}, which is told in fields of its own: "
                f"--model_args flavour={found.name}"
            )
        self._asking.flavour = found

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        if self.settings.batch_api:
            yield from self._respond_by_batches(requests)
            return
        questions = len(requests)

        async def ask(index: int, request: Request) -> Response:
            return await self._asking.answer(request, Seat(index, self.places, self._client), questions)

        def say_what_is_waited_for() -> None:
            if waits := self._client.waits():
                self.say(waits)

        quiet, admits = say_what_is_waited_for, self.admits
        yield from self._background.answers(ask, requests, self.places, quiet, self._connection, admits)

    def _respond_by_batches(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        if self._batches is None:
            if self.folder is None:
                raise UsageError("--batch_api: what is sent is written down in the folder of a run, and there is none")
            folder, retries = self.folder / BATCHES, self.settings.retries.retries
            self._batches = BatchAsking(
                self._client, folder, retries, self.settings.batch_requests, self.settings.batch_poll, self.say
            )
            self._batches.begin(self._run)
        asking = self._batches

        async def answer(request: Request, asked: BatchSeat) -> Response:
            if asking.has_answers:
                self._asking.first_failures.answered()
            return await self._asking.answer(request, asked, len(requests))

        yield from asking.answers(requests, answer, self._run)

    @contextlib.asynccontextmanager
    async def timed(self) -> AsyncIterator[AskTimed]:
        """Asks the servers in turn, for replies in pieces, and tries nothing twice."""
        if self.settings.batch_api:
            raise UsageError("--batch_api: batches are not answered while one waits, so nothing can be timed")
        self._asking.stream = True
        turns = itertools.cycle(self.servers.all)

        async def ask(request: Request) -> TimedReply:
            seat = TimedSeat(self._client, next(turns))
            try:
                response = await self._asking.ask(request, seat, send_stops=self.settings.think_end_token is None)
            except RequestError as error:
                response = Response(error=f"{error} ({error.remedy})" if error.remedy else str(error))
            return seat.reply(response, self.count_tokens)

        async with self._connection:
            yield ask

    def close(self) -> None:
        self._background.close()
        if self._batches is not None:
            self._batches.close()

    def render(self, prompt: Prompt) -> str:
        if self._asking.tokenizer is not None and self._asking.tokenizer.has_chat_template:
            return self._asking.tokenizer.render(prompt)
        return super().render(prompt)

    def count_tokens(self, text: str) -> int | None:
        return None if self._asking.tokenizer is None else self._asking.tokenizer.count(text)

    def forecast(self, requests: Sequence[Request]) -> Forecast:
        """Tokens that are sent and may come back, for what they cost. Each continuation sends its prompt."""
        one = self.settings.scores_labels
        times = [1 if one or each.kind == "generate" else max(1, len(each.continuations)) for each in requests]
        counts = [prompt_tokens(self.render(each.prompt), self.count_tokens) for each in requests]
        limits = [self._asking.most_tokens(each) for each in requests]
        sent = sum(count * number for count, number in zip(counts, times, strict=True))
        return Forecast(
            requests=sum(times),
            tokens=sent,
            unique_tokens=sent,
            planned_tokens=sent,
            new_tokens=0 if None in limits else sum(n * (limit or 0) for n, limit in zip(times, limits, strict=True)),
            seconds=0.0,
            known_by="by the tokenizer" if self._asking.tokenizer is not None else "(estimated from their characters)",
            is_of_server=True,
        )

    def activity(self) -> Activity | None:
        if self.settings.batch_api:
            return None
        servers = self.servers.all
        paces = [server.pace for server in servers]
        limited = sum(pace.rate for pace in paces)
        return Activity(
            under_way=sum(server.under_way for server in servers),
            places=int(self.places.size),
            sent=sum(pace.sent for pace in paces),
            refused=sum(pace.refusals for pace in paces),
            granted=limited if limited < float("inf") else None,
        )

    def describe(self) -> Mapping[str, Any]:
        served = list(self._client.known_models[:20])
        return {"base_url": self.servers.shown, "flavour": self._asking.flavour.name, "served_models": served}

    def _run(self, work: Any) -> Any:
        async def connected() -> Any:
            async with self._connection:
                return await work

        return self._background.run(connected())

    def _served_identity(self) -> Mapping[str, Any]:
        """What the server says of the weights behind the model's name; nothing where it is silent, or not there."""
        if self._served is None:
            listings: list[dict[str, Any]] = []
            if self.address.shown != OPENAI and not self.options.offline:
                with contextlib.suppress(HarnessError):  # `load` says so, if an answer is needed
                    self._run(self._client.check())
                    listings = self._client.listings
            told = [self._told_of(listing.get(short(self._asking.model), {})) for listing in listings]
            if any(each != told[0] for each in told):
                raise UsageError(
                    f"{self.servers.shown}: they have different weights under the name '{self._asking.model}'"
                )
            self._served = told[0] if told else {}
        return {"served": self._served} if self._served else {}

    def _told_of(self, entry: Any) -> dict[str, Any]:
        told = {name: entry.get(name) for name in _SERVED} if isinstance(entry, Mapping) else {}
        return {name: value for name, value in told.items() if value and value != self._asking.model}

    def _refuse_impossible(self, request: Request, task: str, subset: str) -> None:
        scores, prompt = request.kind != "generate", request.prompt
        if scores and self.settings.scores_labels:
            self._label_check.check(request, task, subset)
        elif scores and self.settings.api == "chat":
            raise UsageError(
                f"task '{task}' needs log-likelihoods, which the chat API does not give: "
                "use --model_args api=completions, or a variant of the task that generates, or, for options with "
                "letters, choices=top_logprobs"
            )
        if scores and self.settings.batch_api and not self.settings.scores_labels:
            raise UsageError(
                f"--batch_api: task '{task}' needs log-likelihoods of its prompts, which take several questions one "
                "after another: use api=chat,choices=top_logprobs for options with letters, or a variant that generates"
            )
        beams = dict(request.generation.extra).get("num_beams", 1) if request.generation else 1
        if beams != 1:
            raise UsageError(f"generation_kwargs: num_beams={beams}: servers of OpenAI's API do no beam search")
        if self._asking.by_chat(request):
            return
        if has_media(prompt):
            raise UsageError(
                f"task '{task}' shows images or clips, which the completions API does not take: use api=chat"
            )
        if prompt.is_chat and (self._asking.tokenizer is None or not self._asking.tokenizer.has_chat_template):
            raise ChatTemplateError(
                f"task '{task}' has chat prompts, which the completions API takes only as text: give the model's "
                "tokenizer and chat template (--model_args tokenizer=DIR), or run without --apply_chat_template"
            )

    def _check_thinking(self, requests: Sequence[Request]) -> None:
        """Refuse what cannot be said of reasoning by the API in use."""
        asked = [request for request in requests if not self._asking.by_chat(request)]
        if any(not request.prompt.is_chat for request in asked):
            raise UsageError(f"{self.thinking.flags}: prompts go as they are by the completions API: use api=chat")
        if asked and self.thinking.budget is not None:
            raise UsageError("--thinking_budget: the completions API takes none: use --model_args api=chat")
        self.thinking.check_lengths(requests)

    def incidents(self) -> Sequence[Mapping[str, Any]]:
        asking = self._asking
        what = f"{asking.bounded} of {asking.labels} labels were not among the likeliest {self.settings.top_logprobs}"
        bounds = [{"kind": "choices", "text": f"{what} tokens: their probability is a bound from above"}]
        return [*asking.obedience.doubts(), *asking.tool_use.doubts(), *(bounds if asking.bounded else ())]


@hookimpl
def harness_models() -> list[type[Model]]:
    from .started import models

    return [OpenAIModel, *models()]
