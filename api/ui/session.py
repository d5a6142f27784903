"""Signing in and out: the identity of the APIs, kept as a token in a cookie that scripts cannot read."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.errors import HANDLED, as_rejected
from api.http import services
from api.identity.authenticate import authenticate
from api.links import base_url
from api.ui.page import (
    TOKEN_COOKIE,
    checked_form,
    form_fields,
    local_path,
    must_be_same_origin,
    page,
    render,
    signed_in,
)

DOMAIN = {"id": "default"}


async def login(request: Request) -> Response:
    """Sign in to the viewer"""
    target = local_path(request.query_params.get("next", ""))
    if request.method != "POST":
        if signed_in(request) is not None:
            return RedirectResponse(target, status_code=303)
        return render(request, "login.html", next=target, name="", project="", refusal=None)
    fields = dict.fromkeys(("name", "password", "project"), "")
    try:
        fields |= await form_fields(request)
        must_be_same_origin(request)
        claims = await authenticate(request, _body(fields))
    except HANDLED as error:
        refusal = as_rejected(error)
        if refusal is None:
            raise
        name, project = fields["name"], fields["project"]
        return render(request, "login.html", refusal.code, next=target, refusal=refusal, name=name, project=project)
    token = services(request).tokens.issue(claims)
    response = RedirectResponse(target, status_code=303)
    response.set_cookie(
        TOKEN_COOKIE,
        token,
        max_age=int(claims.expires_at - claims.issued_at),
        path="/",
        httponly=True,
        samesite="strict",
        secure=base_url(request).startswith("https:"),
    )
    return response


def _body(fields: dict[str, str]) -> dict[str, Any]:
    user = {"name": fields["name"].strip(), "domain": DOMAIN, "password": fields["password"]}
    body: dict[str, Any] = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    if project := fields["project"].strip():
        body["auth"]["scope"] = {"project": {"name": project, "domain": DOMAIN}}
    return body


@page
async def logout(request: Request) -> Response:
    """Sign out of the viewer"""
    await checked_form(request)
    response = RedirectResponse("/ui/login", status_code=303)
    response.delete_cookie(TOKEN_COOKIE, path="/", httponly=True, samesite="strict")
    return response
