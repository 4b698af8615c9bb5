"""What a model's processor makes of sounds: the text that stands for one in a prompt, and the tensors of its samples.

How many tokens a sound takes depends on its length alone, so that prompts are made without decoding any.
"""

from __future__ import annotations

from typing import Any

from harness.data.audio import RULE, sound_length
from harness.engine.processor import Expansion, load_processor
from harness.errors import DataError, UsageError, one_line
from harness.types import Media


class SoundProcessor:
    """The processor of a checkpoint, asked for one sound at a time.

    media_token: the id of the token whose embeddings a sound's features take the place of. rate: samples a second.
    source: for transformers' `from_pretrained`.
    """

    def __init__(self, pretrained: str, config: Any, **source: Any) -> None:
        where = f"--model_args: pretrained={pretrained}"
        token = getattr(config, "audio_token_id", getattr(config, "audio_token_index", None))
        if not isinstance(token, int):
            raise UsageError(f"{where}: is no model that hears; `--model hf` runs models of text")
        self.media_token = token
        self.processor = load_processor(pretrained, config, **source)
        mark, extractor = (
            getattr(self.processor, "audio_token", None),
            getattr(self.processor, "feature_extractor", None),
        )
        if not isinstance(mark, str) or extractor is None:
            raise UsageError(f"{where}: its processor has no mark for sounds in a text")
        self.mark, self._extractor = mark, extractor
        self.rate = int(extractor.sampling_rate)
        self._expansions: dict[int, Expansion | str] = {}

    @property
    def rules(self) -> dict[str, Any]:
        """What decides how a model hears: a part of its identity."""
        stored = self._extractor.to_dict()
        plain = {name: value for name, value in stored.items() if isinstance(value, str | int | float | bool | None)}
        return {"sounds": {"rule": RULE, "rate": self.rate, **plain}}

    minds_company = False
    """A sound is taken alike whatever else a prompt holds; see `ImageProcessor.minds_company`."""

    def expand(self, media: Media, *, alone: bool = True) -> Expansion:
        """What stands for a sound. Raises DataError where it cannot be taken."""
        del alone
        if media.kind != "audio":
            raise DataError(f"the model is shown a {media.kind}, and only hears")
        length = sound_length(media, self.rate)
        if length not in self._expansions:
            self._expansions[length] = self._expand(length)
        found = self._expansions[length]
        if isinstance(found, str):
            raise DataError(f"{media.place}: {found}")
        return found

    def inputs(self, text: str, samples: Any) -> dict[str, Any]:
        """All that the processor makes of a text with one mark, and its sound [samples]. Raises DataError."""
        try:
            found = self.processor(
                text=[text], audio=[samples], sampling_rate=self.rate, return_tensors="pt", add_special_tokens=False
            )
        except Exception as error:  # processors raise whatever they stumble over
            seconds = len(samples) / self.rate
            what = f"a sound of {seconds:.2f} s cannot be taken by the model's processor"
            raise DataError(f"{what}: {one_line(error) or type(error).__name__}") from error
        return {
            name: value for name, value in found.items() if name not in ("num_audio_tokens", "text_replacement_offsets")
        }

    def _expand(self, length: int) -> Expansion | str:
        import numpy

        most = getattr(self._extractor, "n_samples", None)
        if isinstance(most, int) and length > most:
            return (
                f"is {length / self.rate:.1f} s long, and the model hears {most / self.rate:.1f} s; give a part of it"
            )
        try:
            found = self.inputs(self.mark, numpy.zeros(length, dtype=numpy.float32))
        except DataError as error:
            return str(error)
        count = int((found["input_ids"] == self.media_token).sum())
        return Expansion(self.mark * count, count) if count else "is too short for the model"
