"""XML without what makes it dangerous: documents that declare a type or entities are refused before they grow."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from xml.parsers import expat


class XmlError(ValueError):
    """Not XML, or XML that declares a document type (and with it entities)."""


def parse_xml(data: bytes) -> ET.Element:
    """The root element.

    Raises:
        XmlError: says what is wrong in a few words.
    """
    tree, parser = ET.TreeBuilder(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(data, True)
        return tree.close()
    except XmlError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # LookupError: an encoding that Python lacks
        raise XmlError(str(error)[:200]) from error


def _refuse(*_: object) -> None:
    raise XmlError("a document type (DOCTYPE), which could hide entities, is not read")
