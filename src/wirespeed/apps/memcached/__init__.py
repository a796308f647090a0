"""memcached: a key-value server that speaks memcached's text protocol over UDP.

From the datagram inwards::

    service      the handler on a port of a host
    serve        one request to one answer: the common get here, all else to
    commands     the commands; storing, counting and the like in updates
    parse        words and numbers of a line
    items        memory: pages, classes of chunks, eviction
    find         a key's hash, its bucket, its item
    layout       what lies where
    server       the Python side: makes the memory, reads the counters
"""
