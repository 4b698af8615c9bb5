"""Asks an openai model whatever a test wants to know of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripted_server import ScriptedServer

from harness import GenerationParams, ModelOptions, Prompt, Request, Response, Sample
from harness_plugins.models.openai import OpenAIModel


def make(server: ScriptedServer | None, **args: Any) -> OpenAIModel:
    usual = {"model": "small", "api": "chat", "retry_delay": 0.001, "api_key": "sk-secret", "num_concurrent": 1}
    where = {} if server is None else {"base_url": server.url}
    return OpenAIModel.create({**usual, **where, **args}, ModelOptions())


def ask(text: str = "What?", **params: Any) -> Request:
    return Request("generate", Prompt(text), generation=GenerationParams(**params))


def sample(request: Request) -> Sample:
    return Sample("task", "", 0, {}, (request,), "x")


def answers(model: OpenAIModel, requests: Sequence[Request]) -> list[Response]:
    model.prepare()
    model.inspect_samples([sample(request) for request in requests])
    model.load()
    given = dict(model.respond(requests))
    return [given[number] for number in range(len(requests))]


def answer(model: OpenAIModel, request: Request) -> Response:
    return answers(model, [request])[0]
