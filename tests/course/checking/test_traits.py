"""Properties of inputs that messages name: only those that can be the cause."""

from types import SimpleNamespace

from pocketgpt.course.checking.traits import traits


def said(value):
    return list(traits(SimpleNamespace(parameters=("each",), own_traits=None, reference=lambda each: None), (value,)))


def test_the_order_of_values_is_one_of_merges_and_not_of_fields_with_names():
    assert said({(b"a", b"b"): 2, (b"b", b"c"): 1}) == ["`each` is not in the order of its values"]
    assert "`each` is not in the order of its values" not in said({"gib": 24, "reserved_gib": 1})
