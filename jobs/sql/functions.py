"""Vector functions as SQL functions: names, types and NULL rules are those that Spark has from 4.2 on.

Vectors are ARRAY<FLOAT>; sums run in DOUBLE and come out as FLOAT.  A NULL vector or a NULL in one gives NULL; vectors
of different length are an error.  Where Spark brings a function of its own, ours steps aside.
"""

from dataclasses import dataclass

from pyspark.sql import SparkSession

from schemas.table import sql_literal


@dataclass(frozen=True)
class VectorFunction:
    """One SQL function.

    Args:
        parameters: Names and types, as in CREATE FUNCTION.
        returns: Type of the result.
        body: SQL expression over the parameters.
        comment: What DESCRIBE FUNCTION shows.
    """

    name: str
    parameters: str
    returns: str
    body: str
    comment: str


_PAIR = "a ARRAY<FLOAT>, b ARRAY<FLOAT>"
_ONE = "v ARRAY<FLOAT>"


def _inner_product(a: str, b: str) -> str:
    return f"aggregate(zip_with({a}, {b}, (x, y) -> CAST(x AS DOUBLE) * y), 0D, (total, term) -> total + term)"


def _norm(v: str) -> str:
    return f"sqrt({_inner_product(v, v)})"


def _of_one_length(name: str, result: str) -> str:
    """The result, or an error that names both lengths."""
    complaint = (
        f"concat('{name}: expected vectors of one length, got ', size(a), ' and ', size(b), "
        "'; vectors compare within one model_version')"
    )
    return f"CASE WHEN size(a) <> size(b) THEN raise_error({complaint}) ELSE CAST({result} AS FLOAT) END"


VECTOR_FUNCTIONS = (
    VectorFunction(
        "vector_inner_product",
        _PAIR,
        "FLOAT",
        _of_one_length("vector_inner_product", _inner_product("a", "b")),
        "Inner product; for unit vectors the cosine. 0 for empty vectors.",
    ),
    VectorFunction(
        "vector_cosine_similarity",
        _PAIR,
        "FLOAT",
        _of_one_length(
            "vector_cosine_similarity", f"{_inner_product('a', 'b')} / nullif({_norm('a')} * {_norm('b')}, 0D)"
        ),
        "Cosine of the angle between two vectors, -1 to 1. NULL when either has length zero.",
    ),
    VectorFunction(
        "vector_l2_distance",
        _PAIR,
        "FLOAT",
        _of_one_length(
            "vector_l2_distance",
            "sqrt(aggregate(zip_with(a, b, (x, y) -> CAST(x AS DOUBLE) - y), 0D, (total, d) -> total + d * d))",
        ),
        "Euclidean distance between two vectors.",
    ),
    VectorFunction("vector_norm", _ONE, "FLOAT", f"CAST({_norm('v')} AS FLOAT)", "Euclidean length of a vector."),
    VectorFunction(
        "vector_normalize",
        _ONE,
        "ARRAY<FLOAT>",
        # The norm stands outside the lambda, or it would be computed for every element.
        f"CASE WHEN {_norm('v')} > 0 "
        f"THEN zip_with(v, array_repeat({_norm('v')}, size(v)), (x, norm) -> CAST(x / norm AS FLOAT)) END",
        "The vector scaled to length one. NULL for a vector of length zero.",
    ),
)


def create_vector_functions(spark: SparkSession, database: str) -> list[str]:
    """Create the functions that this Spark lacks; returns their names."""
    own = {row["function"] for row in spark.sql("SHOW SYSTEM FUNCTIONS").collect()}
    missing = [function for function in VECTOR_FUNCTIONS if function.name not in own]
    for function in missing:
        spark.sql(
            f"CREATE OR REPLACE FUNCTION {database}.{function.name}({function.parameters}) RETURNS {function.returns} "
            f"COMMENT {sql_literal(function.comment)} RETURN {function.body}"
        )
    return [function.name for function in missing]
