"""The one tree of refusals. Every API family maps it to its own error body in one place.

`code` is the HTTP status that a caller deserves, `reason` a stable word for programs, `message` Nova's own sentence
where Nova has one, `hint` what to do next in our words.
"""

from __future__ import annotations


class Rejected(Exception):
    """A command that was understood and refused. Nothing was appended."""

    code = 409
    reason = "conflict"
    recorded = False  # it stands among the recorded rejections already, or has no place there
    usual_hint = "Read the resource again and decide on what it is now."
    about: tuple[str, str, str] | None = None  # kind, id and verb of the change, where whoever refused it knows them

    def __init__(self, message: str, *, hint: str = "", code: int | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code
        if reason is not None:
            self.reason = reason

    @property
    def advice(self) -> str:
        """What to do next: the hint, or what usually helps against a refusal of this class."""
        return self.hint or self.usual_hint

    @property
    def text(self) -> str:
        """The sentence shown to a person: the message, then what to do next."""
        return (
            f"{self.message}. {self.hint}"
            if self.hint and not self.message.endswith(".")
            else (f"{self.message} {self.hint}" if self.hint else self.message)
        )


class Invalid(Rejected):
    usual_hint = "Correct the request as the message says and send it again."
    code = 400
    reason = "invalid"


class Forbidden(Rejected):
    usual_hint = "Ask somebody who has the role for it, or an administrator."
    code = 403
    reason = "forbidden"


class NotFound(Rejected):
    usual_hint = "List what there is: it may have been deleted, or belong to another project."
    code = 404
    reason = "not_found"


class Conflict(Rejected):
    code = 409
    reason = "conflict"


class Gone(Rejected):
    usual_hint = "There is nothing to use in its place."
    code = 410
    reason = "gone"


class PreconditionFailed(Rejected):
    code = 412
    reason = "version"


class TooLarge(Rejected):
    usual_hint = "Send less, or remove something first."
    code = 413
    reason = "too_large"


class KeyReused(Rejected):
    """An idempotency key came back with another body."""

    usual_hint = "Use a new key for a new request."
    code = 422
    reason = "idempotency_key_reused"


class NotImplementedHere(Rejected):
    usual_hint = "This deployment does not do it: leave it out, or do it another way."
    code = 501
    reason = "not_implemented"


class Unavailable(Rejected):
    usual_hint = "Send it again in a moment, with the same Idempotency-Key if it had one."
    code = 503
    reason = "unavailable"


_BY_CODE: dict[int, type[Rejected]] = {
    kind.code: kind for kind in (Invalid, Forbidden, NotFound, Conflict, Gone, PreconditionFailed, TooLarge, KeyReused)
}


def refusal_of(code: int, message: str, *, hint: str, reason: str) -> Rejected:
    """A refusal that was kept as plain values, as the type it had."""
    return _BY_CODE.get(code, Rejected)(message, hint=hint, code=code, reason=reason)
