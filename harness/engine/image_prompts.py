"""Prompts with images as token ids: each image's tokens get ids of their own, so that equal ids mean equal input.

A model has one token that an image's features take the place of. Two images would be the same run of that token, and
a plan would share what differs. So the run of each image gets ids above every vocabulary, the same for the same bytes:
the prefix tree shares an image exactly where its questions have it in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from harness.data.video import frames_as_images
from harness.engine.processor import ImageProcessor
from harness.engine.prompt_encoder import PromptEncoder, TextOptions
from harness.engine.sounds import SoundProcessor
from harness.engine.tokens import Encoded, GenerateSequence, PlacedImage, ScoreSequence, encode_requests
from harness.errors import DataError, UsageError
from harness.quick import dataclass
from harness.types import Media, Message, Prompt, Request

FIRST_ID = 1 << 24
"""Ids from here on are places of images."""


@dataclass(frozen=True, slots=True)
class _Shown:
    text: str
    images: tuple[PlacedImage, ...]


class ImagePromptEncoder(PromptEncoder):
    """A `PromptEncoder` for a model that sees or hears: of sounds all is as of images."""

    def __init__(
        self, config: Any, tokenizer: Any, options: TextOptions, where: str, processor: ImageProcessor | SoundProcessor
    ) -> None:
        super().__init__(config, tokenizer, options, where)
        self.processor = processor
        template = options.chat_template or getattr(processor.processor, "chat_template", None)
        if template is not None and self.chat.template is None:
            self.chat.template = template
        self.chat.image_mark = processor.mark
        self._places: dict[tuple[Any, ...], PlacedImage] = {}
        self._next = FIRST_ID

    def render(self, prompt: Prompt) -> str:
        """The string that the model is shown, with the model's own mark in the place of each image and
        of each frame of a video.

        A model without a chat template (a base model) is shown the turn of a question as it stands.
        """
        prompt = frames_as_images(prompt)
        if prompt.is_chat and self.chat.text is None and len(prompt.messages) == 1:
            (message,) = prompt.messages
            return self._plain(message) + prompt.prefill
        return super().render(prompt)

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Token ids of all requests, those of images by their content."""
        shown: dict[int, _Shown] = {}

        def expand(prompt: Prompt) -> str:
            if id(prompt) not in shown:
                shown[id(prompt)] = self._expanded(prompt)
            return shown[id(prompt)].text

        encoded = encode_requests(self.encoder, requests, expand, self.where)
        images = {
            index: shown[id(request.prompt)].images
            for index, request in enumerate(requests)
            if id(request.prompt) in shown
        }
        encoded.scores = [self._marked(each, images.get(each.request, ()), encoded) for each in encoded.scores]
        encoded.generations = [
            self._marked(each, images.get(each.request, ()), encoded) for each in encoded.generations
        ]
        encoded.scores = [each for each in encoded.scores if each.request not in encoded.errors]
        encoded.generations = [each for each in encoded.generations if each.request not in encoded.errors]
        return encoded

    def portions(self, requests: Sequence[Request]) -> Iterator[Encoded]:
        """All at once: what requests show is known to the decoder before any of them is computed."""
        yield self.encode(requests)

    def encode_marked(self, requests: Sequence[Request]) -> Encoded:
        """Token ids with the model's own mark in the place of each image, for a backend that writes its tokens itself.

        The tokens that it will write count: a prompt with images that is too long with them is an error.
        """
        expanded = self.encode(requests)
        for request, cut in expanded.truncated.items():
            if cut and any(requests[request].prompt.shown_media):
                expanded.errors.setdefault(request, self._too_long(cut))
        marked = encode_requests(self.encoder, requests, self.render, self.where)
        images = {each.request: each.images for each in expanded.scores}
        images.update({each.request: each.images for each in expanded.generations})
        marked.errors.update(expanded.errors)
        marked.prompt_tokens.update(expanded.prompt_tokens)
        marked.scores = [
            replace(each, images=images.get(each.request, ()))
            for each in marked.scores
            if each.request not in marked.errors
        ]
        marked.generations = [
            replace(each, images=images.get(each.request, ()))
            for each in marked.generations
            if each.request not in marked.errors
        ]
        return marked

    def _too_long(self, cut: int) -> str:
        return (
            f"the prompt is {cut} tokens longer than the model's window of {self.rules.max_length}, and an image "
            "cannot be cut: fewer examples, smaller images (max_pixels), or a larger max_length"
        )

    def _expanded(self, prompt: Prompt) -> _Shown:
        """The prompt with the tokens of each image written out. Raises UsageError, an error of this request."""
        prompt = frames_as_images(prompt)
        text = self.render(prompt)
        try:
            shown = list(prompt.shown_media)
            alone = len(shown) == 1 or not self.processor.minds_company
            images = tuple(self._place(media, alone=alone) for media in shown)
        except DataError as error:
            raise UsageError(str(error)) from error
        pieces = text.split(self.processor.mark)
        if len(pieces) != len(images) + 1:
            raise UsageError(
                f"the prompt shows {len(images)} images, and the model's mark of one ({self.processor.mark}) stands in "
                f"it {len(pieces) - 1} times: it is in the question's own text"
            )
        whole = pieces[0] + "".join(image.text + piece for image, piece in zip(images, pieces[1:], strict=True))
        return _Shown(whole, images)

    def _place(self, media: Media, *, alone: bool) -> PlacedImage:
        """The ids of an image, given out when it is first met."""
        key = (media.sha256, media.frame, media.start, media.end, alone)
        if key not in self._places:
            found = self.processor.expand(media, alone=alone)
            self._places[key] = PlacedImage(media, self._next, found.count, found.text, found.grid, alone)
            self._next += found.count
        return self._places[key]

    def _plain(self, message: Message) -> str:
        if isinstance(message.content, str):
            return message.content
        return "".join(part if isinstance(part, str) else self.processor.mark for part in message.content)

    def _marked(self, sequence: Any, images: tuple[PlacedImage, ...], encoded: Encoded) -> Any:
        """The sequence with the ids of its images; what was cut from it must not have been one of them."""
        assert isinstance(sequence, ScoreSequence | GenerateSequence)
        tokens, at = list(sequence.tokens), 0
        wanted, there = sum(image.count for image in images), tokens.count(self.processor.media_token)
        if there != wanted:
            cut = encoded.truncated.get(sequence.request, 0)
            encoded.errors[sequence.request] = (
                self._too_long(cut)
                if cut
                else f"{there} tokens of the prompt stand for images, which take {wanted}: the question's own text "
                "holds the model's mark of an image"
            )
            return sequence
        for image in images:
            for place in range(image.first, image.first + image.count):
                at = tokens.index(self.processor.media_token, at)
                tokens[at] = place
        if not images:
            return sequence
        if isinstance(sequence, GenerateSequence):
            return replace(sequence, tokens=tuple(tokens), images=images)
        start = sequence.start
        return replace(sequence, context=tuple(tokens[:start]), scored=tuple(tokens[start:]), images=images)
