"""Only what is public may be called on behalf of clients, however an address is written."""

import ipaddress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.pipeline.addresses import OutboundRules, read_networks, why_refused

RULES = OutboundRules()


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
        *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1"),
        *("192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1"),
        *("240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808"),
        *("64:ff9b:1::1", "100::1", "2001::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1"),
        *("3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1"),
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert why_refused(ip_address(address), RULES)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.0.1.1"]
)
def test_public_addresses_are_called(address: str) -> None:
    assert why_refused(ip_address(address), RULES) is None


@pytest.mark.parametrize("address", ["2001:4860:4860::8888", "2606:4700::1111", "2a00:1450:4001::1", "2620:fe::fe"])
def test_public_addresses_of_the_newer_kind_are_called(address: str) -> None:
    assert why_refused(ip_address(address), RULES) is None


@given(number=st.integers(min_value=0, max_value=2**32 - 1))
def test_what_python_knows_as_not_global_is_refused(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert why_refused(address, RULES)


@given(number=st.integers(min_value=0, max_value=2**128 - 1))
def test_no_address_that_carries_another_one_is_called(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    carried = address.ipv4_mapped or address.sixtofour or address.teredo
    if not address.is_global or address.is_multicast or carried:
        assert why_refused(address, RULES)


@given(number=st.integers(min_value=0, max_value=2**32 - 1), prefix=st.sampled_from(["::ffff:", "64:ff9b::", "::"]))
def test_an_ipv4_address_is_not_reached_through_an_ipv6_one(number: int, prefix: str) -> None:
    assert why_refused(ip_address(f"{prefix}{ipaddress.IPv4Address(number)}"), RULES)


def test_networks_that_are_allowed_are_reached_and_their_neighbours_are_not() -> None:
    rules = OutboundRules(networks=read_networks("10.1.0.0/16,fd00::/8"))
    assert why_refused(ip_address("10.1.2.3"), rules) is None
    assert why_refused(ip_address("fd00::1"), rules) is None
    assert why_refused(ip_address("10.2.0.1"), rules)
    assert why_refused(ip_address("::ffff:10.1.2.3"), rules)


@pytest.mark.parametrize("text", ["10.1.0.1/16", "localhost", "10.1.0.0/33"])
def test_what_is_no_network_is_said_at_start(text: str) -> None:
    with pytest.raises(ValueError, match=text.split("/", maxsplit=1)[0]):
        read_networks(text)
