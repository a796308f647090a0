"""TCP, RFC 9293.

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------------------------------+-------------------------------+
    |          source port          |       destination port        |
    +-------------------------------+-------------------------------+
    |                        sequence number                        |
    +---------------------------------------------------------------+
    |                    acknowledgment number                      |
    +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
    | offset| resv. |C|E|U|A|P|R|S|F|            window             |
    +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
    |           checksum            |        urgent pointer         |
    +-------------------------------+-------------------------------+
"""
# mypy: no-warn-return-any

from wirespeed.jit import be16, be32, bits, u8
from wirespeed.wire.header import Found, Header

TCP_FIN = 0x01
TCP_SYN = 0x02
TCP_RST = 0x04
TCP_PSH = 0x08
TCP_ACK = 0x10
TCP_URG = 0x20
TCP_ECE = 0x40
TCP_CWR = 0x80

TCP_OPTION_END = 0
TCP_OPTION_NOP = 1
TCP_OPTION_MSS = 2
TCP_OPTION_WINDOW_SCALE = 3
TCP_OPTION_SACK_PERMITTED = 4
TCP_OPTION_SACK = 5
TCP_OPTION_TIMESTAMP = 8


class Tcp(Header):
    """TCP header, RFC 9293 section 3.1."""

    sport = be16(0, "source port")
    dport = be16(2, "destination port")
    seq = be32(4, "sequence number")
    ack = be32(8, "acknowledgment number")
    data_offset = bits(96, 4, "header length in 32-bit words")
    flags = u8(13, "TCP_* bits, CWR to FIN")
    cwr = bits(104, 1)
    ece = bits(105, 1)
    urg = bits(106, 1)
    ack_flag = bits(107, 1)
    psh = bits(108, 1)
    rst = bits(109, 1)
    syn = bits(110, 1)
    fin = bits(111, 1)
    window = be16(14)
    checksum = be16(16)
    urgent = be16(18, "urgent pointer")
    SIZE = 20
    FOUND = Found("tcp")

    @property
    def header_bytes(self) -> int:
        """Bytes of the header with its options: data offset * 4."""
        return self.data_offset * 4

    @property
    def options_bytes(self) -> int:
        """Bytes of options, 0 to 40."""
        return self.data_offset * 4 - 20

    @property
    def options(self) -> int:
        """Address of the first option."""
        return self.address + 20
