"""dns: an authoritative name server whose answers lie ready in memory as they go over the wire.

::

    zone.py     a zone file (dnspython) as names and their records
    render.py   names and records as nodes and answers in wire form
    store.py    nodes in shared memory, found by an open-addressing hash table
    find.py     names compiled: walk, hash, compare, look up
    answer.py   all answers but the common one: chains, wildcards, referrals, negative ones, what does not fit
    serve.py    from a request to its reply
    limit.py    response-rate limiting
    server.py   the server's state: zones loaded, exchanged and counted while workers answer
    service.py  the server on UDP port 53 of a host
"""
