"""A catalog in two pictures: where photos weigh more than words, and what an item's neighbours look like.

Cells as a notebook has them (`# %%`): open it in Jupyter, VS Code or PyCharm, or run it as it is.  It asks a running
`make sql-server`, and writes its pictures where it is run.
"""

# %%
import io
import os

import matplotlib.pyplot as plt
from PIL import Image

from jobs.sql.client import open_lake

spark = open_lake(os.environ.get("SPARK_REMOTE", "sc://127.0.0.1:15002"))

# %% [markdown]
# ## Where do photos decide?
#
# The model weighs each item's photo against its title; both weights sum to one. A category far to the right lives by
# its photos: there, a seller's better photo moves the item further than a better title.

# %%
weights = spark.sql("""
    SELECT category, items, low_image_weight, median_image_weight, high_image_weight
    FROM modal_weights_by_category ORDER BY median_image_weight
""").toPandas()
median = weights["median_image_weight"]
spread = [median - weights["low_image_weight"], weights["high_image_weight"] - median]

figure, axes = plt.subplots(figsize=(8, 1.2 + 0.3 * len(weights)), layout="constrained")
axes.errorbar(median, weights["category"], xerr=spread, fmt="o", capsize=3)
axes.set(title="What a photo weighs, by category", xlabel="weight of the photo: median, and where 80 % of items lie")
axes.grid(axis="x", alpha=0.3)
figure.savefig("photo-weights.png", dpi=120)

# %% [markdown]
# ## What is like this item?
#
# The item whose photo moves its vector most, and its nearest neighbours in the published build, photos and all. Photos
# are fetched by the digest that `items` holds of them.

# %%
neighbours = spark.sql("""
    WITH example AS (
        SELECT item_id, title, 0 AS rank, 1.0F AS score FROM current_items
        WHERE image_status = 'ok' ORDER BY photo_effect DESC, item_id LIMIT 1
    ), shown AS (
        SELECT * FROM example
        UNION ALL
        SELECT s.item_id, s.title, s.rank, s.score FROM example AS e, LATERAL similar_items(e.item_id, 7) AS s
    )
    SELECT s.rank, s.score, s.title, p.content AS photo
    FROM shown AS s
    JOIN items AS i ON i.item_id = s.item_id
    LEFT JOIN item_images AS p ON p.content_sha256 = i.image_sha256 AND p.readable
    ORDER BY s.rank
""").toPandas()

figure, places = plt.subplots(2, 4, figsize=(10, 6), layout="constrained")
for place in places.flat:
    place.axis("off")
for place, item in zip(places.flat, neighbours.itertuples(), strict=False):
    if item.photo is not None:
        place.imshow(Image.open(io.BytesIO(item.photo)).convert("RGB"))
    place.set_title(f"{item.title[:28]}\n{'the item' if item.rank == 0 else f'{item.score:.2f}'}", fontsize=9)
figure.savefig("neighbours.png", dpi=120)
