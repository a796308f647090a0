"""Why a datagram, or a part of one, was refused: the names that counters and drops have."""

OK: int = 0

(
    SHORT, VERSION, LENGTH, COUNT, SET_LENGTH, TEMPLATE, TEMPLATE_LARGE, WITHDRAWAL, NO_TEMPLATE, RECORD, IMPLAUSIBLE,
    STRANGER, SAMPLE, SAMPLED_HEADER, UNKNOWN_PROTOCOL, METRIC, METRIC_VALUE, METRIC_LIMIT, METRIC_KIND,
) = range(1, 20)  # fmt: skip

REASONS: tuple[str, ...] = (
    "short",  # the datagram ends before its header does
    "version",  # a protocol or version that is not known here
    "length",  # the message's own length is not that of the datagram
    "count",  # more records are announced than there is room for, or none
    "set-length",  # a set that is shorter than its header or ends beyond the message
    "template",  # a template that is cut off, or whose records would have no bytes
    "template-large",  # a template with more known or variable fields than are kept
    "withdrawal",  # a template withdrawal, which UDP does not have
    "no-template",  # records whose template was not seen, or not for too long
    "record",  # a record whose variable fields end beyond its set
    "implausible",  # a flow of more bytes or packets than any link carries
    "stranger",  # an exporter that is not on the list
    "sample",  # a sample or a record in one that ends beyond what holds it
    "sampled-header",  # a sampled packet whose headers make no sense
    "sampled-protocol",  # a sampled packet that is no Ethernet and no IP
    "metric",  # a line that is no metric
    "metric-value",  # a value or sample rate that is no number, or beyond what is counted
    "metric-limit",  # a new metric when as many as may be are there
    "metric-kind",  # a type that is not known, or another than the metric had before
)
"""In the order of the numbers above; number 1 is the first."""

DROPS: tuple[str, ...] = REASONS
"""What a handler declares as its drops."""

__all__ = ["DROPS", "OK", "REASONS"]
