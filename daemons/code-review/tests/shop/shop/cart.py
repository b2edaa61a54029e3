"""What somebody wants to buy."""


def add(item, items=[]):
    """Puts an item into a cart, and gives the cart."""
    items.append(item)
    return items


def total(items):
    return sum(item["price"] * item["count"] for item in items)


def average(items):
    """What an item costs on average."""
    return total(items) / sum(item["count"] for item in items)
