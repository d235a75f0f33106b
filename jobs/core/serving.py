"""Which model is meant: the one that serves, or the one that was trained last."""

from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.core.job import JobError, JobSkipped
from jobs.core.lake import Lake
from schemas import INDEX_BUILDS, MODELS

# In place of a version: the model promoted last, whether or not it serves yet.
PROMOTED = "promoted"
_NO_MODEL = "no promoted model: run the training DAG (make train), then this night again"


def serving_model(lake: Lake) -> str:
    """The version of the published build's model; before the first build, of the newest promoted one.

    Raises:
        JobSkipped: No build is published and no model was ever promoted.
    """
    published = lake.read(INDEX_BUILDS).where(F.col("status") == "published").select("model_version").first()
    if published is not None:
        return published["model_version"]
    promoted = newest_promoted_model(lake)
    if promoted is None:
        raise JobSkipped(_NO_MODEL)
    return promoted["model_version"]


def named_model(lake: Lake, name: str | None) -> str:
    """The version that a job's option means: itself; of the model promoted last; without one, of the serving model.

    Raises:
        JobSkipped: No model serves yet, or none was promoted.
    """
    if name == PROMOTED:
        promoted = newest_promoted_model(lake)
        if promoted is None:
            raise JobSkipped(_NO_MODEL)
        return promoted["model_version"]
    return name or serving_model(lake)


def newest_promoted_model(lake: Lake) -> Row | None:
    """The row of the model that was promoted last, which any challenger has to beat; None before the first."""
    return lake.read(MODELS).where(F.col("stage") == "promoted").orderBy(F.desc("promoted_at")).first()


def find_model(lake: Lake, version: str | None) -> Row:
    """The row of a model by its version, or of the model that was trained last.

    Raises:
        JobError: There is no such model.
    """
    models = lake.read(MODELS)
    if version is not None:
        models = models.where(F.col("model_version") == version)
    row = models.orderBy(F.desc("created_at")).first()
    if row is None:
        raise JobError(f"no model {version or 'was trained yet'}: `training train` records the models that it makes")
    return row
