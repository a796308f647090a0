"""DNS messages, RFC 1035 section 4.1.

::

     0       2       4       6       8       10      12
    +-------+-------+-------+-------+-------+-------+----------------------+-----+-----+
    |  id   | flags |questns| answrs| authty| addtnl| name                 |type |class|  then records
    +-------+-------+-------+-------+-------+-------+----------------------+-----+-----+

    flags    QR opcode(4) AA TC RD | RA Z AD CD rcode(4)
    record   name, type(2), class(2), TTL(4), length(2), data
    name     labels of a length byte and 1 to 63 bytes, ended by a 0; or, where names are compressed, by two bytes
             11xxxxxx xxxxxxxx: the rest stands at that offset of the message

EDNS0 (RFC 6891) is a record in the additional section, 11 bytes if it has no options::

    0  root    1  type 41    3  size the sender takes    5  extended rcode    6  version    7  DO, zeros    9  length
"""

from wirespeed.jit import be16, bits
from wirespeed.wire.header import Header

DNS_PORT: int = 53

QUESTION: int = 12
"""Offset of the question's name."""
NAME_MAX: int = 255
"""Bytes of a name with its last 0, RFC 1035 section 2.3.4."""
LABEL_MAX: int = 63
OPT_BYTES: int = 11
"""Of an OPT record without options."""
PLAIN_MAX: int = 512
"""Bytes of a message to who sends no OPT record, RFC 1035 section 2.3.4."""

TYPE_A, TYPE_NS, TYPE_CNAME, TYPE_SOA, TYPE_PTR, TYPE_MX, TYPE_TXT = 1, 2, 5, 6, 12, 15, 16
TYPE_AAAA, TYPE_SRV, TYPE_DNAME, TYPE_OPT, TYPE_DS, TYPE_RRSIG, TYPE_DNSKEY = 28, 33, 39, 41, 43, 46, 48
TYPE_IXFR, TYPE_AXFR, TYPE_ANY = 251, 252, 255
CLASS_IN: int = 1

RCODE_OK, RCODE_FORMAT, RCODE_FAILURE, RCODE_NO_NAME, RCODE_NOT_IMPLEMENTED, RCODE_REFUSED = 0, 1, 2, 3, 4, 5
RCODE_BAD_VERSION: int = 16
"""RFC 6891 section 9."""


class DnsHeader(Header):
    """DNS message header, RFC 1035 section 4.1.1."""

    id = be16(0)
    qr = bits(16, 1)
    opcode = bits(17, 4)
    aa = bits(21, 1)
    tc = bits(22, 1)
    rd = bits(23, 1)
    ra = bits(24, 1)
    rcode = bits(28, 4)
    flags = be16(2)
    questions = be16(4)
    answers = be16(6)
    authorities = be16(8)
    additionals = be16(10)
    SIZE = 12


__all__ = [
    "CLASS_IN", "DNS_PORT", "LABEL_MAX", "NAME_MAX", "OPT_BYTES", "PLAIN_MAX", "QUESTION", "RCODE_BAD_VERSION",
    "RCODE_FAILURE", "RCODE_FORMAT", "RCODE_NOT_IMPLEMENTED", "RCODE_NO_NAME", "RCODE_OK", "RCODE_REFUSED", "TYPE_A",
    "TYPE_AAAA", "TYPE_ANY", "TYPE_AXFR", "TYPE_CNAME", "TYPE_DNAME", "TYPE_DNSKEY", "TYPE_DS", "TYPE_IXFR", "TYPE_MX",
    "TYPE_NS", "TYPE_OPT", "TYPE_PTR", "TYPE_RRSIG", "TYPE_SOA", "TYPE_SRV", "TYPE_TXT", "DnsHeader",
]  # fmt: skip
