"""Narratives: https://hl7.org/fhir/R4/narrative.html."""

import pytest

from fhir.tests.structures import DIV, issues_of


@pytest.mark.parametrize(
    "div",
    [
        DIV.format("Ada"),
        DIV.format("&lt;&#160;&amp;"),
        DIV.format('<p lang="en" xml:lang="en">A<br/><!-- b --></p>'),
        DIV.format('<img src="data:image/png;base64,QQ==" alt="a"/>'),
        DIV.format('<a href="https://example.org/javascript:">a</a>'),
        '\n<h:div xmlns:h="http://www.w3.org/1999/xhtml"><h:b>Ada</h:b></h:div>',
    ],
)
def test_a_narrative_is_formatted_xhtml(div: str):
    assert issues_of(text={"status": "generated", "div": div}) == []


@pytest.mark.parametrize(
    "div",
    [
        "Ada",
        "<div>Ada</div>",
        "<p xmlns='http://www.w3.org/1999/xhtml'>Ada</p>",
        DIV.format("a") + DIV.format("b"),
        DIV.format("a") + "b",
        DIV.format("<p>a"),
        DIV.format("a & b"),
        DIV.format("&nbsp;"),
        DIV.format(" \n "),
        DIV.format("<p/>"),
        DIV.format("<script>a</script>"),
        DIV.format('<p onclick="a">a</p>'),
        DIV.format('<a href=" java\tscript:a">a</a>'),
        DIV.format('<a href="&#106;avascript:a">a</a>'),
        DIV.format('<svg xmlns="http://www.w3.org/2000/svg">a</svg>'),
        DIV.format('<x:a xmlns:x="http://example.org">a</x:a>'),
        DIV.format("<iframe>a</iframe>"),
        DIV.format("<form>a</form>"),
        DIV.format("<?php a ?>b"),
        '<?xml version="1.0"?>' + DIV.format("a"),
        "<!DOCTYPE div>" + DIV.format("a"),
        '<!DOCTYPE div [<!ENTITY a "b">]>' + DIV.format("&a;"),
        '<!DOCTYPE div [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + DIV.format("&a;"),
    ],
)
def test_a_narrative_is_nothing_else(div: str):
    assert issues_of(text={"status": "generated", "div": div}) == ["invariant Patient.text.div"]
