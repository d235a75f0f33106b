"""Tables of the catalog: the items of today, their photos, and the items that it may never hold again."""

from schemas.table import BINARY, BOOLEAN, DATE, DOUBLE, INT, LONG, STRING, Column, Table

ITEMS = Table(
    name="items",
    comment="The catalog today: one row an item that any snapshot ever held, active or not.",
    columns=(
        Column("item_id", STRING, "The seller's identifier.", nullable=False),
        Column("title", STRING, "Title as the seller wrote it, trimmed.", nullable=False, statistics=False),
        Column("category", STRING, "Category as the snapshot names it."),
        Column("price", DOUBLE, "Price in the catalog's currency."),
        Column("in_stock", BOOLEAN, "Whether the snapshot says that it can be bought now; null: it does not say."),
        Column("image_uri", STRING, "Where the snapshot says the photo is; null without a photo.", statistics=False),
        Column("image_etag", STRING, "Version of the photo at its source; bytes are read again only when it changes."),
        Column("image_sha256", STRING, "Digest of the photo's bytes, key of item_images; null without a photo."),
        Column("content_hash", STRING, "Digest of exactly what the model reads: title.photo.", nullable=False),
        Column("is_active", BOOLEAN, "True while the newest snapshot holds the item.", nullable=False),
        Column("first_seen", DATE, "Logical date of the first snapshot with the item.", nullable=False),
        Column("inactive_since", DATE, "Logical date of the snapshot that lacked it; null while active."),
        Column("snapshot_date", DATE, "Logical date of the row's last change.", nullable=False),
    ),
    key=("item_id",),
    checks={
        "title_not_empty": "length(title) > 0",
        "inactive_has_a_date": "is_active = (inactive_since IS NULL)",
    },
    properties={"delta.enableChangeDataFeed": "true"},
)

ITEM_IMAGES = Table(
    name="item_images",
    comment="A photo's bytes once, however many items share it.",
    columns=(
        Column("content_sha256", STRING, "Digest of the bytes.", nullable=False),
        Column("content", BINARY, "The encoded photo as it came.", nullable=False),
        Column("bytes", LONG, "Length of content in bytes.", nullable=False),
        Column("width", INT, "Pixels; null when unreadable."),
        Column("height", INT, "Pixels; null when unreadable."),
        Column("format", STRING, "JPEG, PNG, ...; null when unreadable."),
        Column("readable", BOOLEAN, "Whether it decodes to its last row of pixels.", nullable=False),
        Column("unreadable_reason", STRING, "Why it does not; null when it does."),
    ),
    key=("content_sha256",),
    checks={"readable_or_why_not": "readable = (unreadable_reason IS NULL)"},
)

FORGOTTEN_ITEMS = Table(
    name="forgotten_items",
    comment="Items that were taken down: ingests refuse them, and all else that the lake held of them goes.",
    columns=(
        Column("item_id", STRING, "The seller's identifier; nothing else of the item is kept.", nullable=False),
        Column("reason", STRING, "Why, in the words of whoever ran the takedown.", nullable=False),
        Column("requested_by", STRING, "Who asked for it.", nullable=False),
        Column(
            "forgotten_on", DATE, "Logical date of the takedown; ingests refuse the item from then on.", nullable=False
        ),
        Column("gone_on", DATE, "Logical date on which nothing of it was found any more; null until then."),
    ),
    key=("item_id",),
)
