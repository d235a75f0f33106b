"""What the marketplace sells, and the words that sellers and shoppers have for it."""

from dataclasses import dataclass

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Term:
    """One value of an attribute.

    Args:
        name: What the value is called here; never shown to anyone.
        sellers: How titles say it; the first is the usual one.
        shoppers: How queries say it; the first is the usual one, the last ones no seller uses.
        chinese: How Chinese titles and queries say it.
        weight: How common it is among products.
    """

    name: str
    sellers: tuple[str, ...]
    shoppers: tuple[str, ...]
    chinese: str
    weight: float = 1.0


@dataclass(frozen=True)
class Kind(Term):
    """A kind of product.

    Args:
        category: The catalog's category.
        price: Typical price.
    """

    category: str = ""
    price: float = 30.0


@dataclass(frozen=True)
class Colour(Term):
    """A colour.

    Args:
        rgb: Its middle; each product is dyed a little differently.
    """

    rgb: Rgb = (0, 0, 0)


_TOP, _BOTTOM, _SHOES, _MORE = "Apparel > Topwear", "Apparel > Bottomwear", "Footwear > Shoes", "Accessories"

KINDS = (
    Kind("tee", ("T-Shirt", "Tee", "Crew Neck Tee"), ("t-shirt", "tee", "tshirt"), "T恤", 1.6, _TOP, 18),
    Kind("shirt", ("Shirt", "Button-Down Shirt", "Overshirt"), ("shirt", "button up", "blouse"), "衬衫", 1.3, _TOP, 34),
    Kind("jacket", ("Jacket", "Zip Jacket", "Bomber"), ("jacket", "coat", "windbreaker"), "夹克", 0.9, _TOP, 79),
    Kind("dress", ("Dress", "Midi Dress"), ("dress", "frock", "gown"), "连衣裙", 1.4, "Apparel > Dress", 52),
    Kind("skirt", ("Skirt", "A-Line Skirt"), ("skirt", "mini skirt"), "半身裙", 0.8, _BOTTOM, 31),
    Kind("trousers", ("Trousers", "Pants", "Chinos"), ("trousers", "pants", "slacks"), "裤子", 1.1, _BOTTOM, 45),
    Kind("shorts", ("Shorts", "Bermudas"), ("shorts", "short pants"), "短裤", 0.7, _BOTTOM, 24),
    Kind("sneakers", ("Sneakers", "Trainers"), ("sneakers", "trainers", "kicks"), "运动鞋", 1.3, _SHOES, 68),
    Kind("boots", ("Boots", "Ankle Boots"), ("boots", "booties"), "靴子", 0.7, _SHOES, 96),
    Kind("handbag", ("Handbag", "Tote Bag"), ("handbag", "bag", "purse"), "手提包", 1.0, f"{_MORE} > Bags", 58),
    Kind("cap", ("Cap", "Baseball Cap"), ("cap", "hat", "snapback"), "帽子", 0.7, f"{_MORE} > Headwear", 15),
    Kind("scarf", ("Scarf", "Shawl"), ("scarf", "wrap", "neck warmer"), "围巾", 0.6, f"{_MORE} > Scarves", 21),
)

COLOURS = (
    Colour("red", ("Red", "Scarlet", "Crimson"), ("red", "scarlet", "cherry"), "红色", 1.2, (202, 32, 40)),
    Colour("orange", ("Orange", "Rust"), ("orange", "tangerine"), "橙色", 0.7, (238, 126, 30)),
    Colour("yellow", ("Yellow", "Mustard"), ("yellow", "lemon"), "黄色", 0.8, (243, 208, 52)),
    Colour("green", ("Green", "Emerald"), ("green", "grass green"), "绿色", 1.0, (46, 142, 64)),
    Colour("turquoise", ("Turquoise", "Teal"), ("turquoise", "aqua"), "青色", 0.6, (52, 186, 184)),
    Colour("blue", ("Blue", "Royal Blue"), ("blue", "cobalt"), "蓝色", 1.4, (38, 84, 190)),
    Colour("purple", ("Purple", "Plum"), ("purple", "violet"), "紫色", 0.7, (120, 54, 158)),
    Colour("pink", ("Pink", "Rose"), ("pink", "blush"), "粉色", 1.0, (242, 146, 186)),
    Colour("brown", ("Brown", "Tan"), ("brown", "chocolate"), "棕色", 0.9, (120, 76, 42)),
    Colour("black", ("Black", "Jet Black"), ("black", "noir"), "黑色", 1.6, (30, 30, 34)),
    Colour("white", ("White", "Ivory"), ("white", "snow"), "白色", 1.4, (244, 243, 240)),
    Colour("grey", ("Grey", "Charcoal"), ("grey", "gray", "ash"), "灰色", 1.1, (134, 136, 142)),
)

PATTERNS = (
    Term("plain", ("Solid", "Plain"), ("plain", "solid"), "纯色", 4.0),
    Term("striped", ("Striped", "Breton Stripe"), ("striped", "stripes"), "条纹", 1.4),
    Term("dotted", ("Polka Dot", "Dotted"), ("polka dot", "spotted"), "波点", 1.0),
    Term("checked", ("Checked", "Plaid"), ("checked", "tartan"), "格子", 1.0),
    Term("floral", ("Floral", "Flower Print"), ("floral", "flowery"), "印花", 1.0),
)

AUDIENCES = (
    Term("women", ("Women's", "Ladies"), ("women", "ladies", "for her"), "女装", 1.4),
    Term("men", ("Men's", "Gents"), ("men", "mens", "for him"), "男装", 1.2),
    Term("kids", ("Kids", "Junior"), ("kids", "children", "little ones"), "童装", 0.6),
)

_BRANDS = (
    "Norvik", "Alderly", "Castella", "Brambleton", "Kestrel", "Marlowe", "Oakhurst", "Pinelli", "Quayside", "Rivage",
    "Solenne", "Tamsin", "Umberto", "Velloria", "Wexcombe", "Zephyra", "Harrowgate", "Lumenno",
)  # fmt: skip
BRANDS = tuple(Term(name.lower(), (name,), (name.lower(),), name, 1 / (rank + 3)) for rank, name in enumerate(_BRANDS))

# An attribute's name and its values.  A product has one of each; a title or query names some of them.
ATTRIBUTES: dict[str, tuple[Term, ...]] = {
    "kind": KINDS,
    "colour": COLOURS,
    "pattern": PATTERNS,
    "audience": AUDIENCES,
    "brand": BRANDS,
}

ADJECTIVES = ("Relaxed", "Slim Fit", "Classic", "Everyday", "Soft", "Premium", "Lightweight", "Vintage", "Essential")

# What sellers add so that more searches find them, true or not.
STUFFING = ("New", "Best Price", "Gift", "Party Wear", "Casual", "Hot Sale", "Combo", "Trendy", "Sports", "2026")

JUNK_QUERIES = (None, "", "   ", "?", "asdfghjkl", "......", "http://example.com/a?b=1", "00000000", "'; --", "\u200b")
