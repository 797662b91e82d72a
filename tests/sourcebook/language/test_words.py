"""Text is cut into words by the word rules of Unicode."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcebook.language.words import _UNICODE_WORD, ANALYZERS, standard_text, standard_texts, standard_words

WORDS = [
    ("Cyclin-dependent Kinase 2", ["cyclin", "dependent", "kinase", "2"]),
    ("don't 'quoted' rock'n'roll", ["don't", "quoted", "rock'n'roll"]),
    ("3.14 1,000.5 v1.2 1.b a.1", ["3.14", "1,000.5", "v1.2", "1", "b", "a", "1"]),
    ("NM_001234.2 foo_bar _x_", ["nm_001234.2", "foo_bar", "_x_"]),
    ("HGNC:1771 ab:cd", ["hgnc", "1771", "ab:cd"]),
    ("U.S.A. end.", ["u.s.a", "end"]),
    ("5'-UTR p53/p63;x", ["5", "utr", "p53", "p63", "x"]),
    ("Größe ÉCOLE l\u2019été", ["größe", "école", "l\u2019été"]),
    ("漢字かな カタカナ", ["漢", "字", "か", "な", "カタカナ"]),
    ("e\u0301te\u0301", ["e\u0301te\u0301"]),
    ("β-catenin δ2", ["β", "catenin", "δ2"]),
    ("", []),
    (" -.- ", []),
]


@pytest.mark.parametrize(("text", "words"), WORDS)
def test_the_standard_analyser_cuts_at_word_boundaries(text: str, words: list[str]) -> None:
    assert standard_words(text) == words
    assert standard_text(text).split() == words


@given(st.text("aBz09_ .:',;-/()\t\n", max_size=12))
@settings(max_examples=500, deadline=None)
def test_the_quick_way_for_ascii_gives_the_same_words(text: str) -> None:
    assert standard_words(text) == _UNICODE_WORD.findall(text.lower())


@given(st.text(max_size=20))
@settings(deadline=None)
def test_words_have_no_white_space_and_are_analysed_to_themselves(text: str) -> None:
    for word in standard_words(text):
        assert word.split() == [word]
        assert standard_words(word) == [word]


def test_other_analysers() -> None:
    text = "Foo-Bar b2\tX"
    assert ANALYZERS["whitespace"](text) == ["Foo-Bar", "b2", "X"]
    assert ANALYZERS["whitespace_lowercase"](text) == ["foo-bar", "b2", "x"]
    assert ANALYZERS["simple"](text) == ["foo", "bar", "b", "x"]
    assert ANALYZERS["keyword"](text) == [text]
    assert ANALYZERS["string_lowercase"](text) == [text.lower()]


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="\x1f")) | st.text("aB1é.'漢 "), min_size=1))
def test_texts_that_are_cut_together_are_cut_as_each_alone(texts: list[str]) -> None:
    assert [words.split() for words in standard_texts(texts)] == [standard_words(text) for text in texts]
