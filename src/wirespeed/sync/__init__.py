"""sync: what workers share. Rings hand packets over, grace periods hand memory back.

Nothing here maps memory: a ring or a slot is laid out where its owner says.
"""
