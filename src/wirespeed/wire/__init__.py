"""wire: protocols, one a file. Headers are declared views; ``parse`` finds them, ``Packet`` names them."""
