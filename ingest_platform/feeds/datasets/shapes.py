"""What the records of a dataset are held to, and where they lie, by the dataset's id as a submission's target."""

from ingest_platform.domain.feed import Shape
from ingest_platform.feeds.datasets import registry
from ingest_platform.feeds.datasets.contract import contract_of
from ingest_platform.feeds.datasets.load import table_of
from ingest_platform.feeds.datasets.registry import Dataset
from ingest_platform.storage.ledger import Transaction


def find_shape(tx: Transaction, *, workspace: str, target: str) -> Shape | None:
    """Find the shape of a dataset of a workspace; None if there is none of this id, or it has no schema yet."""
    dataset_id = registry.read_id(target)
    if dataset_id is None:
        return None
    found = registry.find_anywhere(tx, workspace=workspace, dataset_id=dataset_id)
    return None if found is None else shape_of(found)


def shape_of(dataset: Dataset) -> Shape | None:
    """Give the shape of a dataset; None if it has no schema yet."""
    if dataset.fields is None:
        return None
    table = table_of(dataset_id=dataset.id, project=dataset.project, fields=dataset.fields)
    return Shape(contract=contract_of(dataset.fields), table=table)
