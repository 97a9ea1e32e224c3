"""Wikitext detokenizer: joins paragraphs into articles and undoes the tokenization of the published text.

The text was split into tokens before it was published (Merity et al. 2016, arXiv 1609.07843): every punctuation mark
is surrounded by spaces, and a hyphen, comma or point inside a word or number is written @-@, @,@ or @.@. Undone here:
    @-@ @,@ @.@ and the spaces around them              "3 @,@ 500" → "3,500"
    a space before . , ; : ! ? % and closing brackets   "one , two ( three )" → "one, two (three)"
    a space after opening brackets, and $ £ € before digits
    the spaces inside double quotes, where a line has an even number of them
    the space before 's 't 're 've 'll 'd 'm            "it 's" → "it's"
    equal signs around headings                         "= = Early life = =" → "Early life"
Not undone, because both readings occur: spaces around single quotes, dashes and slashes.
"""

import re
from collections.abc import Iterable, Iterator

JOINED = (
    (r" @([-,.])@ ", r"\1"),
    (r" ([.,;:!?%)\]}])(?= |$)", r"\1"),
    (r"([(\[{]) ", r"\1"),
    (r"([$£€]) (?=\d)", r"\1"),
    (r"(?<=\w) '(s|t|re|ve|ll|d|m)\b", r"'\1"),
)


def articles(rows: Iterable[str]) -> Iterator[str]:
    """Join rows of one paragraph each into articles; " = Title = " begins an article, " = = Part = = " a section."""
    paragraphs: list[str] = []
    for row in rows:
        if re.fullmatch(r" = [^=].* = \n", row) and paragraphs:
            yield "\n\n".join(paragraphs) + "\n"
            paragraphs = []
        if row.strip():
            paragraphs.append(plain(row))
    if paragraphs:
        yield "\n\n".join(paragraphs) + "\n"


def plain(row: str) -> str:
    """Detokenize a paragraph or heading."""
    text = " ".join(row.split())
    if heading := re.fullmatch(r"((?:= )+)(.+?)((?: =)+)", text):
        text = heading[2]
    for pattern, replacement in JOINED:
        text = re.sub(pattern, replacement, text)
    if text.count('"') % 2 == 0:
        text = re.sub(r'" ?([^"]*?) ?"', r'"\1"', text)
    return text
