"""Ports that wrap ports: capture, trace, faults."""
