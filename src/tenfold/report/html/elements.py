"""Elements of a page. Texts are escaped when they are written: no value becomes markup."""

import unicodedata
from xml.etree.ElementTree import Element, tostring

INVISIBLE = "Cc", "Cf", "Cs"  # controls, marks that turn the direction of a text, halves of characters


def element(tag: str, *children: Element | str, **attributes: str | float) -> Element:
    """An element with texts and elements in it, in order.

    Args: attributes: `class_` for `class`, `text_anchor` for `text-anchor`.
    """
    names = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    found = Element(tag, {name: visible(f"{value:g}" if isinstance(value, float) else str(value))
                          for name, value in names.items()})  # fmt: skip
    for child in children:
        if isinstance(child, Element):
            found.append(child)
        elif len(found):
            found[-1].tail = (found[-1].tail or "") + visible(child)
        else:
            found.text = (found.text or "") + visible(child)
    return found


def visible(text: str) -> str:
    """A text with every invisible character shown as one that was replaced; lines and tabs stay."""
    return "".join("\ufffd" if unicodedata.category(c) in INVISIBLE and c not in "\n\t" else c for c in text)


def markup(tree: Element) -> str:
    """An element as HTML."""
    text: str = tostring(tree, encoding="unicode", method="html")
    return text


def named(name: str) -> Element:
    """A name that somebody else chose: it may break anywhere, and turns no text around it."""
    return element("bdi", name)
