"""XML of elements, attributes and text, without what makes it dangerous.

A document type declaration is refused, so that there are no entities to expand and nothing is
fetched. Own lines over the standard library's expat rather than defusedxml: it is this one check.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat


class NoXmlError(ValueError):
    """A file that is no XML at all."""


def read_xml(file: Path) -> Element:
    """The root element of a file.

    Raises:
        NoXmlError: If it is no XML.
        ValueError: If it declares a document type.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(*_: object) -> None:
        raise ValueError(
            f"{file} declares a document type (<!DOCTYPE ...>), which may hide other files and "
            "endless text; take the declaration out"
        )

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = lambda tag: builder.end(tag)
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(file.read_bytes(), True)
    except expat.ExpatError as error:
        raise NoXmlError(f"{file} is no XML ({error}); export it again") from None
    return builder.close()


def number(element: Element | None, name: str, where: object) -> float:
    """The text of a child, or of an attribute, as a finite number.

    Raises:
        ValueError: If it is missing or no number.
    """
    text = None if element is None else element.get(name, element.findtext(name))
    try:
        value = float(text if text is not None else "")
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise ValueError(f"{where} has {name} {text!r}, which is no number; correct it")
    return value
