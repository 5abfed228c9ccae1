"""The registry of datasets, against a real ledger: names, slugs, defaults, and schemas that are registered once."""

import pytest

from ingest_platform.domain.errors import Conflict
from ingest_platform.feeds.datasets import registry, shapes
from ingest_platform.feeds.datasets.registry import Dataset
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.making import at_once, make_workspace

FIELDS = {"country": "string", "amount": "number"}


@pytest.fixture(autouse=True)
def _workspaces(ledger: Ledger) -> None:
    for name in ("acme", "globex"):
        make_workspace(ledger, name)


def make(ledger: Ledger, name: str, *, workspace: str = "acme", project: str = "local") -> Dataset:
    with ledger.transaction() as tx:
        return registry.create(tx, workspace=workspace, project=project, name=name, description="")


def delete(ledger: Ledger, dataset: Dataset) -> None:
    with ledger.transaction() as tx:
        registry.delete(tx, dataset)


def default_of(ledger: Ledger, *, project: str = "local") -> str | None:
    with ledger.connection() as tx:
        found = registry.default_of(tx, workspace="acme", project=project)
    return None if found is None else found.name


def test_ids_are_of_one_sequence_and_never_come_again(ledger: Ledger) -> None:
    made = [make(ledger, "a"), make(ledger, "a", project="other"), make(ledger, "a", workspace="globex")]
    delete(ledger, made[2])
    made.append(make(ledger, "a", workspace="globex"))
    ids = [each.id for each in made]
    assert ids == sorted(set(ids))
    assert min(ids) >= 1


def test_a_name_is_taken_in_its_project_until_its_dataset_is_deleted(ledger: Ledger) -> None:
    first = make(ledger, "Orders")
    with pytest.raises(Conflict, match="Dataset name already exists: Orders"):
        make(ledger, "Orders")
    delete(ledger, first)
    again = make(ledger, "Orders")
    assert again.id != first.id
    assert again.fields is None


def test_names_that_make_one_slug_are_told_apart_by_a_number(ledger: Ledger) -> None:
    slugs = [make(ledger, name).slug for name in ("Paid orders", "paid-orders", "PAID ORDERS", "データ", "数据")]
    assert slugs == ["paid-orders", "paid-orders-2", "paid-orders-3", "dataset", "dataset-2"]
    long = [make(ledger, f"{'x' * 80}{n}").slug for n in range(2)]
    assert [len(slug) for slug in long] == [63, 63]
    assert len(set(long)) == 2


def test_the_first_dataset_is_the_default_and_nothing_takes_its_place_until_another_is_made(ledger: Ledger) -> None:
    assert default_of(ledger) is None
    first = make(ledger, "first")
    make(ledger, "second")
    make(ledger, "elsewhere", project="other")
    assert default_of(ledger) == "first"
    delete(ledger, first)
    # Records that are sent without an id would go where nobody meant them to.
    assert default_of(ledger) is None
    make(ledger, "third")
    assert default_of(ledger) == "third"


def test_a_default_is_made_where_there_is_none(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        made = registry.default_or_new(tx, workspace="acme", project="local")
        again = registry.default_or_new(tx, workspace="acme", project="local")
    assert (made.name, made.is_default) == ("default", True)
    assert again == made


def test_a_dataset_that_is_called_default_becomes_it(ledger: Ledger) -> None:
    first = make(ledger, "first")
    named = make(ledger, "default")
    delete(ledger, first)
    with ledger.transaction() as tx:
        assert registry.default_or_new(tx, workspace="acme", project="local").id == named.id
    assert default_of(ledger) == "default"


def test_the_same_fields_may_be_registered_again_in_any_order_and_no_others(ledger: Ledger) -> None:
    dataset = make(ledger, "Orders")
    with ledger.transaction() as tx:
        assert registry.register_schema(tx, dataset, FIELDS)
        assert not registry.register_schema(tx, dataset, dict(reversed(FIELDS.items())))
        found = registry.find(tx, workspace="acme", project="local", dataset_id=dataset.id)
    assert found is not None
    assert found.fields is not None
    assert list(found.fields.items()) == list(FIELDS.items())
    others = ({"country": "string"}, {**FIELDS, "plan": "string"}, {**FIELDS, "amount": "string"})
    for other in others:
        with pytest.raises(Conflict, match="already registered"), ledger.transaction() as tx:
            registry.register_schema(tx, dataset, other)


def test_of_schemas_that_are_registered_at_once_one_stands(ledger: Ledger) -> None:
    dataset = make(ledger, "Orders")

    def register(number: int) -> bool | None:
        try:
            with ledger.transaction() as tx:
                return registry.register_schema(tx, dataset, {f"field_{number % 4}": "string"})
        except Conflict:
            return None

    told = at_once(register, times=8)
    assert told.count(True) == 1
    assert told.count(False) == 1
    assert told.count(None) == 6


def test_of_datasets_that_are_made_at_once_with_one_name_one_is_made(ledger: Ledger) -> None:
    def attempt(_: int) -> int | None:
        try:
            return make(ledger, "Orders").id
        except Conflict:
            return None

    told = at_once(attempt, times=8)
    assert len([each for each in told if each is not None]) == 1


def test_datasets_that_are_made_at_once_have_slugs_of_their_own_and_one_default(ledger: Ledger) -> None:
    made = at_once(lambda number: make(ledger, f"orders{'!' * number}"), times=8)
    assert len({each.slug for each in made}) == 8
    assert [each.is_default for each in made].count(True) == 1


def test_shapes_are_of_datasets_with_a_schema_in_their_own_workspace(ledger: Ledger) -> None:
    dataset = make(ledger, "Orders")
    with ledger.transaction() as tx:
        assert shapes.find_shape(tx, workspace="acme", target=str(dataset.id)) is None
        registry.register_schema(tx, dataset, FIELDS)
        shape = shapes.find_shape(tx, workspace="acme", target=str(dataset.id))
        assert shape is not None
        assert shape.table.name == f"dataset_{dataset.id}"
        assert [field.name for field in shape.contract.fields] == ["timestamp", "context", *FIELDS]
        for workspace, target in [("globex", str(dataset.id)), ("acme", "0"), ("acme", "x"), ("acme", "9" * 30)]:
            assert shapes.find_shape(tx, workspace=workspace, target=target) is None
        registry.delete(tx, dataset)
        assert shapes.find_shape(tx, workspace="acme", target=str(dataset.id)) is None
