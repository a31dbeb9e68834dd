"""The XHTML of a narrative (https://hl7.org/fhir/R4/narrative.html)."""

import re
from xml.parsers import expat

from fhir.value_sets import codes_in

XHTML = "http://www.w3.org/1999/xhtml"
XML = "http://www.w3.org/XML/1998/namespace"

# The elements of txt-1, and three that the chapters have to which it refers.
HTML_ELEMENTS = frozenset(
    codes_in("""
        a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 h4 h5 h6 hr i
        img li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var address bdo kbd
    """)
)
# The attributes of txt-1, and xml:lang, which https://hl7.org/fhir/R4/languages.html wants beside lang.
HTML_ATTRIBUTES = frozenset(
    codes_in("""
        abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign char charoff
        charset cite class colspan compact coords dir frame headers height href hreflang hspace id lang longdesc name
        nowrap rel rev rowspan rules scope shape span src start style summary tabindex title type valign value vspace
        width
    """)
) | {f"{XML} lang"}
SCRIPT_URL = re.compile(r"(?:java|vb)script:", re.IGNORECASE)
IGNORED_IN_URLS = re.compile(r"[\x00-\x20]")  # by browsers


class NarrativeError(Exception):
    """The message says what to do."""


class NarrativeCheck:
    """Parses the text with expat, which expands no entities here: a document type declaration ends the check."""

    def __init__(self) -> None:
        self.depth = 0
        self.has_content = False
        self.parser = expat.ParserCreate("utf-8", namespace_separator=" ")
        self.parser.StartElementHandler = self.start_element
        self.parser.EndElementHandler = self.end_element
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = refuse_declaration
        self.parser.XmlDeclHandler = refuse_declaration
        self.parser.ProcessingInstructionHandler = refuse_declaration

    def start_element(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, element = name.rpartition(" ")
        if not self.depth and (namespace, element) != (XHTML, "div"):
            raise NarrativeError(f'Send one div with xmlns="{XHTML}".')
        if namespace != XHTML or element not in HTML_ELEMENTS:
            raise NarrativeError("Send only the formatting elements of XHTML that a narrative may have (txt-1).")
        if not attributes.keys() <= HTML_ATTRIBUTES:
            raise NarrativeError("Send only the attributes of XHTML that a narrative may have, and no events (txt-1).")
        for value in attributes.values():
            if SCRIPT_URL.match(IGNORED_IN_URLS.sub("", value)):
                raise NarrativeError("Send no scripts in a narrative.")
        self.depth += 1
        self.has_content = self.has_content or element == "img"

    def end_element(self, _: str) -> None:
        self.depth -= 1

    def characters(self, text: str) -> None:
        self.has_content = self.has_content or bool(text.strip())


def refuse_declaration(*_: object) -> None:
    raise NarrativeError("Send the div alone, without an XML declaration, a document type or processing instructions.")


def check_narrative(text: str) -> None:
    """Raise NarrativeError unless the text is the div of a narrative."""
    check = NarrativeCheck()
    try:
        check.parser.Parse(text, True)
    except expat.ExpatError as error:
        raise NarrativeError("Send well-formed XHTML with characters instead of HTML's named entities.") from error
    if not check.has_content:
        raise NarrativeError("Send a div with some text or an image (txt-2).")
