"""`harness show`: what exactly a model is shown for one row."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import notice
from harness.cli.options import DATA_OPTIONS, MODEL_OPTIONS, PROMPT_OPTIONS, options
from harness.cli.run import settings_of
from harness.terminal import visible
from harness.words import locale_language, translator

if TYPE_CHECKING:
    from harness.run.preview import Preview
    from harness.types import Media, Sample


@click.command("show")
@click.argument("task")
@click.option("--doc", type=click.IntRange(min=0), default=0, metavar="N", help="Which row, from 0. [default: 0]")
@click.option("--subset", metavar="NAME", help="Of which subset. [default: the first]")
@options(MODEL_OPTIONS, PROMPT_OPTIONS, DATA_OPTIONS)
@click.pass_context
def command(context: click.Context, /, task: str, doc: int, subset: str | None, **flags: Any) -> None:
    """Print the exact prompt that a model would see for one row of TASK: on stdout the prompt, on stderr the rest.

    \b
    harness show ceval/law --doc 3 --data MIRROR
    harness show cmmlu:gen --model hf --model_args pretrained=DIR --apply_chat_template
    harness show cmmlu --modify circular
    """
    settings = settings_of(context, flags)
    from harness.registry import load_plugins
    from harness.run.preview import preview
    from harness.run.spec import RunSpec

    spec = RunSpec(tasks=(task,), **settings)
    for index, shown in enumerate(preview(spec, load_plugins(), subset, doc)):
        sys.stdout.write("\n\n" if index and not sys.stdout.isatty() else "")
        print_preview(shown, spec.model)


def print_preview(shown: Preview, model: str) -> None:
    """The prompt to the letter, then what is asked about it."""
    t = translator(locale_language(None))
    sample = shown.sample
    sys.stdout.write(visible(shown.text) + ("\n" if sys.stdout.isatty() else ""))
    sys.stdout.flush()
    notice("" if sys.stderr.isatty() else "\n")
    where = f"{sample.task}/{sample.subset}" if sample.subset else sample.task
    known = shown.tokens is not None
    tokens = t("{n} tokens by {model}" if known else "{model} does not count tokens", n=shown.tokens, model=model)
    told = {"where": where, "id": sample.id, "view": _view(sample), "n": len(shown.text), "tokens": tokens}
    notice(t("{where} row {id}{view}: {n} characters, {tokens}", **told))
    asked = [request for request in sample.requests if not request.unconditional]
    for number, request in enumerate(asked):
        if request.prompt != asked[0].prompt:
            prompt = request.prompt
            ending = prompt.prefill or (prompt.messages[-1].text if prompt.is_chat else prompt.suffix)
            notice(t("prompt {n} ends: {ending}", n=number + 1, ending=repr(ending)))
        if request.continuations:
            notice(t("continuations: {texts}", texts=", ".join(repr(text) for text in request.continuations)))
        if request.generation is not None and request.repeat == 0:
            texts = ", ".join(repr(text) for text in request.generation.until)
            notice(t("stops at: {texts}", texts=texts or t("the model's end token")))
    for media in asked[0].prompt.shown_media if asked else ():
        if media.kind != "image":
            notice(_clip(media))
    for column in sample.nulls:
        told = {"column": column, "instead": f"{{{{ {column} or '' }}}}"}
        notice(t("the prompt shows None where '{column}' is null; {instead} shows nothing", **told))
    notice(t("target: {target}", target=repr(sample.target)))


def _clip(media: Media) -> str:
    """Which part of a video or sound is shown, in words."""
    part = "" if media.start is None and media.end is None else f" from {media.start or 0:g} s"
    part += "" if media.end is None else f" to {media.end:g} s"
    frames = media.frames
    if frames is None:
        return f"{media.kind}: {media.place}{part}"
    shown = ", ".join(map(str, frames.indices[:12])) + (", ..." if len(frames.indices) > 12 else "")
    return (
        f"video: {media.place}{part}: {len(frames.indices)} of {frames.total} frames ({shown}), {frames.fps:g} a second"
        f", {frames.size[0]} x {frames.size[1]}, {frames.rule}, by {frames.decoder}"
    )


def _view(sample: Sample) -> str:
    """How a modified task shows the row, in words."""
    view = sample.view
    if view is None:
        return ""
    words = [f", view {view.index + 1} of {view.count}"] if view.count > 1 else [""]
    words += [f"options {', '.join(str(place + 1) for place in view.order)}"] if view.is_moved else []
    words += [f"options stay: {view.fixed}"] if view.fixed else []
    words += [f"wording {view.wording}"] if view.wording else []
    words += [f"question {view.question!r}"] if view.question is not None else []
    words += ["no images"] if not view.images else []
    words += [f"images {', '.join(str(place + 1) for place in view.image_order)}"] if view.image_order else []
    words += ["grey images"] if view.stand_in == "blank" else []
    words += [f"images of rows {', '.join(map(str, view.image_rows))}"] if view.image_rows else []
    return "; ".join(words)
