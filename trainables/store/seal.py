"""The seal of an archive (zip): its comment is the digest of all that comes before it."""

import hashlib

_DIGEST = b"sha256:"
_COMMENT_BYTES = len(_DIGEST) + 64
_LENGTH_BYTES = 2


def sealed(archive: bytes) -> bytes:
    """An archive without a comment, with its seal."""
    if archive[-_LENGTH_BYTES:] != bytes(_LENGTH_BYTES):
        raise AssertionError("the archive has a comment of its own")
    content = archive[:-_LENGTH_BYTES] + _COMMENT_BYTES.to_bytes(_LENGTH_BYTES, "little")
    return content + _DIGEST + hashlib.sha256(content).hexdigest().encode()


def is_as_sealed(content: bytes) -> bool | None:
    """Whether an archive is what was sealed; None where it has no seal."""
    comment = content[-_COMMENT_BYTES:]
    if not comment.startswith(_DIGEST):
        return None
    found = hashlib.sha256(content[:-_COMMENT_BYTES]).hexdigest()
    return comment == _DIGEST + found.encode()
