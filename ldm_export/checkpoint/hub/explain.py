"""The errors of `huggingface_hub` as sentences that say what to do, each with its code.

Versions before and after 1.0 have different HTTP clients; both are told by the names of their classes.
"""

import errno
from types import ModuleType

from ldm_export.checkpoint.hub.names import HubName
from ldm_export.errors import CheckpointError
from ldm_runtime.checks import first_line

_NO_CONNECTION = {"ConnectionError", "Timeout", "TransportError", "ChunkedEncodingError"}
_TOKEN = "set HF_TOKEN or run `hf auth login`"


def explanation(name: HubName, error: Exception, constants: ModuleType) -> CheckpointError:
    """Return the sentence for an error of the library; `constants` are the library's own."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "LocalEntryNotFoundError" in kinds and isinstance(error.__cause__, Exception):  # what came first says more
        return explanation(name, error.__cause__, constants)
    status = getattr(getattr(error, "response", None), "status_code", None)
    number = getattr(error, "errno", None)
    reason = f"{type(error).__name__}: {first_line(error)}"
    found = _of_repository(name, kinds, status, reason, constants.ENDPOINT)
    if found is None:
        first = _first_of(error)
        found = _of_transport(name, kinds, status, number, f"{type(first).__name__}: {first_line(first)}", constants)
    code, sentence = found
    return CheckpointError(sentence, code=code)


def _first_of(error: BaseException) -> Exception:
    """Return what an error came from at first: what the system said about a connection."""
    found = error
    while (earlier := found.__cause__ or found.__context__) is not None:
        found = earlier
    return found if isinstance(found, Exception) else RuntimeError(str(found))


def _of_repository(
    name: HubName, kinds: set[str], status: int | None, reason: str, endpoint: str
) -> tuple[str, str] | None:
    """Return code and sentence where the hub does not have a repository, or does not give it."""
    if "GatedRepoError" in kinds:
        where = f"{endpoint}/{name.repository}"
        return "hub.access", f"{name} is gated; accept its terms at {where}, then {_TOKEN}"
    if "RepositoryNotFoundError" in kinds:
        what = f"there is no repository {name.repository}, or it is private"
        return "hub.not-found", f"{what}; check the name, or {_TOKEN}"
    if "RevisionNotFoundError" in kinds:
        what = f"{name.repository} has no revision {name.revision or 'main'}"
        return "hub.not-found", f"{what}; give a branch, a tag or a commit that it has"
    if status in (401, 403):
        return "hub.access", f"{name} may not be read ({reason}); {_TOKEN}, with a token that may read it"
    if "EntryNotFoundError" in kinds and status == 404:
        return "hub.not-found", f"{name} lacks a file that the hub lists ({reason}); run again, or check HF_ENDPOINT"
    if "HFValidationError" in kinds:
        return "hub.name", f"{name} is not a name of the hub ({reason}); check it"
    return None


def _of_transport(
    name: HubName, kinds: set[str], status: int | None, number: int | None, reason: str, constants: ModuleType
) -> tuple[str, str]:
    """Return code and sentence where what the hub has does not arrive, or not as it was listed."""
    cache = constants.HF_HUB_CACHE
    if "LocalEntryNotFoundError" in kinds:
        what = f"{name} is not in the cache {cache}, or not completely, and HF_HUB_OFFLINE is set"
        return "hub.offline", f"{what}; unset it and run again with a connection"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "hub.space", f"{cache} is full, so {name} is not complete; free space and run again"
    if number == errno.EFBIG or status == 416 or "Consistency check failed" in reason:
        what = f"a file of {name} is not of the size that is listed ({reason})"
        return "hub.content", f"{what}; remove the .incomplete files below {cache} and run again"
    if status == 429 or (status or 0) >= 500 or kinds & _NO_CONNECTION:
        advice = "check the connection and run again, or set HF_HUB_OFFLINE=1 to use what is in the cache"
        return "hub.connection", f"cannot reach {constants.ENDPOINT} for {name} ({reason}); {advice}"
    return "hub.failed", f"cannot fetch {name} ({reason}); run again, or check HF_ENDPOINT"
