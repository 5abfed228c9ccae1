"""Which addresses may be called on behalf of clients: those that are plainly public, and what the settings allow.

How a call is made is not known here (`outbound.py`).
"""

import ipaddress
from dataclasses import dataclass
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# A receiver that needs longer has to take the event first and to work on it then.
SECONDS_MAX = 10.0

# IANA's registries of special-purpose addresses, without those that are globally reachable.
_SPECIAL = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by carriers",
    "127.0.0.0/8": "loopback",
    # Not in the registries: from inside Azure it is the host's agent.
    "168.63.129.16/32": "a cloud's own",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "for documentation",
    "192.88.99.0/24": "reserved",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "for benchmarks",
    "198.51.100.0/24": "for documentation",
    "203.0.113.0/24": "for documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
    "::/128": "unspecified",
    "::1/128": "loopback",
    "::ffff:0:0/96": "a mapped IPv4 address",
    "64:ff9b::/96": "a translated IPv4 address",
    "64:ff9b:1::/48": "a translated IPv4 address",
    "2001::/23": "reserved",
    "2001:db8::/32": "for documentation",
    "2002::/16": "a tunnelled IPv4 address",
    "3fff::/20": "for documentation",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "fec0::/10": "private",
    "ff00::/8": "multicast",
}
_REFUSED = tuple((ipaddress.ip_network(network), what) for network, what in _SPECIAL.items())
# All that was ever given out for use between networks; what lies outside is no business of a client's.
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundRules:
    """Where calls may go, and how stubbornly. `networks` may be reached although they are not public."""

    networks: tuple[Network, ...] = ()
    http_allowed: bool = False
    seconds_max: float = SECONDS_MAX
    # Fifteen attempts with these pauses are half a day on average, and a day at most.
    attempts_max: int = 15
    pause_seconds: float = 5.0
    pause_seconds_max: float = 6 * 3600.0


def read_networks(text: str) -> tuple[Network, ...]:
    """Read networks with commas between them. Raises ValueError with what is wrong.

    >>> [str(network) for network in read_networks("10.1.0.0/16, ::1")]
    ['10.1.0.0/16', '::1/128']
    """
    return tuple(ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip())


def why_refused(address: Address, rules: OutboundRules) -> str | None:
    """Tell why an address is not called; None if it may be.

    >>> why_refused(ipaddress.ip_address("169.254.169.254"), OutboundRules())
    'link-local'
    """
    if any(address in network for network in rules.networks if network.version == address.version):
        return None
    for network, what in _REFUSED:
        if network.version == address.version and address in network:
            return what
    return "reserved" if address.version == _GLOBAL_IPV6.version and address not in _GLOBAL_IPV6 else None
