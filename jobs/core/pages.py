"""Self-contained HTML pages: templates, one style for all of them, and photos small enough to be inlined."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.lake import Lake
from models.make.photo import read_photo

# Longest sides of an inlined photo, in pixels: sharp at the size in which pages show it, some 10 kB each.
_THUMBNAIL = (192, 256)


def render_page(package: str, template: str, **values: object) -> str:
    """One HTML document, everything inlined; whatever comes from data is escaped.

    Args:
        package: Whose folder `templates` holds the template, as `jobs.operations`; it may include `page.css`.
        template: File name.
        values: What the template reads; an unknown name is an error.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("jobs.core")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(**values)


def write_page(lake: Lake, run_id: str, html: str) -> str:
    """Put a run's page into the lake, in place of an earlier one of that run; returns where it lies."""
    parts = ("reports", run_id.replace("/", "_"))
    lake.fs.makedirs(lake.path(*parts), exist_ok=True)
    place = lake.path(*parts, "index.html")
    with lake.fs.open(place, "w", encoding="utf-8") as file:
        file.write(html)
    return place if lake.is_local else lake.uri(*parts, "index.html")


def thumbnails(images: DataFrame, keys: Collection[str]) -> dict[str, str]:
    """Thumbnails of the readable photos among these, as data URIs by content_sha256.

    Args:
        images: The table `item_images`; only these rows' bytes are read.
        keys: Values of content_sha256.
    """
    if not keys:
        return {}
    readable = images.where(F.col("content_sha256").isin(*sorted(keys)) & F.col("readable"))
    return {row["content_sha256"]: _thumbnail(row["content"]) for row in readable.collect()}


def _thumbnail(content: bytes) -> str:
    """A small JPEG of the photo as a data URI; drawn anew, so that nothing but pixels reaches the page."""
    small = read_photo(content).image
    small.thumbnail(_THUMBNAIL)
    encoded = io.BytesIO()
    small.save(encoded, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
