"""Groups of wordings: which of them are one pattern, how sure that is, and by which words. Pure; kept by `patterns.py`.

Two wordings belong together if one of three things holds; the decision, with its figures, is in docs/decisions.

- They have the same words in the same order, whatever their values are.
- They differ in one word at a place where many different words were seen, everything else being the same: a variable.
- Their words are nearly the same: Jaccard similarity of the words, weighted by how rare each is, with the leader of a
  group, never with its other members, so that groups do not grow from neighbour to neighbour.

The first two depend on the set of wordings only, not on their order.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ingest_platform.feeds.issues.fingerprint import FUNCTION_WORDS

Words: TypeAlias = tuple[str, ...]

# A value, or a place where words vary. It sorts before every word.
ANY = "*"
SHOWN = "<*>"
NAME_CHARACTERS_MAX = 200
TERMS_MAX = 12
LEAST_TELLING_WEIGHT = 1.0
# Of rare words so much more is read than a leader may lack; it then has two of them at least.
READ_BEYOND_WEIGHT = 3.0

# Words, each with the equals sign behind it: `user=` names a value.
_WORD = re.compile(r"([^\s=:,;()\[\]{}\"'|!?]+)(=?)").finditer
_EDGES = ".-*/#&+_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """The settings of the grouping; the defaults were measured, see docs/decisions."""

    # Of the words of a wording and of a leader, by weight.
    similarity_min: float = 0.9
    # So many different words at one place make it a variable. Where only few words stay the same, more are asked for.
    variable_values_min: int = 5
    variable_values_min_brief: int = 8
    kept_words_min: int = 2
    kept_words_brief_max: int = 2
    # Words of grammar say little, and what stands in a variable place says little about the pattern.
    function_word_weight: float = 0.1
    variable_word_weight: float = 0.25
    function_words: frozenset[str] = FUNCTION_WORDS
    # Places in which variables are looked for; a wording that is longer differs in more than one anyway.
    places_max: int = 40
    # A word of more groups than that finds none: what has only such words is compared by place alone.
    common_groups_min: int = 1_000
    # A wording takes about 4 kB in the index. In more than these no variables are looked for.
    wordings_max: int = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Why a wording is in its group: `by` is first, same, variable or similar; `terms` are words with their shares."""

    group: str
    by: str
    confidence: float
    terms: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What adding wordings has changed.

    Assignments by fingerprint, new ones and moved ones; groups that went into others; names of groups that are new or
    read differently.
    """

    assignments: Mapping[str, Assignment]
    merged: Mapping[str, str]
    names: Mapping[str, str]


@dataclass(slots=True)
class _Component:
    """Wordings that are the same but for variables."""

    # The most general of them: variables are shown as such.
    general: Words
    fingerprints: list[str] = field(default_factory=list[str])
    group: str | None = None
    # Whether the group began with one of these wordings.
    leads: bool = False


def words_of(wording: str) -> Words:
    """Take a wording apart, without punctuation; values, and words with values in them, are all alike.

    >>> words_of("session opened for <text> by (uid=<num>)")
    ('session', 'opened', 'for', '*', 'by', 'uid=', '*')
    """
    found: list[str] = []
    for word, _ in _placed(wording):
        if not (word == ANY and found and found[-1] == ANY):
            found.append(word)
    return tuple(found)


def _placed(wording: str) -> Iterable[tuple[str, tuple[int, int]]]:
    for match in _WORD(wording):
        raw, equals = match.groups()
        if "<" in raw and ">" in raw:
            yield ANY, match.span(1)
            continue
        word = raw.strip(_EDGES + "<>")
        if word:
            yield word + equals, match.span(1)


class Groups:
    """The groups of one workspace's wordings. Wordings are only ever added."""

    def __init__(self, method: Method = Method(), *, new_group: Callable[[], str]) -> None:
        self.method = method
        self._new_group = new_group
        self._nodes: dict[Words, int] = {}
        self._words: list[Words] = []
        self._parents: list[int] = []
        self._components: dict[int, _Component] = {}
        # By what is left of a wording without one word: the wordings, or the node of the variable.
        self._gaps: dict[int, list[int]] = {}
        self._variables: dict[int, int] = {}
        self._frequency: Counter[str] = Counter()
        self._sequences = 0
        self._known: dict[str, int] = {}
        self._groups: dict[str, str] = {}
        # By group: its age, its leading node, the wording that it began with, nodes of its components.
        self._ages: dict[str, int] = {}
        self._leaders: dict[str, int] = {}
        self._first: dict[str, str] = {}
        self._followers: defaultdict[str, set[int]] = defaultdict(set)
        # Groups by a word of their leader, and by all of its telling words.
        self._postings: defaultdict[str, set[str]] = defaultdict(set)
        self._tellings: defaultdict[frozenset[str], set[str]] = defaultdict(set)
        self._touched: set[int] = set()
        self._merged: dict[str, str] = {}
        self._renamed: set[str] = set()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, fingerprint: str) -> bool:
        return fingerprint in self._known

    def group_of(self, fingerprint: str) -> str:
        """Tell the group of a wording that was added."""
        return self._groups[fingerprint]

    def partition(self) -> dict[str, str]:
        """Tell the group of every fingerprint."""
        return dict(self._groups)

    def restore(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Take in fingerprints with wordings and groups as they were found, the oldest first."""
        stored = list(rows)
        for fingerprint, wording, _ in stored:
            self._add(fingerprint, words_of(wording))
        for fingerprint, wording, group in stored:
            self._groups[fingerprint] = group
            node = self._find(self._known[fingerprint])
            component = self._components[node]
            if group not in self._ages:
                self._begin(group, node, wording)
            elif component.group is None:
                self._join(node, group)
        # With other settings than before, wordings may be found to be one that were not; the next change tells.
        for node, component in self._components.items():
            if any(self._groups[each] != component.group for each in component.fingerprints):
                self._touched.add(node)

    def add(self, wordings: Mapping[str, str]) -> Change:
        """Add wordings by fingerprint, in order; what it has changed."""
        new: dict[str, Assignment] = {}
        for fingerprint, wording in wordings.items():
            if fingerprint not in self._known:
                new[fingerprint] = self._assign(fingerprint, wording)
        assignments = self._moved() | {
            each: assignment for each, assignment in new.items() if self._groups[each] == assignment.group
        }
        names = {group: self.name_of(group) for group in sorted(self._renamed) if group in self._leaders}
        change = Change(assignments=assignments, merged=dict(self._merged), names=names)
        self._touched.clear()
        self._merged.clear()
        self._renamed.clear()
        return change

    def name_of(self, group: str) -> str:
        """Name a group by the wording that it began with, variables shown as such."""
        wording = self._first[group]
        general = self._components[self._find(self._leaders[group])].general
        name = _generalised(wording, general).replace("\n", ": ")
        return name if len(name) <= NAME_CHARACTERS_MAX else name[: NAME_CHARACTERS_MAX - 1] + "…"

    def _assign(self, fingerprint: str, wording: str) -> Assignment:
        words = words_of(wording)
        seen = words in self._nodes
        node = self._find(self._add(fingerprint, words))
        component = self._components[node]
        by = "same" if seen else "variable"
        if component.group is None:
            leader = self._most_similar(component.general)
            if leader is None:
                by = "first"
                self._begin(self._new_group(), node, wording)
            else:
                by = "similar"
                self._join(node, leader)
        group = component.group
        assert group is not None
        self._groups[fingerprint] = group
        return self._explained(words, group, by=by)

    def _moved(self) -> dict[str, Assignment]:
        """Explain anew what is in another group than before."""
        moved: dict[str, Assignment] = {}
        for node in sorted({self._find(each) for each in self._touched}):
            component = self._components[node]
            assert component.group is not None
            for fingerprint in component.fingerprints:
                if self._groups.get(fingerprint) != component.group:
                    self._groups[fingerprint] = component.group
                    words = self._words[self._known[fingerprint]]
                    moved[fingerprint] = self._explained(words, component.group, by="variable")
        return moved

    def _explained(self, words: Words, group: str, *, by: str) -> Assignment:
        leader = self._components[self._find(self._leaders[group])].general
        shared = set(words) & set(leader)
        common = {word: self._weight(word) for word in shared}
        variable = self.method.variable_word_weight if by == "variable" else 1.0
        apart = sum(self._weight(word) for word in set(words) - shared) * variable
        apart += sum(self._weight(word) for word in set(leader) - shared)
        whole = sum(common.values()) + apart
        sure = by in {"first", "same"} or whole == 0
        ranked = sorted(common.items(), key=lambda item: (-item[1], item[0]))[:TERMS_MAX]
        return Assignment(
            group=group,
            by=by,
            confidence=1.0 if sure else round(sum(common.values()) / whole, 4),
            terms=tuple((word, round(weight / whole, 4)) for word, weight in ranked if weight > 0),
        )

    # Groups: a component leads one, or follows the leader that it is similar to.

    def _begin(self, group: str, node: int, wording: str) -> None:
        component = self._components[node]
        self._ages[group] = len(self._ages)
        self._first[group] = wording
        self._leaders[group] = node
        if component.group is not None:
            # With other settings than before, one group is found where two were: the older one leads.
            self._merged[group] = component.group
            return
        component.group, component.leads = group, True
        self._followers[group].add(node)
        self._renamed.add(group)
        self._post(node)

    def _join(self, node: int, group: str) -> None:
        component = self._components[node]
        component.group, component.leads = group, False
        self._followers[group].add(node)

    def _post(self, node: int) -> None:
        component = self._components[node]
        assert component.group is not None
        self._tellings[self._telling(component.general)].add(component.group)
        for word in set(component.general) - {ANY}:
            self._postings[word].add(component.group)

    def _most_similar(self, words: Words) -> str | None:
        best: tuple[float, int, str] | None = None
        for group in self._candidates(words):
            node = self._find(self._leaders[group])
            score = self._similarity(words, self._components[node].general)
            if score >= self.method.similarity_min:
                best = max(best or (0.0, 0, ""), (score, -self._ages[group], group))
        return best[2] if best else None

    def _candidates(self, words: Words) -> set[str]:
        """List groups that may be similar enough, without looking at all of them.

        What a leader lacks of these words, or has besides, weighs at most `apart`. If that is less than any telling
        word weighs, both have the same telling words. Else the leader has nearly all of the rarest ones.
        """
        weights = {word: self._weight(word) for word in set(words) - {ANY}}
        apart = (1 / self.method.similarity_min - 1) * sum(weights.values())
        if apart < LEAST_TELLING_WEIGHT:
            return self._tellings.get(self._telling(words), set()) & self._leaders.keys()
        shares: defaultdict[str, float] = defaultdict(float)
        read = 0.0
        for word in sorted(weights, key=lambda word: (len(self._postings.get(word, ())), word)):
            posted = self._postings.get(word, set())
            if read > apart + READ_BEYOND_WEIGHT or len(posted) > self.method.common_groups_min:
                break
            read += weights[word]
            for group in posted:
                shares[group] += weights[word]
        return {group for group, share in shares.items() if share >= read - apart} & self._leaders.keys()

    def _telling(self, words: Words) -> frozenset[str]:
        return frozenset(words) - self.method.function_words

    def _similarity(self, words: Words, leader: Words) -> float:
        """Compare words with those of a leader; 0 for what is of another build.

        What has other values, or other names of values (`user=`), is another message, however many words it shares.
        """
        one, other = set(words), set(leader)
        apart = one ^ other
        if words.count(ANY) != leader.count(ANY) or any(word.endswith("=") for word in apart):
            return 0.0
        shared = sum(map(self._weight, one & other))
        whole = shared + sum(map(self._weight, apart))
        return shared / whole if whole else 0.0

    def _weight(self, word: str) -> float:
        """Weigh a word: 1 for one that is everywhere, 2 for one seen once."""
        if word == ANY:
            return 0.0
        if word in self.method.function_words:
            return self.method.function_word_weight
        seen = max(self._frequency[word], 1)
        return LEAST_TELLING_WEIGHT + math.log(1 + self._sequences / seen) / math.log(2 + self._sequences)

    # Components: wordings that are the same but for variables.

    def _add(self, fingerprint: str, words: Words) -> int:
        node = self._nodes.get(words)
        if node is None:
            self._sequences += 1
            self._frequency.update(set(words))
            node = self._add_words(words, kept=len(self._nodes) < self.method.wordings_max)
        self._known[fingerprint] = node
        self._components[self._find(node)].fingerprints.append(fingerprint)
        return node

    def _add_words(self, words: Words, *, kept: bool) -> int:
        node = len(self._parents)
        self._parents.append(node)
        self._words.append(words)
        self._nodes[words] = node
        self._components[node] = _Component(general=words)
        for place in range(min(len(words), self.method.places_max)):
            if words[place] == ANY:
                continue
            template = (*words[:place], ANY, *words[place + 1 :])
            least = self._values_min(template)
            if least is None:
                continue
            gap = hash(template)
            if gap in self._variables:
                self._unite(node, self._variables[gap])
            elif kept:
                seen = self._gaps.setdefault(gap, [])
                seen.append(node)
                if len(seen) >= least:
                    self._open(gap, template)
        return node

    def _open(self, gap: int, template: Words) -> None:
        """Let a place be a variable: the wordings that differ there are one."""
        seen = self._gaps.pop(gap)
        # Two variables side by side are one, as values are.
        shown = _collapsed(template)
        variable = self._nodes.get(shown)
        if variable is None:
            variable = self._add_words(shown, kept=True)
        self._variables[gap] = variable
        for node in seen:
            self._unite(node, variable)

    def _values_min(self, template: Words) -> int | None:
        kept = sum(word != ANY for word in template)
        if kept < self.method.kept_words_min:
            return None
        brief = kept <= self.method.kept_words_brief_max
        return self.method.variable_values_min_brief if brief else self.method.variable_values_min

    def _find(self, node: int) -> int:
        parents = self._parents
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    def _unite(self, one: int, other: int) -> None:
        kept, gone = self._find(one), self._find(other)
        if kept == gone:
            return
        if len(self._components[kept].fingerprints) < len(self._components[gone].fingerprints):
            kept, gone = gone, kept
        into, out = self._components[kept], self._components.pop(gone)
        group, leads = self._outcome(into, out)
        self._parents[gone] = kept
        for component in (into, out):
            if component.group is not None:
                self._followers[component.group] -= {kept, gone}
        into.general = min(into.general, out.general, key=_generality)
        into.fingerprints += out.fingerprints
        into.group, into.leads = group, leads
        if group is None:
            return
        self._followers[group].add(kept)
        self._touched.add(kept)
        if leads:
            self._leaders[group] = kept
            self._renamed.add(group)
            self._post(kept)

    def _outcome(self, one: _Component, other: _Component) -> tuple[str | None, bool]:
        """Decide the group of two components that are one by now; a leader's goes before a follower's, then age."""
        if one.group is None or other.group is None or one.group == other.group:
            return one.group or other.group, one.leads or other.leads
        if one.leads != other.leads:
            return (one if one.leads else other).group, True
        older, younger = sorted((one.group, other.group), key=self._ages.__getitem__)
        if one.leads:
            self._merge(younger, into=older)
        return older, one.leads

    def _merge(self, younger: str, *, into: str) -> None:
        self._merged[younger] = into
        for node in self._followers.pop(younger, set()):
            component = self._components.get(node)
            if component is not None:
                component.group = into
                self._followers[into].add(node)
                self._touched.add(node)
        self._leaders.pop(younger)


def _generality(words: Words) -> tuple[int, Words]:
    return (-words.count(ANY), words)


def _collapsed(words: Words) -> Words:
    return tuple(word for place, word in enumerate(words) if place == 0 or word != ANY or words[place - 1] != ANY)


def _generalised(wording: str, general: Words) -> str:
    """Show the variables of a group in one of its wordings.

    >>> _generalised("invalid user bob from <host>", ("invalid", "user", "*", "from", "*"))
    'invalid user <*> from <host>'
    """
    placed = list(_placed(wording))
    same_build = len(placed) == len(general)
    if not same_build or any(word not in {ANY, own} for word, (own, _) in zip(general, placed, strict=True)):
        return wording
    parts: list[str] = []
    shown = 0
    for word, (own, (begin, end)) in zip(general, placed, strict=True):
        if word != own:
            parts += (wording[shown:begin], SHOWN)
            shown = end
    return "".join((*parts, wording[shown:]))
