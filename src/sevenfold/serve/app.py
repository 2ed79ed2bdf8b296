"""The application: a table of routes, and the way in which each kind of answer is sent."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sevenfold.core.errors import SevenfoldError
from sevenfold.serve import receipt
from sevenfold.serve.answers import Running
from sevenfold.serve.batching.request import Finished, GeneratedPiece
from sevenfold.serve.errors import NOT_FOUND, NOT_IMPLEMENTED, UNAVAILABLE, WRONG_METHOD, RequestError
from sevenfold.serve.guard import Access, Guard
from sevenfold.serve.hosted import HostedRun, HostedTools, hosted_chat, hosted_chunks
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.operation import admin
from sevenfold.serve.operation.metrics import Exposition
from sevenfold.serve.operation.records import RUNNING, RequestRecorder
from sevenfold.serve.protocols import llama_api, openai_api
from sevenfold.serve.protocols.body import read_object
from sevenfold.serve.protocols.fields import Fields
from sevenfold.serve.protocols.openapi import document
from sevenfold.serve.receipt_check import named_root, verify_answer
from sevenfold.serve.registry import Registry, Served

PAGE = Path(__file__).with_name("page")
PAGE_FILES = {
    "": ("index.html", "text/html"),
    "page.js": ("page.js", "text/javascript"),
    "receipt.js": ("receipt.js", "text/javascript"),
    "page.css": ("page.css", "text/css"),
}
PAGE_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
DISCONNECT_SECONDS = 0.02
Handler = Callable[["Server", Request], Awaitable[Response]]


@dataclass
class Server:
    """The state that all routes share."""

    registry: Registry
    access: Access
    signing_key: Any = None
    probe_seconds: float = 60.0
    recorders: tuple[RequestRecorder, ...] = ()
    # Tools that this server calls itself; None has none.
    hosted: HostedTools | None = None
    receipts: OrderedDict[str, dict[str, Any]] = field(default_factory=OrderedDict)
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def keep(self, made: dict[str, Any]) -> dict[str, Any]:
        """Store a receipt under a new id and return it with the id. /v1/receipts serves the newest
        ones.
        """
        name = f"rcpt-{secrets.token_hex(12)}"
        self.receipts[name] = made
        while len(self.receipts) > self.access.limits.receipts:
            self.receipts.popitem(last=False)
        return {"id": name, **made}

    def receipts_of(self, running: Running) -> list[dict[str, Any]]:
        """Return the receipt of every sample of a request."""
        return [
            self.keep(
                receipt.make(
                    running.served.root,
                    job.generation,
                    index,
                    sample.finished,
                    arithmetic=running.served.model.weights.shape.law_version,
                    key=self.signing_key,
                )
            )
            for job, samples in zip(running.jobs, running.samples, strict=True)
            for index, sample in enumerate(samples)
            if sample.finished is not None
        ]


async def _fields(request: Request, server: Server) -> tuple[Fields, Served]:
    values = read_object(await request.body(), server.access.limits.json_depth)
    fields = Fields(values)
    return fields, server.registry.route(fields.text("model"))


async def _whole_or_gone(request: Request, running: Running) -> None:
    """Wait for all samples. When the client disconnects, they end within a step."""
    waiting = asyncio.ensure_future(running.whole())
    try:
        while not waiting.done():
            await asyncio.wait([waiting], timeout=DISCONNECT_SECONDS)
            if not waiting.done() and await request.is_disconnected():
                running.cancel()
        await waiting
    finally:
        waiting.cancel()


async def _answer(server: Server, request: Request, asked: openai_api.Asked) -> Response:
    request.scope[RUNNING] = running = Running(asked.served, asked.generations)
    headers = {"x-s7-root": asked.served.root}
    if asked.is_stream:
        await running.__aenter__()
        stream = _stream(server, asked, running)
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
    async with running:
        await _whole_or_gone(request, running)
        answer = openai_api.Writer(asked, running).whole()
        if asked.receipt:
            answer["receipt"] = server.receipts_of(running)
        return JSONResponse(answer, headers=headers)


async def _stream(server: Server, asked: openai_api.Asked, running: Running) -> AsyncIterator[bytes]:
    """Yield the events of a stream. A failure in the middle is sent as an event, which clients
    raise.
    """
    try:
        async for chunk in openai_api.Writer(asked, running).chunks():
            yield openai_api.sse(chunk)
        if asked.receipt:
            receipts = server.receipts_of(running)
            yield openai_api.sse({"object": "receipt", "choices": [], "receipt": receipts})
    except RequestError as error:
        yield openai_api.sse(error.body())
    finally:
        # This also runs when the client disconnects, because the generator is closed then.
        running.cancel()
    yield openai_api.DONE


async def completions(server: Server, request: Request) -> Response:
    """POST /v1/completions."""
    fields, served = await _fields(request, server)
    salt = request.scope["s7.salt"]
    return await _answer(
        server, request, openai_api.read_completion(fields, served, server.access.limits, salt)
    )


async def fim_completions(server: Server, request: Request) -> Response:
    """POST /fim/completions, as Continue sends it. The answer has the form of a chat."""
    fields, served = await _fields(request, server)
    salt = request.scope["s7.salt"]
    asked = openai_api.read_completion(fields, served, server.access.limits, salt, fim=True)
    return await _answer(server, request, asked)


async def chat(server: Server, request: Request) -> Response:
    """POST /v1/chat/completions."""
    fields, served = await _fields(request, server)
    chat_of = hosted_chat(fields, server.hosted, server.registry.switches.tools_off)
    if chat_of is not None and server.hosted is not None:
        run = HostedRun(fields, served, *_bounds(server, request), chat_of)
        return await _hosted_answer(request, server.hosted, run, is_stream=fields.flag("stream"))
    asked = openai_api.read_chat(fields, served, *_bounds(server, request))
    return await _answer(server, request, asked)


def _bounds(server: Server, request: Request) -> tuple[ServerLimits, str]:
    return server.access.limits, request.scope["s7.salt"]


async def _hosted_answer(
    request: Request, hosted: HostedTools, run: HostedRun, *, is_stream: bool
) -> Response:
    async def whole(running: Running) -> None:
        request.scope[RUNNING] = running
        await _whole_or_gone(request, running)

    value, asked = await run.answer(hosted, whole)
    headers = {"x-s7-root": asked.served.root}
    if not is_stream:
        return JSONResponse(value, headers=headers)

    async def events() -> AsyncIterator[bytes]:
        async for chunk in hosted_chunks(value):
            yield openai_api.sse(chunk)
        yield openai_api.DONE

    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


async def _llama(server: Server, request: Request, *, infill: bool) -> Response:
    fields, served = await _fields(request, server)
    names, is_stream = fields.texts("response_fields"), fields.flag("stream")
    limits, salt = server.access.limits, request.scope["s7.salt"]
    generation, is_cut = llama_api.read(fields, served, limits, salt, infill=infill)
    request.scope[RUNNING] = running = Running(served, [generation])
    if is_stream:
        await running.__aenter__()
        return StreamingResponse(_llama_stream(running, fields, is_cut), media_type="text/event-stream")
    async with running:
        await _whole_or_gone(request, running)
        answers = [
            llama_api.select(llama_api.answer(running, sample, i, is_cut=is_cut, fields=fields), names)
            for i, sample in enumerate(running.samples[0])
        ]
        if generation.receipt:
            for answer, made in zip(answers, server.receipts_of(running), strict=True):
                answer["receipt"] = made
        return JSONResponse(answers if generation.n > 1 else answers[0], headers={"x-s7-root": served.root})


async def _llama_stream(running: Running, fields: Fields, is_cut: bool) -> AsyncIterator[bytes]:
    n_told = [0] * len(running.samples[0])
    try:
        async for _, event in running.events():
            if not isinstance(event, GeneratedPiece | Finished):
                continue
            sample = running.samples[0][event.index]
            if isinstance(event, GeneratedPiece):
                n_told[event.index] += len(event.text)
                head = {
                    "index": event.index, "content": event.text, "tokens": list(event.ids), "stop": False,
                }  # fmt: skip
                yield openai_api.sse(head)
                continue
            whole = llama_api.answer(running, sample, event.index, is_cut=is_cut, fields=fields)
            yield openai_api.sse(whole | {"content": sample.text[n_told[event.index] :]})
    except RequestError as error:
        yield openai_api.sse(error.body())
    finally:
        running.cancel()


async def infill(server: Server, request: Request) -> Response:
    """POST /infill."""
    return await _llama(server, request, infill=True)


async def completion(server: Server, request: Request) -> Response:
    """POST /completion."""
    return await _llama(server, request, infill=False)


async def tokenize(server: Server, request: Request) -> Response:
    """POST /tokenize."""
    return JSONResponse(llama_api.tokenized(*await _fields(request, server)))


async def detokenize(server: Server, request: Request) -> Response:
    """POST /detokenize."""
    return JSONResponse(llama_api.detokenized(*await _fields(request, server)))


async def apply_template(server: Server, request: Request) -> Response:
    """POST /apply-template: the text of a chat, up to where the answer begins."""
    fields, served = await _fields(request, server)
    messages = openai_api.messages_of(fields, server.access.limits)
    return JSONResponse({"prompt": served.prompts.chat(messages)[0]})


async def models(server: Server, _: Request) -> Response:
    """GET /v1/models."""
    cards = [openai_api.model_card(served) for served in server.registry.all()]
    return JSONResponse({"object": "list", "data": cards})


async def model(server: Server, request: Request) -> Response:
    """GET /v1/models/NAME."""
    return JSONResponse(openai_api.model_card(server.registry.find(request.path_params["name"])))


def _served(server: Server, request: Request) -> Served:
    return server.registry.find(request.query_params.get("model", ""))


async def tokenizer_info(server: Server, request: Request) -> Response:
    """GET /tokenizer_info."""
    return JSONResponse(llama_api.tokenizer_info(_served(server, request)))


async def props(server: Server, request: Request) -> Response:
    """GET /props."""
    return JSONResponse(llama_api.props(_served(server, request), server.access.limits))


async def slots(server: Server, request: Request) -> Response:
    """GET /slots."""
    served = _served(server, request)
    is_full = served.scheduler.n_running >= server.access.limits.parallel
    if "fail_on_no_slot" in request.query_params and is_full:
        raise RequestError("every slot is in use", remedy="try again", status=UNAVAILABLE)
    return JSONResponse(llama_api.slots(served, server.access.limits))


async def health(server: Server, _: Request) -> Response:
    """GET /health: whether the process answers."""
    if not server.registry.all():
        raise RequestError("Loading model", status=UNAVAILABLE)
    return JSONResponse({"status": "ok"})


async def ready(server: Server, _: Request) -> Response:
    """GET /ready: whether every probe gave the sealed bits."""
    if fault := server.registry.fault:
        raise RequestError(f"not ready: {fault}", status=UNAVAILABLE)
    return JSONResponse({"status": "ready", "roots": [served.root for served in server.registry.all()]})


async def metrics(server: Server, _: Request) -> Response:
    """GET /metrics."""
    return Response(Exposition(server.registry).text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def stored_receipt(server: Server, request: Request) -> Response:
    """GET /v1/receipts/ID."""
    name = request.path_params["id"]
    if name not in server.receipts:
        raise RequestError(f"there is no receipt {name!r:.80}", status=NOT_FOUND)
    return JSONResponse(server.receipts[name])


async def verify_receipt(server: Server, request: Request) -> Response:
    """POST /v1/receipts/verify: check a receipt with one prefill, as `s7 verify-answer` does."""
    data = await request.body()
    value = read_object(data, server.access.limits.json_depth)
    served = server.registry.find(named_root(value))
    # Only one check runs at a time, because it reads a whole answer at once.
    if server.checking.locked():
        raise RequestError("another receipt is being checked", remedy="try again", status=UNAVAILABLE)
    async with server.checking:
        verdict = await asyncio.to_thread(verify_answer, data, served.model)
    return JSONResponse({"verdict": verdict.word, "why": verdict.why, "step": verdict.step})


async def embeddings(_: Server, __: Request) -> Response:
    """POST /v1/embeddings."""
    raise RequestError(
        "these models have no embedding head",
        remedy="use another server for them",
        status=NOT_IMPLEMENTED,
    )


async def page(_: Server, request: Request) -> Response:
    """GET /: the page, its script and its style."""
    name, kind = PAGE_FILES[request.url.path.lstrip("/")]
    headers = {"content-security-policy": PAGE_POLICY, "cache-control": "no-cache"}
    return Response((PAGE / name).read_text(encoding="utf-8"), media_type=kind, headers=headers)


async def openapi(server: Server, _: Request) -> Response:
    """GET /openapi.json."""
    return JSONResponse(document(ROUTES, server.access.limits))


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/v1/completions", completions),
    ("POST", "/v1/chat/completions", chat),
    ("GET", "/v1/models", models),
    ("GET", "/models", models),
    ("GET", "/v1/models/{name:path}", model),
    ("POST", "/v1/receipts/verify", verify_receipt),
    ("GET", "/v1/receipts/{id}", stored_receipt),
    ("POST", "/v1/embeddings", embeddings),
    ("POST", "/infill", infill),
    ("POST", "/completion", completion),
    ("POST", "/completions", completion),
    ("POST", "/fim/completions", fim_completions),
    ("POST", "/v1/fim/completions", fim_completions),
    ("POST", "/tokenize", tokenize),
    ("POST", "/detokenize", detokenize),
    ("GET", "/tokenizer_info", tokenizer_info),
    ("POST", "/apply-template", apply_template),
    ("GET", "/props", props),
    ("GET", "/slots", slots),
    ("GET", "/health", health),
    ("GET", "/v1/health", health),
    ("GET", "/ready", ready),
    ("GET", "/metrics", metrics),
    ("GET", "/openapi.json", openapi),
    ("GET", "/", page),
    ("GET", "/page.js", page),
    ("GET", "/receipt.js", page),
    ("GET", "/page.css", page),
    *admin.ROUTES,
)


def _endpoint(server: Server, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(server, request)
        except SevenfoldError as error:
            told = RequestError.of(error)
            return JSONResponse(told.body(), status_code=told.status, headers=told.headers())

    return endpoint


async def _probes(server: Server) -> None:
    """Replay golden prompts on a timer."""
    while True:
        await asyncio.sleep(server.probe_seconds)
        for served in server.registry.all():
            await asyncio.to_thread(served.probe)


def make_app(server: Server) -> Guard:
    """Return the application of a server."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        probes = asyncio.create_task(_probes(server))
        try:
            yield
        finally:
            probes.cancel()
            await asyncio.to_thread(server.registry.close)

    async def missing(request: Request, error: Exception) -> Response:
        # Starlette lists the methods of a path; without a list the path is unknown.
        allowed = getattr(error, "headers", None) or {}
        told = RequestError(
            f"there is no {request.method} {request.url.path:.80}",
            remedy=f"use {allowed['Allow']}" if allowed else "",
            status=WRONG_METHOD if allowed else NOT_FOUND,
        )
        return JSONResponse(told.body(), status_code=told.status, headers=told.headers() | allowed)

    routes = [Route(path, _endpoint(server, handler), methods=[method]) for method, path, handler in ROUTES]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: missing, 405: missing})
    return Guard(app, server.access, server.recorders)
