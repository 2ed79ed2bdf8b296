"""Errors for clients: an HTTP status, a type, and the same three parts as every error."""

from __future__ import annotations

from sevenfold.core.errors import GateError, SevenfoldError, UsageError

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 400, 401, 403, 404
WRONG_METHOD, TOO_LARGE, MEDIA_TYPE, TOO_MANY = 405, 413, 415, 429
NOT_IMPLEMENTED, UNAVAILABLE = 501, 503
RETRY_SECONDS = 1

_TYPES = {
    BAD_REQUEST: "invalid_request_error",
    UNAUTHORIZED: "authentication_error",
    FORBIDDEN: "permission_error",
    NOT_FOUND: "not_found_error",
    WRONG_METHOD: "not_found_error",
    TOO_LARGE: "invalid_request_error",
    MEDIA_TYPE: "invalid_request_error",
    TOO_MANY: "rate_limit_error",
    NOT_IMPLEMENTED: "not_supported_error",
    UNAVAILABLE: "unavailable_error",
}


class RequestError(SevenfoldError):
    """A refused request. `where` names the field."""

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", remedy: str = "", status: int = BAD_REQUEST) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.status = status

    @classmethod
    def of(cls, error: SevenfoldError) -> RequestError:
        """Return an error of the engine as one for the client. When the engine refuses its input,
        the status is 400.
        """
        if isinstance(error, RequestError):
            return error
        status = BAD_REQUEST if isinstance(error, GateError | UsageError) else 500
        return cls(error.what, where=error.where, remedy=error.remedy, status=status)

    def body(self) -> dict[str, object]:
        """Return the error as the clients of OpenAI and llama.cpp read it (`error.message`)."""
        return {
            "error": {
                # Messages of libraries may have several lines.
                "message": " ".join(str(self).split()),
                "type": _TYPES.get(self.status, "server_error"),
                "param": self.where or None,
                "code": self.status,
            }
        }

    def headers(self) -> dict[str, str]:
        """Return the headers that say whether and when to try again."""
        if self.status in (TOO_MANY, UNAVAILABLE):
            return {"Retry-After": str(RETRY_SECONDS), "x-should-retry": "true"}
        return {"x-should-retry": "false"}
