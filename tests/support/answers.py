"""What tests expect of the answers of a server."""

import tempfile


def is_refusal(answer, status, code):
    """A refusal in one line, which names no folder of this machine."""
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert set(answer.json()) == {"error"}
    assert set(error) == {"code", "message"}
    assert error["message"]
    for secret in ("Traceback", tempfile.gettempdir(), "\n", "/source"):
        assert secret not in error["message"]
    return True
