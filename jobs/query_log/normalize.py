"""The normal form of a query, as a Spark column."""

import pandas as pd
from pyspark.sql import functions as F

from models.make.text import normalize_text
from schemas.table import STRING


@F.pandas_udf(STRING)
def normalize_query(queries: pd.Series) -> pd.Series:
    """What `models.make.text.normalize_text` gives, by calling it once a distinct query of the batch; null stays null.

    Spark SQL alone knows neither NFKC nor case folding, and two implementations would drift apart: the model must see
    at serving time exactly the form that it was trained on.
    """
    return queries.map({query: normalize_text(query) for query in queries.dropna().unique()})
