"""The served model's tokenizer, here: chat prompts as text, token counts, and where a continuation begins."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from harness import Prompt, Request, UsageError
from harness.engine import ChatTemplate, Encoded, Encoder, TokenRules, encode_requests

UNBOUNDED = 1_000_000


class LocalTokenizer:
    """A tokenizer that many threads share: those of transformers must not be entered twice at once."""

    def __init__(
        self, path: str, max_length: int | None, offline: bool, template_args: Mapping[str, Any] | None = None
    ) -> None:
        tokenizer = _open(path, offline)
        ends = (getattr(tokenizer, name, None) for name in ("bos_token_id", "eos_token_id"))
        # Room for the token that a server generates even where only the prompt is wanted.
        rules = TokenRules((max_length or UNBOUNDED) - 2, next((token for token in ends if token is not None), 0))
        self._tokenizer = tokenizer
        self.special = frozenset(map(str, tokenizer.all_special_tokens))
        self._encoder = Encoder(tokenizer, rules)
        self._chat = ChatTemplate(tokenizer, None, template_args or {}, path)
        self._lock = threading.Lock()

    def spelling(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        with self._lock:
            return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    @property
    def has_chat_template(self) -> bool:
        return self._chat.text is not None

    def render(self, prompt: Prompt) -> str:
        return self._chat.render(prompt) if prompt.is_chat else prompt.text

    def encode(self, request: Request) -> Encoded:
        """One request as token ids, cut from the left to the window; it is number 0 in what is returned."""
        with self._lock:
            return encode_requests(self._encoder, [request], self.render, "the prompt")

    def count(self, text: str) -> int:
        with self._lock:
            return self._encoder.count(text)


def _open(path: str, offline: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=offline)
    except (OSError, ValueError, KeyError, ImportError) as error:
        cause = " ".join(str(error).split())
        raise UsageError(f"--model_args tokenizer={path}: cannot be read: {cause}") from None
