"""The model folder: weights, configuration, processor, card, and a manifest whose digests name the version."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from transformers.utils import logging as transformers_logging

from models.make.modeling_make import MakeModel
from models.make.processing_make import MakeProcessor

MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"


@dataclass(frozen=True)
class ModelFolder:
    """An opened model folder; `model` is on the CPU and in evaluation mode."""

    model: MakeModel
    processor: MakeProcessor
    model_version: str
    weights_digest: str
    preprocessing_digest: str


def save_model_folder(
    folder: str | Path, model: MakeModel, processor: MakeProcessor, *, trained_on: date, card: str
) -> dict[str, str]:
    """Write a model folder, its manifest last, so that a folder with a manifest is complete.

    The model is read back and its weights compared, so that no version is named that would not load.

    Args:
        folder: made if absent; files of an earlier model in it are replaced.
        trained_on: the logical date that the version carries.
        card: the model card in Markdown, `README.md` of the folder.

    Returns:
        `model_version`, which is `make-<yyyymmdd>-<8 hex digits>` and whose digits digest weights and preprocessing,
        and the two, `weights_digest` and `preprocessing_digest`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    _quietly(model.save_pretrained, folder)
    processor.save_pretrained(folder)
    (folder / CARD_FILE).write_text(card, "utf-8")
    files = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.name != CARD_FILE}
    weights, preprocessing = files[WEIGHTS_FILE], _preprocessing_digest(files)
    version = f"make-{trained_on:%Y%m%d}-{_digest(weights, preprocessing)[:8]}"
    names = {"model_version": version, "weights_digest": weights, "preprocessing_digest": preprocessing}
    _refuse_unlike_weights(model, _quietly(MakeModel.from_pretrained, folder))
    (folder / MANIFEST_FILE).write_text(json.dumps({**names, "files": files}, indent=2, sort_keys=True) + "\n", "utf-8")
    return names


def load_model_folder(folder: str | Path) -> ModelFolder:
    """Open a model folder after checking every file against the manifest.

    Raises:
        FileNotFoundError: no manifest, so no complete model folder.
        ValueError: a file is missing or differs from its digest.
    """
    folder = Path(folder)
    if not (folder / MANIFEST_FILE).is_file():
        raise FileNotFoundError(f"{folder} is no complete model folder: expected {MANIFEST_FILE} in it.")
    manifest = json.loads((folder / MANIFEST_FILE).read_text("utf-8"))
    for name, expected in manifest["files"].items():
        found = _sha256(folder / name) if (folder / name).is_file() else "no file"
        if found != expected:
            raise ValueError(
                f"{folder / name}: expected SHA-256 {expected[:12]}, got {found[:12]}. "
                f"The folder is not {manifest['model_version']} any more: copy it again from where it was trained."
            )
    return ModelFolder(
        model=_quietly(MakeModel.from_pretrained, folder).eval(),
        processor=MakeProcessor.from_pretrained(folder),
        model_version=manifest["model_version"],
        weights_digest=manifest["weights_digest"],
        preprocessing_digest=manifest["preprocessing_digest"],
    )


def _refuse_unlike_weights(model: MakeModel, loaded: MakeModel) -> None:
    """Compare all parameters and buffers, saved or not.

    Raises:
        ValueError: naming the first tensor that came back different.
    """
    found = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name not in found or not found[name].equal(tensor.detach().cpu()):
            raise ValueError(
                f"{name} does not come back from a saved folder: the backbone {model.config.image_backbone!r} "
                "keeps state that save_pretrained does not cover. Choose another."
            )


def _preprocessing_digest(files: dict[str, str]) -> str:
    """Digest of every file but the weights: configuration, tokenizer, image transform."""
    return _digest(*(f"{name}={digest}" for name, digest in sorted(files.items()) if name != WEIGHTS_FILE))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _quietly(function, *args):
    """Call without transformers' progress bars, which would tear a job's own output."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        return function(*args)
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()
