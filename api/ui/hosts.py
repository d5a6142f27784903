"""All hosts, with what they offer, what is on them, and whether they answer."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.http import caller, services
from api.ui.page import page, render
from api.v1.hosts import host_list


@page
async def hosts(request: Request) -> Response:
    """List hosts"""
    return render(request, "hosts.html", hosts=await host_list(services(request), caller(request)))
