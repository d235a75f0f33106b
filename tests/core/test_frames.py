"""Frames and the settings they are computed under."""

import pytest

from jobs.core.frames import few_rows


def test_settings_for_few_rows_end_with_the_block(spark):
    set_before, not_set = "spark.sql.codegen.wholeStage", "spark.databricks.delta.update.deletionVectors.persistent"
    of_session = spark.conf.get(set_before)
    spark.conf.set(set_before, "true")
    try:
        with pytest.raises(KeyError), few_rows(spark):
            assert (spark.conf.get(set_before), spark.conf.get(not_set)) == ("false", "false")
            raise KeyError
        assert (spark.conf.get(set_before), spark.conf.get(not_set, None)) == ("true", None)
    finally:
        spark.conf.set(set_before, of_session)
