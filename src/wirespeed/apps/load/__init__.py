"""load: requests that leave by schedule, whatever comes back, and how long after its time each was answered.

::

    requests.py ──▶ frames ──▶ Load (a port: path.py) ──▶ port ──▶ the server
                                  │ number n is due at start + n * cycles between two
                                  ▼
    result ◀── histogram ◀── answers (a node: answers.py) ◀── port

An open loop: a server that stands still for a second is asked on, and each of those requests counts from when it was
due. A tester that waits for answers, or counts from when it got round to sending, leaves out just the requests that
would have taken long ("coordinated omission": Tene, "How NOT to Measure Latency", 2013).

Nothing is remembered of a request but, once it is answered, a tag. Its number is in the answer (in the first eight
bytes of a datagram, or as the 16 bits by which DNS and memcached know a request, and the port it came to), and its
number says when it was due.
"""
