"""`--model openai`: any server that speaks OpenAI's API (vLLM, SGLang, llama.cpp, `transformers serve`, a provider).

    harness --model openai --model_args base_url=http://localhost:8000/v1,model=Qwen/Qwen3-8B --tasks gsm8k

The key is taken from OPENAI_API_KEY or `api_key=`, and is written down nowhere. Log-likelihoods need the completions
API and a server that gives log-probabilities of the prompt; the chat API has none, and is refused for such tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from harness import (
    Activity,
    AskTimed,
    ChatTemplateError,
    DataError,
    Forecast,
    GenerationParams,
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
    secrets_in,
    secrets_of_url,
    shown,
)

from .background import Background
from .batch_asking import BatchAsking, BatchSeat
from .batch_book import BatchBook
from .batch_server import MOST_REQUESTS
from .client import Client
from .connection import Connection, let_open
from .errors import RequestError, short, wants_stream
from .first_failures import FirstFailures
from .flavours import PLAIN, Flavour, Needs, flavour_of, read_flavour
from .http2 import Http2Connection
from .labels import MOST_TOP, LabelCheck, label_fields, label_response
from .pace import Pace, Places, rested
from .pictures import MOST_BYTES, MOST_FRAME_BYTES, MOST_FRAME_PIXELS, MOST_PIXELS, PictureRule
from .replies import ChatReply, CompletionReply, Whole, read_reply
from .servers import Servers
from .settings import (
    OPENAI,
    deployment,
    flag,
    json_object,
    names_secret,
    number,
    one_of,
    read_addresses,
    read_headers,
    read_key,
    read_max_length,
    read_places,
    read_retries,
    whole,
)
from .sounds import SoundRule
from .text_length import prompt_tokens
from .thinking import DIALECTS as THINKING_DIALECTS
from .thinking import Obedience, ToolUse, dialect_of, thinking_fields
from .timing import TimedSeat
from .wire import (
    MediaRules,
    chat_messages,
    chat_response,
    completion_response,
    finish,
    has_media,
    sampling_fields,
    stopped_in_reasoning,
)

if TYPE_CHECKING:
    from .scoring import Dialects
    from .tokens import LocalTokenizer

Made = TypeVar("Made")

BATCHES = "batches"
APIS = ("auto", "chat", "completions")
DIALECTS = ("auto", "echo", "prompt_logprobs")
CHOICES = ("none", "top_logprobs")
DEFAULT_MAX_TOKENS = 256
_BY_CHAT: frozenset[RequestKind] = frozenset({"generate"})
_BY_LABELS: frozenset[RequestKind] = frozenset({"generate", "loglikelihood"})
# What of a served model's entry in the list of models tells one set of weights from another: vLLM's and SGLang's path
# of the weights, the base of an adapter, llama.cpp's description of the file.
_SERVED = ("root", "parent", "meta")


@dataclass(frozen=True, slots=True)
class Seat:
    """One sample's request on its way: its number among the others, and its place, which it leaves while it waits."""

    index: int
    places: Places

    client: Client

    async def post(self, route: str, body: Mapping[str, Any], read: Callable[[bytes, str], Made]) -> Made:
        """What `read` makes of the server's reply to a body. Raises RequestError, ModelError."""
        return await self.client.post(route, body, read, self._rest)

    async def _rest(self, most: float, least: float, pace: Pace) -> float:
        self.places.give()
        seconds = await rested(most, least, pace)
        await self.places.take(self.index)
        return seconds


Way = Seat | BatchSeat | TimedSeat
"""How a question gets to the server: at once, by a batch, or once and timed."""


class OpenAIModel(Model):
    """`--model openai --model_args model=NAME,base_url=URL`.

    model, base_url  what the server calls the model, and the server's address up to `/v1` (default: OPENAI_BASE_URL);
                     several, with commas between them, share the work
    name             what tells this model from others, where the server's name for it does not: a checkpoint's
    api_key          default: the environment's OPENAI_API_KEY
    api              `chat`, `completions`, or `auto`: chat for chat prompts and media, completions for the rest
    num_concurrent   requests under way at once at a server; `auto`: up to 64, as long as replies stay quick
    timeout          seconds for one reply; `total_timeout`: for one sample with all its retries and waits
    max_retries      on 5xx, timeouts and broken connections; `retry_delay`: seconds before the first. A 429 is no try:
                     the request waits as the server asks, within total_timeout
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
    continue_final_message  ask the server to go on with a prefilled answer (vLLM, SGLang) instead of answering it
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
        max_retries: int = 5,
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
        self.model = str(model)
        addresses, implied = read_addresses(base_url)
        self.address = addresses[0]
        self.title = None if name is None else str(name)
        self.api = one_of("api", implied if api == "auto" and implied else api, APIS)
        self.dialect = one_of("logprobs", logprobs, DIALECTS)
        self.places, at_one = read_places(num_concurrent, len(addresses))
        self.servers = Servers(addresses, at_one)
        patience = number("timeout", timeout, 0.001)
        retries = read_retries(total_timeout, max_retries, retry_delay)
        self.max_gen_toks = None if max_gen_toks is None else whole("max_gen_toks", max_gen_toks, 1)
        self.max_length = read_max_length(max_length, tokenizer)
        self.extra_body = json_object("extra_body", extra_body)
        self.omit = tuple(omit.split("+")) if isinstance(omit, str) else tuple(omit)
        self.stream = flag("stream", stream)
        self.tokenizer_path = None if tokenizer is None else str(tokenizer)
        self.think_end_token = think_end_token
        self.thinking = Thinking.of(thinking, reasoning_effort, thinking_budget)
        told = one_of("thinking_dialect", thinking_dialect, THINKING_DIALECTS)
        named = read_flavour(str(flavour))
        self.flavour, self._finds_flavour = named or PLAIN, named is None
        self._needs = Needs()
        if told == "auto":
            told = named.thinking if named not in (None, PLAIN) else dialect_of(self.address.base.hostname or "")
        self._thinking_dialect, self._thinking_fields = told, thinking_fields(self.thinking, told)
        self._obedience, self._tool_use, self._label_check = Obedience(self.thinking), ToolUse(), LabelCheck()
        self.batch_api = flag("batch_api", batch_api)
        if self.batch_api:
            self.asks_one_by_one = False  # type: ignore[misc]
        self.batch_requests = whole("batch_requests", batch_requests, 1)
        self.batch_poll = number("batch_poll", batch_poll, 0.001)
        self._batches: BatchAsking | None = None
        self._retries = retries
        if self.batch_api and len(addresses) > 1:
            raise UsageError("--batch_api: a batch is of one server: name one by base_url=")
        if self.batch_api and self.stream:
            raise UsageError("--batch_api: a batch has no replies in pieces: leave stream=true out")
        self.continue_final_message = flag("continue_final_message", continue_final_message)
        self.media = MediaRules(
            PictureRule(max_image_pixels, max_image_bytes),
            PictureRule(max_frame_pixels, MOST_FRAME_BYTES),
            SoundRule(),
        )
        self.scores_labels = one_of("choices", choices, CHOICES) == "top_logprobs"
        self.top_logprobs = whole("top_logprobs", top_logprobs, 2)
        self._bounded = self._labels = 0
        if self.scores_labels and self.api != "chat":
            raise UsageError("--model_args: choices=top_logprobs is of the chat API: add api=chat")
        if self.api == "chat":
            self.supports = _BY_LABELS if self.scores_labels else _BY_CHAT  # type: ignore[misc]
        key, further = read_key(api_key), read_headers(headers)
        self._opens_itself = key is not None or bool(further) or names_secret(self.address)
        self._shown: set[str] = set()
        self._length_field = "max_tokens"
        self._send_stops = True
        self._tokenizer: LocalTokenizer | None = None
        self._dialects: Dialects | None = None
        self._served: Mapping[str, Any] | None = None
        self._first_failures = FirstFailures(self.servers.shown)
        self._background = Background()
        urls = [address.base.geturl() for address in addresses]
        self._connection = (Http2Connection if flag("http2", http2) else Connection)(urls, verify_certificate)
        others = [*secrets_in(sealed(self.extra_body)), *(each for url in urls for each in secrets_of_url(url))]
        self._client = Client(
            self.servers, key, further, others, patience, retries, self._connection, self.places, omitted=self.omit
        )

    def prepare(self) -> None:
        """Read the tokenizer, if one was given."""
        if self.tokenizer_path is not None:
            from .tokens import LocalTokenizer

            self._tokenizer = LocalTokenizer(
                self.tokenizer_path, self.max_length, self.options.offline, self.thinking.template_args
            )

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which model, asked how. Not the key, the address, or how many requests run at once.

        Which model: its `name`, if the user gave one; else what the server calls it, and what the server says of its
        weights, where it says anything and is there.
        """
        return {
            **self._which(),
            "api": self.api,
            "extra_body": shown(sealed(self.extra_body)),
            "omit": list(self.omit),
            "max_gen_toks": self.max_gen_toks,
            "tokenizer": self.tokenizer_path,
            "max_length": self.max_length,
            "think_end_token": self.think_end_token,
            "continue_final_message": self.continue_final_message,
            **({"thinking": self._thinking_fields} if self._thinking_fields else {}),
            **({"images": self.media.pictures.identity} if "image" in self._shown else {}),
            **({"frames": asdict(self.media.frames)} if "video" in self._shown else {}),
            **({"sounds": asdict(self.media.sounds)} if "audio" in self._shown else {}),
            **({"choices": self.top_logprobs} if self.scores_labels else {}),
            **({} if self._finds_flavour else {"flavour": self.flavour.name}),
        }

    def _which(self) -> Mapping[str, Any]:
        if self.title is not None:
            return {"name": self.title}
        return {"model": self.model, **deployment(self.address), **self._served_identity()}

    def inspect_samples(self, samples: Sequence[Sample]) -> None:
        """Refuse what the API in use cannot answer, before anything runs."""
        for sample in samples:
            for request in sample.requests:
                self._refuse_impossible(request, sample.task, sample.subset)
                scores_prompt = request.kind != "generate" and not self.scores_labels
                self._needs.note(request, sample.task, scores_prompt=scores_prompt)
                self._shown.update(media.kind for media in request.prompt.shown_media)
        if self.thinking != Thinking():
            self._check_thinking([request for sample in samples for request in sample.requests])
        self._needs.check(self.flavour)

    def load(self) -> None:
        """See whether the server is there."""
        if self.address.shown == OPENAI and not self._opens_itself:
            raise UsageError("no key for api.openai.com: set OPENAI_API_KEY, or name a server of your own by base_url=")
        if (most := let_open(self.places.most)) < self.places.most:
            self.say(
                f"this system lets a process have about {most} connections (ulimit -Hn): num_concurrent is too high"
            )
        self._run(self._client.check())
        for problem in self._client.absent:
            self.say(f"{problem}; the others are asked")
        if self._finds_flavour:
            self._take_flavour(flavour_of(self._client.listings))
        if self.folder is not None and not self.batch_api and (left := BatchBook(self.folder / BATCHES).under_way):
            names = ", ".join(batch.batch or batch.file for batch in left)
            self.say(f"{names}: under way since an earlier command, and paid for: --batch_api fetches the answers")

    def _take_flavour(self, found: Flavour) -> None:
        """Ask as this kind of server wants it. Raises UsageError for what it cannot do."""
        self._needs.check(found)
        if self._thinking_fields and found.thinking not in ("template", self._thinking_dialect):
            raise UsageError(
                f"{self.thinking.flags}: this is {found.title}, which is told in fields of its own: "
                f"--model_args flavour={found.name}"
            )
        self.flavour = found

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        if self.batch_api:
            yield from self._respond_by_batches(requests)
            return
        questions = len(requests)

        async def ask(index: int, request: Request) -> Response:
            return await self._answer(request, Seat(index, self.places, self._client), questions)

        def say_what_is_waited_for() -> None:
            if waits := self._client.waits():
                self.say(waits)

        quiet, admits = say_what_is_waited_for, self.admits
        yield from self._background.answers(ask, requests, self.places, quiet, self._connection, admits)

    def _respond_by_batches(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        if self._batches is None:
            if self.folder is None:
                raise UsageError("--batch_api: what is sent is written down in the folder of a run, and there is none")
            folder, retries = self.folder / BATCHES, self._retries.retries
            self._batches = BatchAsking(self._client, folder, retries, self.batch_requests, self.batch_poll, self.say)
            self._batches.begin(self._run)
        asking = self._batches

        async def answer(request: Request, asked: BatchSeat) -> Response:
            if asking.has_answers:
                self._first_failures.answered()
            return await self._answer(request, asked, len(requests))

        yield from asking.answers(requests, answer, self._run)

    @contextlib.asynccontextmanager
    async def timed(self) -> AsyncIterator[AskTimed]:
        """Asks the servers in turn, for replies in pieces, and tries nothing twice."""
        if self.batch_api:
            raise UsageError("--batch_api: batches are not answered while one waits, so nothing can be timed")
        self.stream = True
        turns = itertools.cycle(self.servers.all)

        async def ask(request: Request) -> TimedReply:
            seat = TimedSeat(self._client, next(turns))
            try:
                response = await self._ask(request, seat, send_stops=self.think_end_token is None)
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
        if self._tokenizer is not None and self._tokenizer.has_chat_template:
            return self._tokenizer.render(prompt)
        return super().render(prompt)

    def count_tokens(self, text: str) -> int | None:
        return None if self._tokenizer is None else self._tokenizer.count(text)

    def forecast(self, requests: Sequence[Request]) -> Forecast:
        """Tokens that are sent and may come back, for what they cost. Each continuation sends its prompt."""
        one = self.scores_labels
        times = [1 if one or each.kind == "generate" else max(1, len(each.continuations)) for each in requests]
        counts = [prompt_tokens(self.render(each.prompt), self.count_tokens) for each in requests]
        asked = [each.generation for each in requests if each.kind == "generate"]
        limits = [(each and each.max_new_tokens) or self.max_gen_toks for each in asked]
        sent = sum(count * number for count, number in zip(counts, times, strict=True))
        return Forecast(
            requests=sum(times),
            tokens=sent,
            unique_tokens=sent,
            planned_tokens=sent,
            new_tokens=0 if None in limits else sum(limit or 0 for limit in limits),
            seconds=0.0,
            known_by="by the tokenizer" if self._tokenizer is not None else "(estimated from their characters)",
            is_of_server=True,
        )

    def activity(self) -> Activity | None:
        if self.batch_api:
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
        return {"base_url": self.servers.shown, "flavour": self.flavour.name, "served_models": served}

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
            told = [self._told_of(listing.get(short(self.model), {})) for listing in listings]
            if any(each != told[0] for each in told):
                raise UsageError(f"{self.servers.shown}: they have different weights under the name '{self.model}'")
            self._served = told[0] if told else {}
        return {"served": self._served} if self._served else {}

    def _told_of(self, entry: Any) -> dict[str, Any]:
        told = {name: entry.get(name) for name in _SERVED} if isinstance(entry, Mapping) else {}
        return {name: value for name, value in told.items() if value and value != self.model}

    def _refuse_impossible(self, request: Request, task: str, subset: str) -> None:
        scores, prompt = request.kind != "generate", request.prompt
        if scores and self.scores_labels:
            self._label_check.check(request, task, subset)
        elif scores and self.api == "chat":
            raise UsageError(
                f"task '{task}' needs log-likelihoods, which the chat API does not give: "
                "use --model_args api=completions, or a variant of the task that generates, or, for options with "
                "letters, choices=top_logprobs"
            )
        if scores and self.batch_api and not self.scores_labels:
            raise UsageError(
                f"--batch_api: task '{task}' needs log-likelihoods of its prompts, which take several questions one "
                "after another: use api=chat,choices=top_logprobs for options with letters, or a variant that generates"
            )
        beams = dict(request.generation.extra).get("num_beams", 1) if request.generation else 1
        if beams != 1:
            raise UsageError(f"generation_kwargs: num_beams={beams}: servers of OpenAI's API do no beam search")
        if self._by_chat(request):
            return
        if has_media(prompt):
            raise UsageError(
                f"task '{task}' shows images or clips, which the completions API does not take: use api=chat"
            )
        if prompt.is_chat and (self._tokenizer is None or not self._tokenizer.has_chat_template):
            raise ChatTemplateError(
                f"task '{task}' has chat prompts, which the completions API takes only as text: give the model's "
                "tokenizer and chat template (--model_args tokenizer=DIR), or run without --apply_chat_template"
            )

    def _check_thinking(self, requests: Sequence[Request]) -> None:
        """Refuse what cannot be said of reasoning by the API in use."""
        asked = [request for request in requests if not self._by_chat(request)]
        if any(not request.prompt.is_chat for request in asked):
            raise UsageError(f"{self.thinking.flags}: prompts go as they are by the completions API: use api=chat")
        if asked and self.thinking.budget is not None:
            raise UsageError("--thinking_budget: the completions API takes none: use --model_args api=chat")
        self.thinking.check_lengths(requests)

    def incidents(self) -> Sequence[Mapping[str, Any]]:
        what = f"{self._bounded} of {self._labels} labels were not among the likeliest {self.top_logprobs} tokens"
        bounds = [{"kind": "choices", "text": f"{what}: their probability is a bound from above"}]
        return [*self._obedience.doubts(), *self._tool_use.doubts(), *(bounds if self._bounded else ())]

    def _by_chat(self, request: Request) -> bool:
        if self.api != "auto" or request.kind != "generate":
            return self.api == "chat"
        return request.prompt.is_chat or has_media(request.prompt)

    async def _answer(self, request: Request, asked: Way, questions: int) -> Response:
        started = time.monotonic()
        try:
            answer = self._generate if request.kind == "generate" else self._score
            response = await answer(request, asked)
            self._first_failures.answered()
        except RequestError as error:
            self._first_failures.failed(error, questions)
            remedy = f" ({error.remedy})" if error.remedy else ""
            response = Response(error=f"{error}{remedy}", finish_reason="refused" if error.withheld else None)
        return replace(response, seconds=time.monotonic() - started)

    async def _score_labels(self, request: Request, asked: Way) -> Response:
        messages = await self._messages(request.prompt)
        body = {**self._thinking_fields, **label_fields(self.top_logprobs), "messages": messages}
        has_given = self._labels > 0
        response, missing = await self._post_chat(
            body, 1, asked, lambda reply: label_response(reply, request.continuations, has_given=has_given)
        )
        self._bounded += missing
        self._labels += len(request.continuations)
        return response

    def _score(self, request: Request, asked: Way) -> Awaitable[Response]:
        if self.scores_labels:
            return self._score_labels(request, asked)
        from .scoring import Dialects, PromptScorer

        self._dialects = self._dialects or Dialects(self.dialect, self.flavour.scores)

        async def post(body: Mapping[str, Any]) -> CompletionReply:
            return await self._post("completions", body, asked, CompletionReply, lambda reply: reply)

        return PromptScorer(post, self._tokenizer, self._dialects).score(request)

    async def _generate(self, request: Request, asked: Way) -> Response:
        """An answer. A stop sequence that fell within the reasoning ended no answer: then it is asked for without."""
        params = request.generation or GenerationParams()
        sends = self._send_stops and self.think_end_token is None
        response = await self._ask(request, asked, send_stops=sends)
        if sends and any(params.until) and stopped_in_reasoning(response):
            first, response = response, await self._ask(request, asked, send_stops=False)
            response = _with_cost_of(first, response)
            reasons = response.reasoning or stopped_in_reasoning(replace(response, text=(response.text or "")[:200]))
            # What lies in batches by now was asked with them, and is found by what was sent.
            if reasons and not self.batch_api:
                self._send_stops = False
        if response.error:
            return response
        finished = finish(response, params.until, self.think_end_token, opened=self._opens_reasoning(request))
        self._obedience.saw(finished)
        if request.prompt.tools:
            self._tool_use.saw(request.prompt.tools, finished)
        return finished

    def _opens_reasoning(self, request: Request) -> bool:
        """Whether the answer begins within reasoning: as the run asks, or as the chat template shows."""
        if self.thinking.mode == "on":
            return True
        if self._tokenizer is None or not request.prompt.is_chat:
            return False
        return self.render(request.prompt).rstrip().endswith(("<think>", "<thinking>", "[THINK]", "<thought>"))

    def _ask(self, request: Request, asked: Way, *, send_stops: bool) -> Awaitable[Response]:
        params = request.generation or GenerationParams()
        body = self.flavour.sampling(sampling_fields(params, send_stops=send_stops), drawn=params.do_sample)
        ask = self._ask_chat if self._by_chat(request) else self._ask_completions
        return ask(request, body, params.max_new_tokens or self.max_gen_toks, asked)

    async def _messages(self, prompt: Prompt) -> list[dict[str, Any]]:
        if not has_media(prompt):
            return chat_messages(prompt)
        try:  # to read and to scale images takes its time, in which replies come
            return await asyncio.to_thread(chat_messages, prompt, self.media)
        except DataError as error:
            raise RequestError(str(error)) from error

    async def _ask_chat(self, request: Request, body: dict[str, Any], length: int | None, asked: Way) -> Response:
        body = {**self._thinking_fields, **body, "messages": await self._messages(request.prompt)}
        if request.prompt.tools:
            body["tools"] = json.loads(request.prompt.tools)
        if request.prompt.prefill and self.continue_final_message and self.flavour.continues:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return await self._post_chat(body, length, asked, chat_response)

    async def _post_chat(
        self, body: Mapping[str, Any], length: int | None, asked: Way, make: Callable[[ChatReply], Made]
    ) -> Made:
        """Ask for an answer of at most `length` tokens, by the name that the server has for that."""
        field = self._length_field
        try:
            limited = {**body, field: length} if length else body
            return await self._post("chat/completions", limited, asked, ChatReply, make)
        except RequestError as error:
            # Newer models of OpenAI know the limit by another name; all later requests use it.
            if error.status != 400 or field != "max_tokens" or "max_completion_tokens" not in str(error):
                raise
        self._length_field = "max_completion_tokens"
        return await self._post("chat/completions", {**body, self._length_field: length}, asked, ChatReply, make)

    async def _ask_completions(
        self, request: Request, body: dict[str, Any], length: int | None, asked: Way
    ) -> Response:
        body["max_tokens"] = length or DEFAULT_MAX_TOKENS
        body["prompt"] = request.prompt.text
        truncated = 0
        if self._tokenizer is not None and (self.max_length is not None or request.prompt.is_chat):
            params = replace(request.generation or GenerationParams(), max_new_tokens=body["max_tokens"])
            encoded = await asyncio.to_thread(self._tokenizer.encode, replace(request, generation=params))
            if encoded.errors:
                return Response(error=encoded.errors[0])
            truncated = encoded.truncated.get(0, 0)
            # A rendered chat holds its BOS already: to ids, the server adds no second one.
            if truncated or request.prompt.is_chat:
                body["prompt"] = list(encoded.generations[0].tokens)
        response = await self._post("completions", body, asked, CompletionReply, completion_response)
        return replace(response, truncated=truncated)

    async def _post(
        self,
        route: str,
        body: Mapping[str, Any],
        asked: Way,
        kind: type[Whole],
        make: Callable[[Whole], Made],
    ) -> Made:
        """Ask, and read the reply as `kind`; in pieces where the server gives no others, which all later ones are."""

        def read(content: bytes, content_type: str) -> Made:
            return make(read_reply(kind, content, content_type))

        streams = self.stream
        try:
            return await asked.post(route, self._fields(body, streams=streams), read)
        except RequestError as error:
            if streams or self.batch_api or error.status != 400 or not wants_stream(str(error)):
                raise
        self.stream = True
        return await asked.post(route, self._fields(body, streams=True), read)

    def _fields(self, body: Mapping[str, Any], *, streams: bool) -> dict[str, Any]:
        stream = {"stream": True, "stream_options": {"include_usage": True}} if streams else {}
        fields = {"model": self.model, **body, **stream}
        for name, value in self.extra_body.items():
            # Variables of the chat template stand beside those that switch reasoning, and do not replace them.
            ours = fields.get(name)
            fields[name] = {**ours, **value} if isinstance(ours, Mapping) and isinstance(value, Mapping) else value
        return {name: value for name, value in fields.items() if name not in self.omit}


def _with_cost_of(first: Response, response: Response) -> Response:
    """The answer, with the tokens that a reply before it took, which was thrown away."""
    names = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens")
    counts = {name: (getattr(first, name), getattr(response, name)) for name in names}
    return replace(response, **{name: a + b for name, (a, b) in counts.items() if a is not None and b is not None})


@hookimpl
def harness_models() -> list[type[Model]]:
    from .started import models

    return [OpenAIModel, *models()]
