"""ports: where packets come in and go out, one driver a file.

``port.py`` is what control code sees of a driver, ``queue.py`` what a worker sees, ``options.py`` how its
text is read.
"""
