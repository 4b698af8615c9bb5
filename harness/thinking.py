"""What a run asks of a model's reasoning, in one form for all models: `--thinking`, `--reasoning_effort`,
`--thinking_budget`.

    Thinking.of("on", effort=None, budget=2048).template_args    # {"enable_thinking": True, "thinking": True}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from harness.errors import UsageError, suggest
from harness.quick import dataclass
from harness.types import Request

MODES = ("auto", "on", "off")
SWITCHES = ("enable_thinking", "thinking")
"""The variables by which chat templates switch reasoning: Qwen3, GLM, Hunyuan and MiMo; DeepSeek and Kimi."""


@dataclass(frozen=True, slots=True)
class Thinking:
    """mode: `auto` leaves it to the model. effort: a word that the model knows. budget: tokens of reasoning at most."""

    mode: str = "auto"
    effort: str | None = None
    budget: int | None = None

    @classmethod
    def of(cls, mode: Any, effort: Any, budget: Any) -> Self:
        """From what flags or `--model_args` say. Raises UsageError for what makes no sense."""
        mode = {True: "on", False: "off", None: "auto"}.get(mode, mode)
        if mode not in MODES:
            raise UsageError(f"--thinking {mode}: not known{suggest(str(mode), MODES)} (one of {', '.join(MODES)})")
        if effort is not None and (not isinstance(effort, str) or not effort.strip()):
            raise UsageError(f"--reasoning_effort {effort}: should be a word that the model knows: low, medium, high")
        if budget is not None and (not isinstance(budget, int) or isinstance(budget, bool) or budget < 1):
            raise UsageError(f"--thinking_budget {budget}: should be a number of tokens of at least 1")
        if mode == "off" and (budget is not None or effort is not None):
            what = "--thinking_budget" if budget is not None else "--reasoning_effort"
            raise UsageError(f"{what}: with --thinking off there is no reasoning to bound; take one of them out")
        return cls(mode, effort, budget)

    @property
    def template_args(self) -> dict[str, Any]:
        """The variables of a chat template that say it."""
        switches = {} if self.mode == "auto" else dict.fromkeys(SWITCHES, self.mode == "on")
        return {**switches, **({"reasoning_effort": self.effort} if self.effort is not None else {})}

    @property
    def identity(self) -> Mapping[str, Any]:
        """What of it decides answers beside the variables of a template; empty where nothing is asked."""
        fields = {"mode": None if self.mode == "auto" else self.mode, "effort": self.effort, "budget": self.budget}
        asked = {name: value for name, value in fields.items() if value is not None}
        return {"thinking": asked} if asked else {}

    @property
    def flags(self) -> str:
        """The flags that say it."""
        named = (("thinking", self.mode), ("reasoning_effort", self.effort), ("thinking_budget", self.budget))
        return " ".join(f"--{name} {value}" for name, value in named if value not in (None, "auto"))

    def check_lengths(self, requests: Sequence[Request]) -> None:
        """Refuse a budget that leaves no token for the answer. Raises UsageError."""
        limits = {request.generation.max_new_tokens for request in requests if request.generation is not None}
        short = [limit for limit in limits if limit is not None and self.budget is not None and limit <= self.budget]
        if short:
            raise UsageError(
                f"--thinking_budget {self.budget}: leaves no token for an answer of at most {min(short)} tokens: "
                "give more with --gen_kwargs max_gen_toks=N"
            )
