"""The run directory: enough to resume, to re-explain, to audit and to review.

``config.toml`` (fully resolved), ``environment.json`` (versions, commit, hardware, data),
``metrics.jsonl`` (a line a round), ``ledger.json``, ``checkpoints/``, ``model.safetensors`` and
``result.json`` (final figures); the report adds ``figures/`` and ``report.html``.
"""

import fcntl
import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from fedlens.errors import RunError
from fedlens.experiment.config import FORMAT, Config, parse_config, write_config
from fedlens.files import (
    atomic_writer,
    read_bytes,
    without_nan,
    write_bytes,
    write_json,
    write_text,
)

KEPT_CHECKPOINTS = 2
SMALL_FILE = 16 << 20
METRICS_FILE = 1 << 30
TENSOR_FILE = 4 << 30
METADATA = "fedlens"


class RunDirectory:
    """Reads and writes the files of one run; every write is atomic or an appended line."""

    def __init__(self, path: Path) -> None:
        """Name the directory; nothing is read or made yet."""
        self.path = path
        self.config_file = path / "config.toml"
        self.environment_file = path / "environment.json"
        self.metrics_file = path / "metrics.jsonl"
        self.ledger_file = path / "ledger.json"
        self.model_file = path / "model.safetensors"
        self.result_file = path / "result.json"
        self.checkpoints = path / "checkpoints"
        self.clients = (
            path / "clients"
        )  # what clients remember, for algorithms that have them do so

    def create(self, config: Config, environment: Mapping[str, Any]) -> None:
        """Make the directory and write what is known before the first round.

        Raises:
            RunError: the directory holds something already, or cannot be written.
        """
        self.check_free()
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        self.sweep()
        write_json(self.environment_file, dict(environment))
        if config.privacy.mechanism == "none":  # else the run itself begins a signed one
            content = {
                "format": FORMAT,
                "mechanism": config.privacy.mechanism,
                "guarantee": "none: the updates travelled without clipping or noise",
                "events": [],
            }
            write_json(self.ledger_file, content)
        write_bytes(self.metrics_file, b"")
        # The configuration is written last: a directory that has one is a run that can go on.
        write_text(self.config_file, write_config(config))

    def check_free(self) -> None:
        """Check that a run may be made here: nothing, or what a kill left of one that never began.

        Raises:
            RunError: the directory holds something else, or cannot be read.
        """
        unstarted = {"run.lock", "checkpoints"} | {
            file.name for file in (self.environment_file, self.ledger_file, self.metrics_file)
        }
        try:
            if not self.path.exists():
                return
            foreign = [
                entry.name
                for entry in self.path.iterdir()
                if entry.name not in unstarted and not entry.name.endswith(".part")
            ]
        except OSError as error:
            raise self._not_writable(error) from error
        if foreign:
            raise RunError(
                f"{self.path} is not empty; choose another --out"
                + (
                    f", or `fedlens resume {self.path}` to go on with the run in it."
                    if self.config_file.name in foreign
                    else "."
                )
            )

    def sweep(self) -> None:
        """Remove the half-written files that a kill left behind."""
        for folder in (self.path, self.checkpoints, self.clients):
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)

    def _not_writable(self, error: OSError) -> RunError:
        return RunError(
            f"Could not write to the run directory {self.path}: {error.strerror or error}; choose a "
            "place that you may write to."
        )

    def read_config(self) -> Config:
        """Return the run's configuration.

        Raises:
            RunError: not a run directory, or one of another version.
            ConfigError: a configuration that was changed by hand to something impossible.
        """
        if not self.config_file.is_file():
            raise RunError(
                f"{self.path} is not a run directory: it has no config.toml; expected the folder "
                "that `fedlens run` made."
            )
        content = self._settings()
        version = content.pop("format", None)
        if version != FORMAT:
            raise RunError(
                f"{self.path} is a run directory of format {version}, expected {FORMAT}; use the "
                "version of fedlens that made it."
            )
        return parse_config(content)

    def _settings(self) -> dict[str, Any]:
        try:
            return tomllib.loads(read_bytes(self.config_file, SMALL_FILE).decode())
        except (ValueError, RecursionError) as error:
            raise RunError(f"{self.config_file} is not valid TOML: {error}.") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory, so that two processes never write the same run.

        Raises:
            RunError: another process holds it, or the directory cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / "run.lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise self._not_writable(error) from error
        try:
            try:
                # Not flock: forked workers would inherit that and hold it after a kill.
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise RunError(
                    f"Another process is at work in {self.path}; wait for it, or stop it first."
                ) from error
            yield
        finally:
            os.close(handle)

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl`` and flush it to the disk.

        Numbers that are not finite become null: a diverged run is a result too.

        Raises:
            RunError: the file cannot be written.
        """
        try:
            with self.metrics_file.open("ab") as file:
                file.write((json.dumps(without_nan(line), allow_nan=False) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(
                f"Could not write {self.metrics_file}: {error.strerror or error}; free some space, "
                f"then `fedlens resume {self.path}`."
            ) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the complete lines of ``metrics.jsonl``; a last line cut short is left out.

        Raises:
            RunError: a line that is not JSON in the middle of the file.
        """
        content = read_bytes(self.metrics_file, METRICS_FILE)
        lines = content.split(b"\n")[:-1]  # after the last newline is nothing, or half a line
        history = []
        for number, line in enumerate(lines, start=1):
            record = _object(line)
            if record is None or not _is_line(record, number):
                raise RunError(
                    f"{self.metrics_file}, line {number} is damaged, expected the JSON object of "
                    f"round or epoch {number}."
                )
            history.append(record)
        return history

    def keep_metrics(self, count: int) -> None:
        """Cut ``metrics.jsonl`` back to its first ``count`` lines; raises ``RunError``."""
        history = self.read_metrics()
        if len(history) < count:
            raise RunError(
                f"{self.metrics_file} has {len(history)} lines, expected at least {count} for its "
                "last checkpoint; lines were lost, so this run cannot be resumed."
            )
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in history[:count])
        write_text(self.metrics_file, text)

    def write_checkpoint(self, number: int, tensors: Mapping[str, Tensor], config: Config) -> None:
        """Write the state after round (or epoch) ``number`` and drop all but the last two."""
        name = f"{number:06d}.safetensors"
        metadata = {"number": str(number), "config": _settings_digest(config)}
        write_tensors(self.checkpoints / name, tensors, metadata)
        for old in self.checkpoint_files()[:-KEPT_CHECKPOINTS]:
            old.unlink(missing_ok=True)

    def checkpoint_files(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("[0-9]*.safetensors"))

    def read_checkpoint(self, config: Config) -> tuple[int, dict[str, Tensor]] | None:
        """Return the number and tensors of the latest checkpoint, or None if there is none.

        Raises:
            RunError: it is damaged (the sentence says how to go back to the one before), or was
                written under another configuration.
        """
        files = self.checkpoint_files()
        if not files:
            return None
        try:
            tensors, metadata = read_tensors(files[-1])
            number, settings = int(metadata["number"]), metadata.get("config")
        except (RunError, KeyError, ValueError) as error:
            raise RunError(
                f"The checkpoint {files[-1]} is damaged; delete that file and resume again to go on "
                + ("from the one before it." if len(files) > 1 else "from the beginning.")
            ) from error
        if settings != _settings_digest(config):
            raise RunError(
                f"{self.config_file} was changed after the run had begun; put the old values back, "
                "or start a new run with the new ones."
            )
        return number, tensors

    def write_model(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write ``model.safetensors``."""
        write_tensors(self.model_file, tensors, metadata)

    def write_result(self, content: Mapping[str, Any]) -> None:
        """Write ``result.json``, which makes the run a finished one."""
        # The settings as they stand in the file: one that a later version adds changes nothing.
        made_with = self._made_with()
        write_json(self.result_file, without_nan({**content, "settings": made_with}))

    def read_result(self) -> dict[str, Any] | None:
        """Return ``result.json``, or None while the run is not finished.

        Raises:
            RunError: it is damaged, or the configuration was changed after the run had finished.
        """
        if not self.result_file.exists():
            return None
        content = self._read_json(self.result_file)
        if content.pop("settings", None) not in (None, self._made_with()):
            raise RunError(
                f"{self.config_file} was changed after the run had finished; put the old values back, "
                "or start a new run with the new ones."
            )
        return content

    def _made_with(self) -> str:
        """Return the digest of the settings but the path of the images, which may be moved."""
        settings = self._settings()
        if isinstance(settings.get("dataset"), dict):
            settings["dataset"].pop("path", None)  # their checksum is compared when they are loaded
        return _digest_of(settings)

    def read_environment(self) -> dict[str, Any]:
        """Return ``environment.json``; raises ``RunError``."""
        return self._read_json(self.environment_file)

    def _read_json(self, path: Path) -> dict[str, Any]:
        content = _object(read_bytes(path, SMALL_FILE))
        if content is None:
            raise RunError(f"{path} is damaged, expected a JSON object.")
        return content


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors with a digest of their bytes, atomically."""
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    # One entry, since the order of several differs from one process to the next.
    described = json.dumps({**metadata, "digest": _digest(plain)}, sort_keys=True)
    content = save_safetensors(plain, metadata={METADATA: described})
    with atomic_writer(path) as file:
        file.write(content)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and metadata of a file that :func:`write_tensors` wrote.

    Raises:
        RunError: the file is missing, too large, cut short or changed.
    """
    try:
        if path.stat().st_size > TENSOR_FILE:
            raise RunError(f"{path} is larger than the {TENSOR_FILE:,} bytes that it may have.")
        with safe_open(path, "pt") as file:
            metadata = _object((file.metadata() or {})[METADATA].encode()) or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise RunError(f"Could not read {path}: {error.strerror or error}.") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path} is damaged, expected a complete safetensors file.") from error
    if metadata.pop("digest", None) != _digest(tensors):
        raise RunError(f"{path} is damaged: its content does not match its digest.")
    return tensors, metadata


def _object(text: bytes) -> dict[str, Any] | None:
    """Return the JSON object that ``text`` is, or None if it is anything else, or has a NaN."""
    try:
        content = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _is_line(record: Mapping[str, Any], number: int) -> bool:
    """Return whether ``record`` has what is looked up in the metrics of round or epoch ``number``."""
    return (
        record.get("round", record.get("epoch")) == number
        and isinstance(record.get("seconds"), int | float)
        and "validation" in record
        and isinstance(record["validation"], dict | None)
    )


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _settings_digest(config: Config) -> str:
    """Return the SHA-256 of the settings that a checkpoint's numbers depend on."""
    return _digest_of(config.to_dict())


def _digest_of(settings: Mapping[str, Any]) -> str:
    content = {key: value for key, value in settings.items() if key not in ("explain", "report")}
    if isinstance(content.get("federation"), dict):
        content["federation"] = {k: v for k, v in content["federation"].items() if k != "workers"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
