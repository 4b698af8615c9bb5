"""What servers do otherwise than OpenAI's own, by name: fields that they call otherwise, drop, or fill in themselves.

Read off their sources in 2026: llama.cpp `tools/server` (README, server-common.cpp), Ollama `openai/openai.go`,
LMDeploy `lmdeploy/serve/openai` (protocol.py, api_server.py), TensorRT-LLM `tensorrt_llm/serve`,
SGLang and vLLM `entrypoints/openai`. Which one answers is told by `owned_by` in its list of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness import Request, UsageError

from .scoring import ECHO, PROMPT_LOGPROBS


@dataclass(frozen=True, slots=True)
class Flavour:
    """One kind of server. owner: its `owned_by`. scores: how it gives log-probabilities of a prompt, if at all.

    renamed: of parameters of sampling. ignored: those that it drops without a word. neutral: what switches off its own
    ways of sampling, which it adds where a request says nothing. thinking: the dialect that it is told in. continues:
    whether it takes fields to go on with a prefilled answer; where not, it does so by itself, unless it `reopens` the
    answer: ends the turn that was begun, and begins another. takes_ids: whether a prompt may be token ids.
    """

    name: str
    title: str
    owner: str = ""
    scores: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    neutral: Mapping[str, Any] = field(default_factory=dict)
    thinking: str = "template"
    continues: bool = True
    reopens: bool = False
    takes_ids: bool = True

    def sampling(self, body: Mapping[str, Any], *, drawn: bool) -> dict[str, Any]:
        """The fields of sampling under this server's names. drawn: the answer is sampled."""
        fields = {self.renamed.get(name, name): value for name, value in body.items()}
        return {**self.neutral, **fields} if drawn else fields


PLAIN = Flavour("openai", "a server of OpenAI's API", scores=(ECHO, PROMPT_LOGPROBS))
_OLLAMA = Flavour(
    "ollama",
    "Ollama",
    "library",
    ignored=frozenset({"top_k", "min_p", "repetition_penalty", "logit_bias"}),
    thinking="ollama",
    continues=False,
    takes_ids=False,
)
_KNOWN = (
    Flavour("vllm", "vLLM", "vllm", (ECHO, PROMPT_LOGPROBS)),
    Flavour("sglang", "SGLang", "sglang", (ECHO,)),
    Flavour(
        "llama.cpp",
        "llama.cpp's server",
        "llamacpp",
        renamed={"repetition_penalty": "repeat_penalty"},
        # Else 40, 0.95, 0.05, and what its command says.
        neutral={"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0},
        continues=False,
    ),
    _OLLAMA,
    Flavour(
        "lmdeploy",
        "LMDeploy",
        "lmdeploy",
        ignored=frozenset({"presence_penalty", "frequency_penalty", "logit_bias"}),
        neutral={"top_k": 0},  # else 40
        thinking="enable_thinking",
        continues=False,
        takes_ids=False,
    ),
    Flavour("tensorrt_llm", "TensorRT-LLM", "tensorrt_llm", continues=False, reopens=True),
)
FLAVOURS = {each.name: each for each in (PLAIN, *_KNOWN)}


def read_flavour(given: str) -> Flavour | None:
    """The flavour of this name; None for `auto`. Raises UsageError for one that is not known."""
    if given == "auto":
        return None
    if given not in FLAVOURS:
        raise UsageError(f"--model_args: flavour must be one of auto, {', '.join(FLAVOURS)}, not '{given}'")
    return FLAVOURS[given]


def flavour_of(listings: Iterable[Mapping[str, Any]], model: str) -> Flavour:
    """The flavour that lists of models tell of, by the entry of this model: of all servers the same one, else the plain
    one."""
    found = {_told_by(listing, model).name for listing in listings}
    return FLAVOURS[found.pop()] if len(found) == 1 else PLAIN


def _told_by(listing: Mapping[str, Any], model: str) -> Flavour:
    """The flavour of one server. Ollama's `library` is whose models it fetches by default; of others (`hf.co/...`) it
    names the owner, but for the tag that every name of its models has."""
    owners = {name: str(entry.get("owned_by")) for name, entry in listing.items() if isinstance(entry, Mapping)}
    asked = {owners[model]} if model in owners else set(owners.values())
    for each in _KNOWN:
        if asked == {each.owner}:
            return each
    is_ollama = _OLLAMA.owner in owners.values() and all(":" in name for name in owners)
    return _OLLAMA if is_ollama else PLAIN


@dataclass(slots=True)
class Needs:
    """What requests need of a server beyond the usual, each with the task that needs it."""

    scores: str = ""
    continues: str = ""
    ids: str = ""
    parameters: dict[str, str] = field(default_factory=dict)

    def note(self, request: Request, task: str, *, scores_prompt: bool, continues: bool, as_ids: bool) -> None:
        """scores_prompt: the request wants log-probabilities of its prompt. continues: it begins the answer, by chat,
        and wants it gone on with. as_ids: its prompt is sent as token ids."""
        if scores_prompt:
            self.scores = self.scores or task
        if continues:
            self.continues = self.continues or task
        if as_ids:
            self.ids = self.ids or task
        params = request.generation
        if params is not None:
            named = {name for name, value in params.extra if value not in (None, 0)}
            named |= {"top_k"} if params.do_sample and params.top_k else set()
            for name in named:
                self.parameters.setdefault(name, task)

    def check(self, flavour: Flavour) -> None:
        """Raises UsageError for what this server would refuse, or drop without a word."""
        if self.scores and not flavour.scores:
            raise UsageError(
                f"task '{self.scores}' needs log-probabilities of its prompts, which {flavour.title} does not give: "
                "for options with letters use --model_args api=chat,choices=top_logprobs, else a variant of the task "
                "that generates, or --model hf, vllm or vllm_server"
            )
        if self.continues and flavour.reopens:
            raise UsageError(
                f"task '{self.continues}' begins the answer itself, which {flavour.title} does not go on with by the "
                "chat API: use --model_args api=completions,tokenizer=DIR, or continue_final_message=false to have "
                "such a prompt answered anew"
            )
        if self.ids and not flavour.takes_ids:
            raise UsageError(
                f"task '{self.ids}' is asked as a chat by the completions API, which takes token ids, and "
                f"{flavour.title} takes none: use --model_args api=chat"
            )
        if dropped := sorted(flavour.ignored & self.parameters.keys()):
            raise UsageError(
                f"task '{self.parameters[dropped[0]]}': {flavour.title} drops '{dropped[0]}' without a word: set it "
                "where the server is started, and leave it out here"
            )
