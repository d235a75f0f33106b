"""What a run begins with: the configuration, the processor and the first weights."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow.parquet as pq
from upath import UPath

from models.make.backbones import config_of_backbones
from models.make.configuration_make import MakeConfig, preset_config
from models.make.modeling_make import MakeModel
from models.make.processing_make import MakeProcessor
from models.training.distributed import Process
from models.training.settings import TrainSettings


def prepare_text(
    settings: TrainSettings, process: Process, *, saved: Mapping[str, str] | None
) -> tuple[MakeConfig, MakeProcessor]:
    """The configuration and the processor, whose vocabulary, where it has one, is learnt from the set's texts.

    Rank 0 learns it, or has it from the checkpoint: learning breaks ties by chance, and so another process would
    come to other tokens.  A pretrained text backbone brings its own.

    Args:
        saved: files of the processor of a run that goes on, as `MakeProcessor.to_files` gave them.
    """
    backbones = {"text": settings.pretrained_text, "image": settings.pretrained_image}
    config = preset_config(settings.preset, **{**settings.overrides, **settings.objectives.heads})
    config = config_of_backbones(config, **backbones)
    files = saved
    if saved is None and process.is_first:
        texts = []
        if config.text_encoder == "bert" and settings.pretrained_text is None:
            with (UPath(settings.training_set) / "texts.parquet").open("rb") as file:
                texts = pq.read_table(file, columns=["text"]).column("text").to_pylist()
        files = MakeProcessor.for_config(config, texts, **backbones).to_files()
    processor = MakeProcessor.from_files(process.from_first(files))
    config.vocab_size = processor.vocab_size
    return config, processor


def begin_model(config: MakeConfig, settings: TrainSettings, *, resumes: bool) -> MakeModel:
    """A model of first weights, pretrained where that is wanted; a run that goes on loads its own over them."""
    if resumes:
        return MakeModel(config)
    return MakeModel.from_backbones(config, text=settings.pretrained_text, image=settings.pretrained_image)
