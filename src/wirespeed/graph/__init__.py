"""graph: how nodes become one loop.

``node.py`` declares, ``graph.py`` joins and checks, ``source.py`` and ``capture.py`` read what a node's Python
says, ``plan.py`` decides what is fused, ``emit.py`` and its two parts write the loop as a Python module, which is
a ``draft.py`` until then, ``build.py`` has it compiled, ``trace.py`` runs one node on one packet without any of that.
"""
