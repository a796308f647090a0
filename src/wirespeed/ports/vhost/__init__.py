"""vhost_user: the network card of a virtual machine. Messages and channel are the front end's, too."""
