"""Maps of classes: by index and by name the same, everything else dropped or in the rest."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from data.class_map import LEFT_OUT, ClassMap, Vocabulary, read_class_map

NAMES = ["a", "b", "c", "d", "e"]


@given(st.lists(st.sampled_from([0, 1, 2, None]), min_size=5, max_size=5), st.sampled_from([None, 0, 1, 2]))
def test_every_class_goes_where_it_is_listed(places: list[int | None], rest: int | None) -> None:
    lists = {f"x{k}": [name for name, place in zip(NAMES, places, strict=True) if place == k] for k in range(3)}
    value = {name: entry for name, entry in lists.items() if entry}
    if rest is not None:
        # A class that takes the rest has no list of its own.
        value[f"x{rest}"] = "rest"
    if not value:
        return
    names, found = read_class_map(Path("data.yaml"), "classes", value, Vocabulary(NAMES, "class"))
    assert names == list(value)
    listed = {source: target for target, entry in value.items() if entry != "rest" for source in entry}
    other = next((target for target, entry in value.items() if entry == "rest"), None)
    wanted = [listed.get(name, other) for name in NAMES]
    expected = [LEFT_OUT if target is None else names.index(target) for target in wanted]
    assert found.table.tolist() == found.of_names(NAMES).tolist() == expected
    assert found.of_names(["unheard of"]).tolist() == [LEFT_OUT if other is None else names.index(other)]
    assert found.merged().table.tolist() == [min(target, 0) for target in expected]


def test_names_that_are_alike_stay() -> None:
    same = ClassMap.by_name(NAMES, ["c", "a", "z"])
    assert same.table.tolist() == [1, LEFT_OUT, 0, LEFT_OUT, LEFT_OUT]
    assert ClassMap.same(NAMES).table.tolist() == [0, 1, 2, 3, 4]
