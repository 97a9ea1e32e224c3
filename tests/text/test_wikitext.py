import pytest

from pocketgpt.text.wikitext import articles, plain


@pytest.mark.parametrize(
    ("published", "plain_text"),
    [
        (" = Robert Boulter = \n", "Robert Boulter"),
        (" = = = Critical response = = = \n", "Critical response"),
        (
            " a role @-@ playing game of 3 @,@ 500 men and 2 @.@ 5 tons \n",
            "a role-playing game of 3,500 men and 2.5 tons",
        ),
        (" First , second ; third : done . Really ? Yes ! \n", "First, second; third: done. Really? Yes!"),
        (" The game 's opening theme didn 't sell . \n", "The game's opening theme didn't sell."),
        (
            ' Senjō no Valkyria 3 : Unrecorded Chronicles ( Japanese : 戦場のヴァルキュリア3 , lit . " Valkyria " ) \n',
            'Senjō no Valkyria 3: Unrecorded Chronicles (Japanese: 戦場のヴァルキュリア3, lit. "Valkyria")',
        ),
        (' He said " no " and " yes , sir . " then left . \n', 'He said "no" and "yes, sir." then left.'),
        (" It cost $ 2 @.@ 5 million , or £ 1 ; 50 % more \n", "It cost $2.5 million, or £1; 50% more"),
        (" from 1990 – 1995 and / or 5 ' 10 \n", "from 1990 – 1995 and / or 5 ' 10"),
        (' a 12 " record \n', 'a 12 " record'),
    ],
)
def test_what_the_published_form_added_is_undone(published, plain_text):
    assert plain(published) == plain_text


def test_rows_are_joined_into_articles():
    first = [" = Homer = \n", "", " A poet . \n", " = = Works = = \n", " The Iliad . \n"]
    second = [" = Virgil = \n", "", " x = y = \n"]
    assert list(articles(["", *first, *second])) == [
        "Homer\n\nA poet.\n\nWorks\n\nThe Iliad.\n",
        "Virgil\n\nx = y =\n",
    ]


def test_no_rows_are_no_articles():
    assert list(articles(["", " \n"])) == []
