r"""What detectors find in a text: patterns for all texts at once, and a judge of each text that a pattern finds.

Patterns are evaluated by Polars (Rust's regex, in linear time), in JSON text too. So none of them may match a quote, a
backslash or a control character, nor begin in one value and end in the next. Judges see a candidate and tell the parts
of it that are really meant. How something that was found is masked is not known here.
"""

import ipaddress
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import phonenumbers

from ingest_platform.feeds.stream_events.declaration.pipeline import Detector

# Beginning and end within a candidate.
Span = tuple[int, int]
Judge = Callable[[str], Sequence[Span]]

CARD_DIGITS_MIN, CARD_DIGITS_MAX = 13, 19
# As cards are printed: 4-4-4-4, 4-6-5, 4-4-4-4-3. Of numbers in other groups, one in ten would keep Luhn's check.
CARD_GROUP_MIN, CARD_GROUP_MAX = 4, 7
# Milliseconds, microseconds and nanoseconds since 1970, from 2014 to 2033. No card of these lengths begins with 1.
_TIME = re.compile(r"1[4-9](?:[0-9]{11}|[0-9]{14}|[0-9]{17})")
_DIGITS = re.compile(r"[0-9]+")
# Numbers without a country are read as in North America, where they have a form of their own.
PHONE_REGION = "US"
IPV6_LABELS_MIN, IPV6_LABELS_MAX = 3, 9
# The registry of ISO 13616: countries by the length of their IBANs.
_IBAN_COUNTRIES: Mapping[int, str] = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
IBAN_LENGTHS = {country: length for length, countries in _IBAN_COUNTRIES.items() for country in countries.split()}
_IBAN_COUNTRY = "|".join(IBAN_LENGTHS)
_IBAN_START = re.compile(f"({_IBAN_COUNTRY})[0-9]{{2}}", re.IGNORECASE)
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LOCAL_PART = r"""[^\s"\\<>()\[\]{},;:@=/?&|'\x00-\x20]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finder:
    """How a detector finds what it looks for.

    `pattern` finds candidates; `judge` tells which parts of one are meant, None: all of it. Where `hint` finds nothing
    there is no candidate: it costs less. `in_numbers`: a bare JSON number may hold what is looked for.
    """

    pattern: str
    hint: str
    judge: Judge | None = None
    in_numbers: bool = False


def luhn(digits: str) -> bool:
    """Tell whether digits keep Luhn's check.

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def cards(candidate: str) -> list[Span]:
    """Find card numbers in digits with single blanks, hyphens or full stops between.

    A long run of digits behind a decimal point is a fraction, not a card.

    >>> cards("12 4111 1111 1111 1111"), cards("0.4111111111111111"), cards("1731965123456")
    ([(3, 22)], [], [])
    """
    groups = [found.span() for found in _DIGITS.finditer(candidate)]
    return _windows(groups, lambda first: _card_from(candidate, groups, first))


def _windows(parts: Sequence[Span], last_of: Callable[[int], int | None]) -> list[Span]:
    """Collect what begins with some part and ends with the one that `last_of` tells; what is found does not overlap."""
    spans: list[Span] = []
    first = 0
    while first < len(parts):
        last = last_of(first)
        if last is None:
            first += 1
        else:
            spans.append((parts[first][0], parts[last][1]))
            first = last + 1
    return spans


def _card_from(candidate: str, groups: Sequence[Span], first: int) -> int | None:
    """Find the last group of the longest card number that begins with a group."""
    digits, found = "", None
    for place in range(first, len(groups)):
        start, end = groups[place]
        if place > first and _parted(candidate, groups[first], groups[place]):
            break
        digits += candidate[start:end]
        if len(digits) > CARD_DIGITS_MAX:
            break
        if len(digits) >= CARD_DIGITS_MIN and luhn(digits) and not (place == first and _no_card(candidate, start, end)):
            found = place
        if not CARD_GROUP_MIN <= end - start <= CARD_GROUP_MAX:
            break
    return found


def _parted(candidate: str, first: Span, group: Span) -> bool:
    """Tell whether a full stop between two groups is not one of 4111.1111.1111.1111, but a decimal point."""
    between = candidate[first[1] : group[0]]
    fours = all(end - start == CARD_GROUP_MIN for start, end in (first, group))
    return "." in between and not (fours and set(between) <= set("0123456789."))


def _no_card(candidate: str, start: int, end: int) -> bool:
    """Tell whether digits without anything between are a fraction, or a time."""
    return candidate[start - 1 : start] == "." or _TIME.fullmatch(candidate[start:end]) is not None


def ipv6_addresses(candidate: str) -> list[Span]:
    """Find IPv6 addresses among words joined by colons.

    >>> ipv6_addresses("ip:2001:db8::1"), ipv6_addresses("std::string"), ipv6_addresses("06T10:15:32.441Z")
    ([(3, 14)], [], [])
    """
    # A full stop behind it ends the sentence.
    words = candidate.rstrip("._").split(":")
    ends = list(itertools.accumulate((len(label) + 1 for label in words), initial=0))
    labels = [(start, end - 1) for start, end in itertools.pairwise(ends)]
    return _windows(labels, lambda first: _address_from(candidate, labels, first))


def _address_from(candidate: str, labels: Sequence[Span], first: int) -> int | None:
    """Find the last label of the longest address that begins with a label."""
    start = labels[first][0]
    for last in range(min(first + IPV6_LABELS_MAX, len(labels)) - 1, first + IPV6_LABELS_MIN - 2, -1):
        address = candidate[start : labels[last][1]]
        if not _may_be_address(address, last - first + 1):
            continue
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            continue
        return last
    return None


def _may_be_address(address: str, labels: int) -> bool:
    """Tell whether a text is worth a closer look, which takes long in comparison."""
    if "::" in address:
        return ":::" not in address and address.count("::") == 1 and address != "::"
    return labels == IPV6_LABELS_MAX - 1 or "." in address


def phones(candidate: str) -> list[Span]:
    """Find a phone number: with a country, of a length that is possible there; without one, of North America.

    >>> phones("+49 30 901820"), phones("(415) 555-2671"), phones("115 555-2671")
    ([(0, 13)], [(0, 14)], [])
    """
    for end in [found.end() for found in _DIGITS.finditer(candidate)][::-1]:
        try:
            number = phonenumbers.parse(candidate[:end], PHONE_REGION)
        except phonenumbers.NumberParseException:
            continue
        international = candidate.startswith("+")
        if phonenumbers.is_possible_number(number) if international else phonenumbers.is_valid_number(number):
            return [(0, end)]
    return []


def ibans(candidate: str) -> list[Span]:
    """Find IBANs by the length that they have in their country, and their check digits.

    >>> ibans("DE89 3704 0044 0532 0130 00 and more"), ibans("de89370400440532013001")
    ([(0, 27)], [])
    """
    spans: list[Span] = []
    at = 0
    while found := _IBAN_START.search(candidate, at):
        end = _iban_end(candidate, found.start(), IBAN_LENGTHS[found[1].upper()])
        if end is not None:
            spans.append((found.start(), end))
        at = found.start() + 1 if end is None else end
    return spans


def _iban_end(candidate: str, start: int, length: int) -> int | None:
    text, end = "", start
    while len(text) < length and end < len(candidate):
        text += candidate[end] if candidate[end].isalnum() else ""
        end += 1
    # What goes on is something else.
    if len(text) < length or candidate[end : end + 1].isalnum():
        return None
    digits = "".join(str(int(character, 36)) for character in text[4:] + text[:4])
    return end if int(digits) % 97 == 1 else None


FINDERS: Mapping[Detector, Finder] = {
    Detector.EMAIL: Finder(
        # A last label that is no number, so that root@10.0.0.1 is left to the detector of addresses.
        pattern=rf"{_LOCAL_PART}+@(?:[\p{{L}}\p{{N}}-]+\.)+\p{{L}}[\p{{L}}\p{{N}}-]+",
        hint="@",
    ),
    Detector.CARD: Finder(
        pattern=r"[0-9](?:[ .-]?[0-9]){12,}",
        hint=r"[0-9](?:[ .-]?[0-9]){12}",
        judge=cards,
        in_numbers=True,
    ),
    Detector.IPV4: Finder(pattern=rf"(?:{_OCTET}\.){{3}}{_OCTET}", hint=r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"),
    Detector.IPV6: Finder(
        pattern=r"[0-9A-Za-z_.]*(?::[0-9A-Za-z_.]*){2,}",
        hint=r"::|:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:",
        judge=ipv6_addresses,
    ),
    Detector.PHONE: Finder(
        pattern=r"\+[0-9](?:[ ().\-/]{0,2}[0-9]){6,14}|\(?[0-9]{3}\)?[ .-]{1,2}[0-9]{3}[ .-][0-9]{4}",
        hint=r"\+[0-9]|[0-9]{3}[ .-][0-9]{4}",
        judge=phones,
    ),
    Detector.IBAN: Finder(
        pattern=rf"(?i:{_IBAN_COUNTRY})[0-9]{{2}}(?:[ -]?[A-Za-z0-9]){{11,}}",
        hint=rf"(?i:{_IBAN_COUNTRY})[0-9]{{2}}[ -]?[A-Za-z0-9]",
        judge=ibans,
    ),
    Detector.JWT: Finder(pattern=r"eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]+){1,4}", hint="eyJ"),
    Detector.BEARER: Finder(pattern=r"(?i:bearer)[ \t]+[A-Za-z0-9._~+/-]{6,}=*", hint="(?i:bearer)[ \t]"),
}
