"""Grouping all wordings of a workspace anew: the same patterns as the increments made, with the same ids.

It makes good what other settings or rarer words would have decided otherwise at the time. What people decided stands.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ingest_platform.domain.ids import new_id
from ingest_platform.feeds.issues.grouping import Assignment, Groups, Method
from ingest_platform.feeds.issues.patterns import (
    METHOD,
    PREFIX,
    begin_change,
    found_since,
    put_assignments,
    put_patterns,
    settle,
    unite,
)
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage.ledger import Ledger

_WORDINGS_TOGETHER = 10_000
# A million wordings take a minute or two.
REBUILD_SECONDS_MAX = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What grouping anew has come to; `agreement` is the adjusted Rand index of the groups before and after."""

    wordings: int
    groups: int
    moved: int
    agreement: float


def rebuild_all(platform: Platform) -> Mapping[str, object]:
    """Group the wordings of every workspace anew; figures for people."""
    with platform.ledger.connection() as tx:
        rows = tx.execute("SELECT workspace FROM pattern_revisions ORDER BY workspace").fetchall()
    done = [rebuild(platform.ledger, workspace) for (workspace,) in rows]
    return {
        "workspaces": len(done),
        "wordings": sum(each.wordings for each in done),
        "groups": sum(each.groups for each in done),
        "moved": sum(each.moved for each in done),
        "least_agreement": min((each.agreement for each in done), default=1.0),
    }


def rebuild(ledger: Ledger, workspace: str, *, method: Method = METHOD) -> Rebuilt:
    """Group a workspace's wordings anew, in the order in which they were seen first. Loads wait meanwhile."""
    with ledger.transaction(idle_seconds_max=REBUILD_SECONDS_MAX) as tx:
        revision = begin_change(tx, workspace, regrouped=True)
        stored = found_since(tx, workspace)
        before = {fingerprint: group for fingerprint, _, group in stored}
        groups = Groups(method, new_group=lambda: new_id(PREFIX))
        told: dict[str, Assignment] = {}
        for start in range(0, len(stored), _WORDINGS_TOGETHER):
            together = stored[start : start + _WORDINGS_TOGETHER]
            told |= groups.add({fingerprint: wording for fingerprint, wording, _ in together}).assignments
        found = groups.partition()
        ids = keep_ids(before, found)
        after = {fingerprint: ids[group] for fingerprint, group in found.items()}
        moved = {each: replace(told[each], group=after[each]) for each in after if after[each] != before[each]}
        put_patterns(tx, workspace, {kept: groups.name_of(group) for group, kept in ids.items()})
        put_assignments(tx, workspace, moved, {}, revision=revision.now)
        unite(tx, workspace, _gone(before, after))
        settle(tx, workspace)
    return Rebuilt(wordings=len(after), groups=len(ids), moved=len(moved), agreement=agreement(before, after))


def keep_ids(before: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """Give each group that was found the id that most of its fingerprints had before, if no other has more of those.

    >>> keep_ids({"a": "old", "b": "old", "c": "old"}, {"a": "new 1", "b": "new 1", "c": "new 2"})
    {'new 1': 'old', 'new 2': 'new 2'}
    """
    ages = {group: age for age, group in enumerate(dict.fromkeys(before.values()))}
    shared = Counter((before[fingerprint], group) for fingerprint, group in found.items())
    ids: dict[str, str] = {}
    taken: set[str] = set()
    for old, new in sorted(shared, key=lambda pair: (-shared[pair], ages[pair[0]], pair[1])):
        if old not in taken and new not in ids:
            ids[new] = old
            taken.add(old)
    return {group: ids.get(group, group) for group in dict.fromkeys(found.values())}


def _gone(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """Tell where groups went that have no fingerprint any more: to the one that has most of theirs."""
    left = set(after.values())
    went = Counter((before[each], after[each]) for each in after if before[each] not in left)
    gone: dict[str, str] = {}
    for old, new in sorted(went, key=lambda pair: (-went[pair], pair)):
        gone.setdefault(old, new)
    return gone


def agreement(one: Mapping[str, str], other: Mapping[str, str]) -> float:
    """Compare two groupings of the same fingerprints by their adjusted Rand index; 1 if they are the same.

    >>> agreement({"a": "1", "b": "1", "c": "2"}, {"a": "x", "b": "x", "c": "y"})
    1.0
    """
    both = _pairs(Counter((one[each], other[each]) for each in one))
    ones, others = _pairs(Counter(one.values())), _pairs(Counter(other.values()))
    everything = math.comb(len(one), 2)
    expected = ones * others / everything if everything else 0.0
    most = (ones + others) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def _pairs(counts: Mapping[object, int]) -> int:
    return sum(math.comb(count, 2) for count in counts.values())
