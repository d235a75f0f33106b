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
_ONE = "v ARRAY<FLOAT>, degree FLOAT DEFAULT 2.0F"


def _inner_product(a: str, b: str) -> str:
    # Lambdas are interpreted, so the fewer steps in them the better: the arrays are cast, not their elements.
    products = f"zip_with(CAST({a} AS ARRAY<DOUBLE>), CAST({b} AS ARRAY<DOUBLE>), (x, y) -> x * y)"
    return f"aggregate({products}, 0D, (total, term) -> total + term)"


def _norm(name: str) -> str:
    """The norm of v by degree, as DOUBLE."""
    expected = sql_literal(f"{name}: expected a degree of 1.0, 2.0 or float('inf'), got ")
    return (
        f"CASE degree WHEN 2.0F THEN sqrt({_inner_product('v', 'v')}) "
        "WHEN 1.0F THEN aggregate(v, 0D, (total, x) -> total + abs(x)) "
        "WHEN float('inf') THEN aggregate(v, 0D, (most, x) -> IF(x IS NULL OR most IS NULL, NULL, "
        "greatest(most, abs(x)))) "
        f"ELSE CAST(raise_error(concat({expected}, degree)) AS DOUBLE) END"
    )


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
            "vector_cosine_similarity",
            f"{_inner_product('a', 'b')} / nullif(sqrt({_inner_product('a', 'a')} * {_inner_product('b', 'b')}), 0D)",
        ),
        "Cosine of the angle between two vectors, -1 to 1. NULL when either has length zero.",
    ),
    VectorFunction(
        "vector_l2_distance",
        _PAIR,
        "FLOAT",
        _of_one_length(
            "vector_l2_distance",
            "sqrt(aggregate(zip_with(CAST(a AS ARRAY<DOUBLE>), CAST(b AS ARRAY<DOUBLE>), (x, y) -> x - y), 0D, "
            "(total, d) -> total + d * d))",
        ),
        "Euclidean distance between two vectors.",
    ),
    VectorFunction(
        "vector_norm",
        _ONE,
        "FLOAT",
        f"CAST({_norm('vector_norm')} AS FLOAT)",
        "Length of a vector by degree: 2.0 Euclidean (the default), 1.0, or float('inf').",
    ),
    VectorFunction(
        "vector_normalize",
        _ONE,
        "ARRAY<FLOAT>",
        # The norm goes into the lambda as an array, or it would be computed for every element.
        f"aggregate(array({_norm('vector_normalize')}), CAST(NULL AS ARRAY<FLOAT>), (none, norm) -> "
        "CASE WHEN norm > 0 THEN transform(v, x -> CAST(x / norm AS FLOAT)) END)",
        "The vector scaled to length one, by degree as vector_norm. NULL for a vector of length zero.",
    ),
)


def system_functions(spark: SparkSession) -> set[str]:
    """The functions that this Spark brings; ours of the same name step aside."""
    return {row["function"] for row in spark.sql("SHOW SYSTEM FUNCTIONS").collect()}
