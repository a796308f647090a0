"""virtio_user: the driver of a network card that another data plane plays; and the layouts all virtio shares."""
