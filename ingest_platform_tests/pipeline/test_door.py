"""The verdict on one record, and the agreement of the door with the run on the same bytes."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.feeds.machine_data.contract import CONTRACT
from ingest_platform.feeds.machine_data.references import refer
from ingest_platform.pipeline.door import TOGETHER_MIN, check_items, check_record, check_records
from ingest_platform.pipeline.records import reader_of
from ingest_platform_tests.pipeline.sent import CONFIG_ID, GOOD, config, known, record, verdicts
from ingest_platform_tests.pipeline.test_rules import NEAR_TIMESTAMPS

# Every kind, required or not, nullable or not, with every rule.
EVERY = Contract(
    name="every",
    extra_allowed=False,
    fields=(
        Field(name="timestamp", kind=Kind.TIMESTAMP),
        Field(name="later", kind=Kind.TIMESTAMP, required=False, nullable=True),
        Field(name="title", kind=Kind.STRING, length_max=5, pattern="^[a-z😀]*$"),
        Field(name="class", kind=Kind.STRING, required=False, choices=("p1", "p2")),
        Field(name="value", kind=Kind.NUMBER),
        Field(name="ratio", kind=Kind.NUMBER, required=False, nullable=True),
        Field(name="count", kind=Kind.NUMBER, required=False, exact_integers=True),
        Field(name="on", kind=Kind.BOOLEAN, required=False),
        Field(name="sure", kind=Kind.BOOLEAN, nullable=True),
        Field(name="event", kind=Kind.OBJECT, example={"not": ["hashable"]}),
        Field(name="metadata", kind=Kind.OBJECT, required=False, nullable=True),
    ),
)
LOOSE = Contract(name="loose", extra_allowed=True, fields=EVERY.fields)

NUMBERS = st.sampled_from(
    [
        *[
            "0",
            "-0",
            "-0.0",
            "1",
            "12.5",
            "1e400",
            "-1e400",
            "1e-400",
            "1.7976931348623157e308",
            "1.7976931348623159e308",
        ],
        *["9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "9.3e18"],
        *["18446744073709551616", "1" + "0" * 400, "9223372036854775808.0", "01", "1.", ".5", "+1", "0x1", "1_0"],
        *["9007199254740992", "-9007199254740993", "9007199254740993.0", "9007199254740992e0", "9007199254740994"],
        *["NaN", "Infinity", "-Infinity", "1NaN", "--Infinity", "nan", "5e-324", "9007199254740993"],
    ]
)
STRINGS = st.one_of(
    st.sampled_from(
        [
            *[r'"\ud800"', r'"\udc00x"', r'"\ud83d\ude00"', r'"\ud800\ud800"', r'"\\ud800"', r'"\u0000"', r'"a\"b"'],
            *['"NaN"', '"true"', '"12.5"', '"a\nb"', '"\\x"', '"{[:,"', '""', '"p1"', '"\x7f"', '"\u2028"'],
        ]
    ),
    st.text(max_size=8).map(json.dumps),
    st.text(max_size=8).filter(lambda text: text.isprintable()).map(lambda text: json.dumps(text, ensure_ascii=False)),
    NEAR_TIMESTAMPS.map(json.dumps),
)
SCALARS = st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null", "tru", ""]))
KEYS = st.sampled_from(
    [
        *['"timestamp"', '"value"', '"title"', '"event"', '"sure"', '"machine_data_point_config_id"', '"metadata"'],
        *[
            r'"val\u0075e"',
            '"x"',
            '"y"',
            '"Value"',
            '""',
            r'"\ud800"',
            "x",
            "NaN",
            '"later"',
            '"class"',
            '"count"',
            '"a\\"b"',
        ],
    ]
)


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.lists(st.tuples(KEYS, st.sampled_from([":", " : "]), values).map("".join), max_size=4)
    return st.tuples(st.sampled_from(["", " "]), members).map(lambda drawn: "{" + drawn[0] + ",".join(drawn[1]) + "}")


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(objects(inner), st.lists(inner, max_size=3).map(lambda drawn: f"[{','.join(drawn)}]")),
    max_leaves=8,
)
GOOD_VALUES = {
    "timestamp": '"2026-05-06T10:15:00Z"',
    "machine_data_point_config_id": f'"{CONFIG_ID}"',
    "value": "1.5",
    "count": "3",
    "title": '"abc"',
    "sure": "null",
    "event": '{"a":{"b":[1,2]}}',
}


@st.composite
def near_records(draw: st.DrawFn) -> bytes:
    """Draw a good record with a few members changed, removed, repeated or added, in any order."""
    members = [(json.dumps(name), value) for name, value in GOOD_VALUES.items()]
    for _ in range(draw(st.integers(0, 3))):
        change = draw(st.sampled_from(["replace", "remove", "add", "repeat"]))
        place = draw(st.integers(0, max(len(members) - 1, 0)))
        if change == "add":
            members.insert(place, (draw(KEYS), draw(VALUES)))
        elif members and change == "replace":
            members[place] = (members[place][0], draw(VALUES))
        elif members and change == "remove":
            members.pop(place)
        elif members:
            members.append(members[place])
    return ("{" + ",".join(f"{key}:{value}" for key, value in members) + "}").encode(errors="surrogatepass")


RECORDS = st.one_of(
    near_records(),
    VALUES.map(lambda text: text.encode(errors="surrogatepass")),
    st.binary(max_size=12),
    near_records().flatmap(lambda raw: st.integers(0, len(raw)).map(lambda at: raw[:at] + b"\xff" + raw[at:])),
).filter(lambda raw: b"\n" not in raw and raw.strip(b" \t\r\n") and not raw.startswith(b"\xef\xbb\xbf"))


@pytest.mark.parametrize("contract", [CONTRACT, EVERY, LOOSE], ids=lambda contract: contract.name)
@given(records=st.lists(RECORDS, min_size=1, max_size=8))
@settings(max_examples=400, deadline=None)
@example([b'{"timestamp":"2026-05-06T10:15:00Z","value":1,"title":"","sure":true,"event":{"a":1,"a":2}}'])
@example([b'{"value":1,"val\\u0075e":2}', b'{"x":[' + b"[" * 100 + b"]" * 100 + b"]}"])
def test_the_door_and_the_run_agree_on_the_same_bytes(contract: Contract, records: list[bytes]) -> None:
    door = {
        index: [(found.code, found.field) for found in check_record(raw, contract)] for index, raw in enumerate(records)
    }
    assert verdicts(b"\n".join(records), contract) == {index: found for index, found in door.items() if found}


@given(records=st.lists(RECORDS, min_size=1, max_size=8))
@settings(max_examples=400, deadline=None)
def test_keys_that_occur_twice_are_found_wherever_a_plain_reader_finds_them(records: list[bytes]) -> None:
    for raw in records:
        codes = {found.code for found in check_record(raw, LOOSE)}
        readable = not codes & {"invalid_json", "too_deep", "not_an_object"}
        # A value of the wrong type has that fault alone, whatever is in it.
        if readable and "invalid_type" not in codes:
            assert ("duplicate_key" in codes) == repeats_somewhere(raw)


@pytest.mark.parametrize("contract", [CONTRACT, EVERY, LOOSE], ids=lambda contract: contract.name)
@given(records=st.lists(RECORDS, min_size=1, max_size=8))
@settings(max_examples=400, deadline=None)
def test_what_is_found_good_at_a_glance_has_no_problems(contract: Contract, records: list[bytes]) -> None:
    reader = reader_of(contract)
    assert [raw for raw in records if reader.is_good(raw) and reader.problems(raw)] == []


def test_most_good_records_are_found_good_at_a_glance() -> None:
    nested = {"event": {"a": {"b": [1, {"c": "d"}]}, "x": "\u00e9"}, "timestamp": "2026-05-06T10:15:00Z"}
    good = nested | {"title": "abc", "value": 1, "sure": None}
    assert reader_of(LOOSE).is_good(json.dumps(good, ensure_ascii=False).encode())


@pytest.mark.parametrize("many", [1, TOGETHER_MIN], ids=["a few, one by one", "many, together"])
def test_records_together_get_the_verdicts_of_each_alone(many: int) -> None:
    said = {"timestamp": "2026-05-06T10:15:00Z", "event": {"a": [1]}, "title": "abc", "value": 1, "sure": None}
    texts = [said, said | {"title": "ABC"}, said | {"timestamp": "yesterday", "value": "1"}, [], said | {"new": 1}]
    records = [json.dumps(each).encode() for each in texts] * many
    alone = [(index, list(found)) for index, raw in enumerate(records) if (found := check_record(raw, EVERY))]
    assert [(index, list(found)) for index, found in check_records(records, EVERY)] == alone
    assert len(alone) == 4 * many


def repeats_somewhere(raw: bytes) -> bool:
    """Tell whether any object has a key twice, in the plainest way."""
    found: list[bool] = []

    def see(members: Iterable[tuple[str, object]]) -> None:
        keys = [key for key, _ in members]
        found.append(len(keys) != len(set(keys)))

    json.loads(raw, object_pairs_hook=see)
    return any(found)


def test_items_are_judged_with_what_they_refer_to() -> None:
    records = [
        json.dumps(each).encode() for each in (GOOD, record(machine_data_point_config_id="x"), record(value="1"))
    ]
    found = check_items(
        records,
        CONTRACT,
        refer=refer,
        workspace="acme",
        catalog_revision=1,
        sites=["north"],
        known=known(config()),
    )
    assert [(index, [each.code for each in problems]) for index, problems in found] == [
        (1, ["not_found"]),
        (2, ["invalid_type"]),
    ]


def test_items_that_are_all_good_have_no_problems() -> None:
    good = json.dumps(GOOD).encode()
    arguments = {"workspace": "acme", "catalog_revision": 1, "sites": None, "known": known(config())}
    assert check_items([good, good], CONTRACT, refer=refer, **arguments) == []
