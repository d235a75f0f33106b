"""The lake as a database, put away again after each test."""

import pytest

from jobs.sql.register import DATABASE, register


@pytest.fixture
def enter_lake(lake, spark):
    """Registers the test's lake, or another, as often as it is called; returns what the session knows then."""
    yield lambda other=lake: register(spark, other)
    spark.catalog.setCurrentDatabase("default")
    # The functions do not depend on the lake and may stay.
    for view in spark.sql(f"SHOW VIEWS IN {DATABASE}").where("NOT isTemporary").collect():
        spark.sql(f"DROP VIEW {DATABASE}.{view['viewName']}")
