"""The routes of an operator while the server runs: load a file, try one, roll back, change
settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sevenfold.serve.errors import NOT_FOUND, RequestError
from sevenfold.serve.protocols.body import read_object
from sevenfold.serve.protocols.fields import Fields
from sevenfold.serve.trial import CANARY, SHADOW, WHOLE

if TYPE_CHECKING:
    from sevenfold.serve.app import Server

# The share of the requests when the operator names none.
SHARES = {CANARY: 0.1, SHADOW: 1.0}


async def _read(server: Server, request: Request) -> Fields:
    return Fields(read_object(await request.body(), server.access.limits.json_depth))


async def reload(server: Server, request: Request) -> Response:
    """POST /admin/reload {"path", "model"}: load a file beside the running one, prove it, switch to
    it, and drain the old one.
    """
    fields = await _read(server, request)
    path, name = Path(fields.text("path")), fields.text("model")
    loaded = await asyncio.to_thread(server.registry.load, path, name)
    return JSONResponse({"model": loaded.name, "root": loaded.root})


async def rollback(server: Server, request: Request) -> Response:
    """POST /admin/rollback {"model"}: end the trial. Without a trial, let the file before answer
    again.
    """
    fields = await _read(server, request)
    name = fields.text("model") or server.registry.find("").name
    loaded = await asyncio.to_thread(server.registry.back, name)
    return JSONResponse({"model": loaded.name, "root": loaded.root})


async def _try_out(server: Server, request: Request, kind: str) -> Response:
    fields = await _read(server, request)
    path, name, share = Path(fields.text("path")), fields.text("model"), fields.get("share")
    share = SHARES[kind] if share is None else share
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise RequestError("it is not a share", where="share", remedy="use a number above 0, 1 at most")
    thousandths = max(1, round(share * WHOLE))
    trial = await asyncio.to_thread(server.registry.try_out, path, name, kind, thousandths)
    return JSONResponse({"model": trial.served.name, **trial.as_json()})


async def canary(server: Server, request: Request) -> Response:
    """POST /admin/canary {"path", "model", "share"}: let another file answer some of the requests."""
    return await _try_out(server, request, CANARY)


async def shadow(server: Server, request: Request) -> Response:
    """POST /admin/shadow {"path", "model", "share"}: run answers again on another file."""
    return await _try_out(server, request, SHADOW)


async def trial(server: Server, request: Request) -> Response:
    """GET /admin/trial?model=NAME: return what is on trial, and the first tokens that differed."""
    served = server.registry.find(request.query_params.get("model", ""))
    if served.trial is None:
        raise RequestError("nothing is on trial", where="model", status=NOT_FOUND)
    return JSONResponse({"model": served.name, **served.trial.as_json()})


async def promote(server: Server, request: Request) -> Response:
    """POST /admin/promote {"model"}: let the model on trial answer all requests."""
    fields = await _read(server, request)
    served = await asyncio.to_thread(server.registry.promote, fields.text("model"))
    return JSONResponse({"model": served.name, "root": served.root})


async def switches(server: Server, request: Request) -> Response:
    """POST /admin/switches {"context", "parallel", "cache_mb", "tools_off"}: change settings
    without a restart.
    """
    fields = await _read(server, request)
    now, off = server.registry.switches, fields.get("tools_off")
    context, parallel = (
        fields.integer("context", now.context, 0, 1 << 31),
        fields.integer("parallel", 0, 0, 1024),
    )
    cache_mb = fields.integer("cache_mb", -1, 0, 1 << 20)
    if off is not None and not (isinstance(off, list) and all(isinstance(name, str) for name in off)):
        raise RequestError(
            "it is not a list of names", where="tools_off", remedy="send a list of names of tools"
        )
    if unknown := fields.said():
        raise RequestError(unknown[0], remedy="use context, parallel, cache_mb, tools_off")
    now.context = context
    now.parallel = parallel or now.parallel
    now.cache_bytes = cache_mb << 20 if cache_mb >= 0 else now.cache_bytes
    now.tools_off = tuple(off) if off is not None else now.tools_off
    return JSONResponse(asdict(now))


Handler = Callable[["Server", Request], Awaitable[Response]]
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/admin/reload", reload),
    ("POST", "/admin/canary", canary),
    ("POST", "/admin/shadow", shadow),
    ("GET", "/admin/trial", trial),
    ("POST", "/admin/promote", promote),
    ("POST", "/admin/rollback", rollback),
    ("POST", "/admin/switches", switches),
)
