"""Encryption to a public key in the format of age, as streams (https://age-encryption.org/v1), by pyrage.

pyrage is the Python binding of rage, and comes as a wheel for the platforms that the embedded PostgreSQL supports, so a
backup needs no program of the system. The `age` of a distribution reads and writes the same files.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyrage

from healthcare.operations.backup_errors import BackupError

HEADERS = (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----")


def parse_recipient(text: str) -> Any:
    """A public key: `age1…`, or one of SSH."""
    kind = pyrage.ssh.Recipient if text.startswith("ssh-") else pyrage.x25519.Recipient
    try:
        return kind.from_str(text)
    except pyrage.RecipientError as error:
        raise BackupError(
            "--encrypt-to takes a public key as `age-keygen` prints it (age1…), or one of SSH (ssh-ed25519 …)."
        ) from error


def read_identities(path: Path) -> list[Any]:
    """The private keys in a file of `age-keygen`, or a private key of SSH."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackupError(f"The identity {path} cannot be read: {error.strerror}.") from error
    try:
        if b"-----BEGIN" in content:
            return [pyrage.ssh.Identity.from_buffer(content)]
        keys = [line.strip() for line in content.decode("ascii").splitlines()]
        found = [pyrage.x25519.Identity.from_str(key) for key in keys if key and not key.startswith("#")]
    except (pyrage.IdentityError, UnicodeDecodeError) as error:
        raise BackupError(f"{path} holds no private key of age (AGE-SECRET-KEY-1…) or of SSH.") from error
    if not found:
        raise BackupError(f"{path} holds no private key of age (AGE-SECRET-KEY-1…) or of SSH.")
    return found


def is_encrypted(beginning: bytes) -> bool:
    return beginning.startswith(HEADERS)


class Worker:
    """Runs a function in a thread, and keeps what it raises."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        try:
            self.function()
        except BaseException as error:
            self.error = error


class RecordingWriter:
    """Keeps the error of a write, which pyrage turns into one of its own."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.stream.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.stream.flush()


@contextmanager
def encrypted_to(recipients: Sequence[Any], target: IO[bytes]) -> Iterator[IO[bytes]]:
    """A stream whose content is written to the target encrypted; the target itself without recipients."""
    if not recipients:
        yield target
        return
    reading, writing = os.pipe()
    recorder = RecordingWriter(target)

    def encrypt() -> None:
        with os.fdopen(reading, "rb") as source:
            pyrage.encrypt_io(source, recorder, recipients)

    worker = Worker(encrypt)
    try:
        try:
            with os.fdopen(writing, "wb") as stream:
                yield stream
        finally:
            worker.thread.join()
    except BrokenPipeError:
        raise recorder.error or BackupError("The backup could not be encrypted.") from None
    if worker.error:
        raise recorder.error or worker.error


@contextmanager
def decrypted_by(identities: Sequence[Any], source: IO[bytes]) -> Iterator[IO[bytes]]:
    """A stream with the decrypted content of the source. Where it cannot be decrypted to its end, the stream ends early
    and the block raises BackupError at its end. A block may read the beginning alone."""
    reading, writing = os.pipe()

    def decrypt() -> None:
        with os.fdopen(writing, "wb") as pipe:
            target = RecordingWriter(pipe)
            try:
                pyrage.decrypt_io(source, target, identities)
                pipe.flush()
            except (pyrage.DecryptError, OSError):
                if not isinstance(target.error, BrokenPipeError):
                    raise

    worker = Worker(decrypt)
    failure: BackupError | None = None
    with os.fdopen(reading, "rb") as stream:
        try:
            yield stream
        except BackupError as error:
            failure = error
    worker.thread.join()
    if worker.error and not isinstance(worker.error, BrokenPipeError):
        raise BackupError(
            "The file cannot be decrypted: the identity is of another key, or the file is damaged or was altered."
        ) from worker.error
    if failure:
        raise failure
